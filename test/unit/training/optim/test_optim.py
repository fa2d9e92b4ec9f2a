import math

import pytest
import torch

from open_clip.errors import ConfigError
from training.device import select_device
from training.optim import (
    Length,
    build_optimizer,
    build_schedule,
    count_warmup,
    load_optimizer_state,
    make_length,
    parameter_groups,
)
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
    lr = build_schedule(ScheduleParams(warmup=10), 1.0, Length(50, 2))
    assert lr(0) == pytest.approx(0.1)
    assert lr(9) == pytest.approx(1.0)
    assert lr(10) == pytest.approx(1.0)
    assert lr(55) == pytest.approx(0.5)
    assert lr(100) == pytest.approx(0.0)


def test_cosine_ends_at_its_floor_and_stays_there():
    lr = build_schedule(ScheduleParams(warmup=10, min_lr=0.2), 1.0, Length(50, 2))
    assert lr(0) == pytest.approx(0.1)
    assert lr(55) == pytest.approx(0.6)
    assert lr(100) == lr(145) == lr(190) == pytest.approx(0.2)


def test_a_share_of_warmup_is_of_all_steps_and_the_longer_of_both_counts():
    length = Length(50, 2, max_steps=70)
    assert build_schedule(ScheduleParams(lr_warmup_share=0.1), 1.0, length)(6) == pytest.approx(1.0)
    assert build_schedule(ScheduleParams(lr_warmup_share=0.1), 1.0, length)(5) == pytest.approx(6 / 7)
    assert build_schedule(ScheduleParams(lr_warmup_share=0.1, warmup=20), 1.0, length)(9) == pytest.approx(0.5)
    # NXTP: a share of 0.002 and at least 2000 steps.
    assert count_warmup(ScheduleParams(lr_warmup_share=0.002, warmup=2000), 21_360) == 2000
    assert count_warmup(ScheduleParams(lr_warmup_share=0.07), 100) == 7


def test_the_schedule_of_a_run_of_steps_ends_with_them():
    lr = build_schedule(ScheduleParams(warmup=0), 1.0, make_length(ScheduleParams(max_steps=70), 99, 2))
    assert lr(35) == pytest.approx(0.5)
    assert lr(70) == pytest.approx(0.0)


def test_epochs_follow_from_steps_and_steps_from_epochs():
    assert make_length(ScheduleParams(epochs=3), 7, 2) == Length(4, 3)
    assert Length(4, 3).steps == 12
    assert make_length(ScheduleParams(max_steps=9), 7, 2) == Length(4, 3, 9)
    assert [Length(4, 3, 9).is_reached(2, step) for step in (8, 9, 10)] == [False, True, True]
    # Counted by epochs, whatever the steps: a run that goes on with other data has other steps.
    assert [Length(4, 3).is_reached(epoch, 99) for epoch in (2, 3)] == [False, True]


def test_cooldown_holds_then_falls_by_its_power():
    params = ScheduleParams(
        warmup=0, lr_scheduler="const-cooldown", epochs_cooldown=1, lr_cooldown_end=0.1, lr_cooldown_power=2.0
    )
    lr = build_schedule(params, 1.0, Length(10, 4))
    assert lr(0) == lr(29) == 1.0
    assert lr(35) == pytest.approx(0.1 + 0.9 * 0.25)
    assert lr(40) == pytest.approx(0.1)


def test_skip_scheduler_and_const():
    assert build_schedule(ScheduleParams(skip_scheduler=True, warmup=9), 0.3, Length(10, 1))(0) == 0.3
    assert build_schedule(ScheduleParams(lr_scheduler="const", warmup=2), 0.3, Length(10, 1))(10_000) == 0.3


def test_upstreams_names_set_and_return_the_rate():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=9.0)
    assert cosine_lr(optimizer, 1.0, 0, 10)(5) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.5)))
    assert const_lr(optimizer, 1.0, 4, 10)(1) == 0.5
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert const_lr_cooldown(optimizer, 1.0, 0, 10, 5)(5) == 1.0
