import math

import pytest
import torch

from open_clip.errors import ConfigError
from training.device import select_device
from training.optim import build_optimizer, build_schedule, load_optimizer_state, parameter_groups
from training.params import OptimParams, ScheduleParams
from training.scheduler import const_lr, const_lr_cooldown, cosine_lr

OPTIM = OptimParams(lr=1e-3, beta1=0.9, beta2=0.98, eps=1e-6, wd=0.2)


def small_model():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
    model.register_parameter("logit_scale", torch.nn.Parameter(torch.tensor(1.0)))
    model.register_parameter("positional_embedding", torch.nn.Parameter(torch.zeros(5, 4)))
    return model


def test_vectors_and_the_logit_scale_are_not_decayed():
    undecayed, decayed = parameter_groups(small_model().named_parameters(), 0.2)
    assert undecayed["weight_decay"] == 0.0
    assert decayed["weight_decay"] == 0.2
    assert sorted(tuple(p.shape) for p in decayed["params"]) == [(3, 4), (5, 4)]
    assert len(undecayed["params"]) == 4


def test_frozen_parameters_are_left_out_and_all_frozen_is_refused():
    model = small_model().requires_grad_(False)
    with pytest.raises(ConfigError, match="both towers are frozen"):
        build_optimizer(model, OPTIM, select_device("cpu"))


def test_loading_a_state_keeps_this_devices_way_to_step():
    model = small_model()
    optimizer = build_optimizer(model, OPTIM, select_device("cpu"))
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group.update(fused=None, foreach=True, lr=0.5)
    load_optimizer_state(optimizer, state)
    assert all(group["fused"] is True and group["foreach"] is not True for group in optimizer.param_groups)
    assert all(group["lr"] == 0.5 for group in optimizer.param_groups)


def test_cosine_rises_over_the_warmup_and_ends_at_zero():
    lr = build_schedule(ScheduleParams(epochs=2, warmup=10), 1.0, steps_per_epoch=50)
    assert lr(0) == pytest.approx(0.1)
    assert lr(9) == pytest.approx(1.0)
    assert lr(10) == pytest.approx(1.0)
    assert lr(55) == pytest.approx(0.5)
    assert lr(100) == pytest.approx(0.0)


def test_cooldown_holds_then_falls_by_its_power():
    params = ScheduleParams(
        epochs=4, warmup=0, lr_scheduler="const-cooldown", epochs_cooldown=1, lr_cooldown_end=0.1, lr_cooldown_power=2.0
    )
    lr = build_schedule(params, 1.0, steps_per_epoch=10)
    assert lr(0) == lr(29) == 1.0
    assert lr(35) == pytest.approx(0.1 + 0.9 * 0.25)
    assert lr(40) == pytest.approx(0.1)


def test_skip_scheduler_and_const():
    assert build_schedule(ScheduleParams(skip_scheduler=True, warmup=9), 0.3, 10)(0) == 0.3
    assert build_schedule(ScheduleParams(lr_scheduler="const", warmup=2), 0.3, 10)(10_000) == 0.3


def test_upstreams_names_set_and_return_the_rate():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=9.0)
    assert cosine_lr(optimizer, 1.0, 0, 10)(5) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.5)))
    assert const_lr(optimizer, 1.0, 4, 10)(1) == 0.5
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert const_lr_cooldown(optimizer, 1.0, 0, 10, 5)(5) == 1.0
