import copy

import pytest
import torch

from open_clip.errors import CheckpointError, ConfigError
from tiny_models import tiny_clip
from training.device import make_mixed_precision, resolve_precision, select_device
from training.optim import (
    WeightAverage,
    build_optimizer,
    fit_optimizer_state,
    load_optimizer_state,
    train_only_rows,
)
from training.optim.rows import hold_other_rows
from training.params import OptimParams

CPU = select_device("cpu")
ROWS, OTHERS = [1, 4, 5], [0, 2, 3, 6, 7]
SETTINGS = {"lr": 1e-2, "beta1": 0.9, "beta2": 0.98, "eps": 1e-6, "wd": 0.2}


def make_table():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Embedding(8, 4))


def make_run(rows=ROWS, **settings):
    model = make_table()
    if rows is not None:
        train_only_rows(model, "0.weight", rows)
    return model, build_optimizer(model, OptimParams(**{**SETTINGS, **settings}), CPU)


def take_step(model, optimizer, seed, passes=2, clip=None):
    """Step on rows that learn each for itself: what is frozen changes nothing of what is trained."""
    optimizer.zero_grad()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(passes):
        (model(torch.arange(8)) - torch.randn(8, 4, generator=generator)).square().sum().backward()
    norm = None if clip is None else torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return norm


WAYS = {
    "fused": {},
    "foreach": {"opt_kwargs": {"fused": False, "foreach": True}},
    "plain": {"opt_kwargs": {"fused": False, "foreach": False}},
    "amsgrad": {"opt_kwargs": {"amsgrad": True}},
    "no epsilon": {"eps": 0.0},
}


@pytest.mark.parametrize("way", WAYS)
def test_other_rows_keep_their_bits_and_trained_rows_learn_as_ever(way):
    partial, whole = make_run(**WAYS[way]), make_run(None, **WAYS[way])
    for seed in range(3):
        take_step(*partial, seed)
        take_step(*whole, seed)
    table, start = partial[0][0].weight, make_table()[0].weight
    assert torch.equal(table[OTHERS], start[OTHERS])
    assert torch.equal(table[ROWS], whole[0][0].weight[ROWS])
    assert not torch.equal(whole[0][0].weight[OTHERS], start[OTHERS])
    assert not table.grad[OTHERS].any()
    state = partial[1].state[table]
    assert not any(value[OTHERS].any() for name, value in state.items() if name != "step")


def test_frozen_rows_count_in_no_norm_and_their_broken_gradients_harm_nothing():
    model, optimizer = make_run()
    norm = take_step(model, optimizer, 0, clip=1.0)
    # Clipped to 1, by the trained rows alone.
    assert norm > 1
    torch.testing.assert_close(model[0].weight.grad[ROWS].norm(), torch.tensor(1.0))
    before = model[0].weight.detach().clone()
    optimizer.zero_grad()
    weights = torch.ones(8, 1)
    weights[0] = float("nan")
    (model(torch.arange(8)) * weights).sum().backward()
    optimizer.step()
    assert torch.equal(model[0].weight[OTHERS], before[OTHERS])
    assert model[0].weight.isfinite().all()


def test_a_resumed_run_goes_on_alike_and_moments_of_an_earlier_stage_move_nothing():
    model, optimizer = make_run()
    take_step(model, optimizer, 0)
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    assert list(weights) == ["0.weight"]
    take_step(model, optimizer, 1)
    again, resumed = make_run()
    again.load_state_dict(weights)
    load_optimizer_state(resumed, fit_optimizer_state(resumed, state))
    take_step(again, resumed, 1)
    assert torch.equal(again[0].weight, model[0].weight)
    # The stage before trained all rows.
    whole, earlier = make_run(None)
    take_step(whole, earlier, 0)
    later, optimizer = make_run()
    later.load_state_dict(whole.state_dict())
    load_optimizer_state(optimizer, fit_optimizer_state(optimizer, copy.deepcopy(earlier.state_dict())))
    assert optimizer.state[later[0].weight]["exp_avg"][OTHERS].any()
    take_step(later, optimizer, 1)
    assert torch.equal(later[0].weight[OTHERS], whole[0].weight[OTHERS])
    assert not torch.equal(later[0].weight[ROWS], whole[0].weight[ROWS])


def test_a_saved_state_of_another_optimizer_is_compared_as_ever():
    model = make_table()
    train_only_rows(model, "0.weight", ROWS)
    optimizer = torch.optim.SGD([{"params": []}, {"params": model.parameters()}], lr=0.1, momentum=0.9)
    hold_other_rows(optimizer, model)
    take_step(model, optimizer, 0)
    state = copy.deepcopy(optimizer.state_dict())
    fit_optimizer_state(optimizer, copy.deepcopy(state))
    state["state"][0]["momentum_buffer"] = torch.zeros(3, 3)
    with pytest.raises(CheckpointError, match=r"momentum_buffer is \(3, 3\)"):
        fit_optimizer_state(optimizer, state)


@pytest.mark.parametrize("skip", [False, True])
def test_a_loss_scale_and_skipped_steps_leave_other_rows_alone(skip):
    model, optimizer = make_run()
    mixed = make_mixed_precision(resolve_precision("fp32", CPU), CPU, torch.device("cpu"))
    start = model[0].weight.detach().clone()
    model(torch.arange(8)).square().sum().backward()
    mixed.step(optimizer, skip)
    assert torch.equal(model[0].weight[OTHERS], start[OTHERS])
    assert torch.equal(model[0].weight[ROWS], start[ROWS]) == skip


def test_an_average_of_the_weights_keeps_them_too():
    model, optimizer = make_run()
    average = WeightAverage(model, 0.9)
    for seed in range(3):
        take_step(model, optimizer, seed)
        average.update()
    assert torch.equal(average.state_dict()["0.weight"][OTHERS], make_table()[0].weight[OTHERS])


def test_a_locked_tower_may_learn_rows_of_its_table():
    model = tiny_clip(custom_text=True)
    model.lock_text_tower()
    train_only_rows(model, "text.token_embedding.weight", [5])
    optimizer = build_optimizer(model, OptimParams(**SETTINGS), CPU)
    before = copy.deepcopy(model.state_dict())
    texts = torch.tensor([[5, 9, 599] + [0] * 13])
    model(torch.randn(1, 3, 32, 32), texts)[1].square()[0, :3].sum().backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in changed if name.startswith("text.")} == {"text.token_embedding.weight"}
    table, start = model.text.token_embedding.weight, before["text.token_embedding.weight"]
    assert [row for row in range(600) if not torch.equal(table[row], start[row])] == [5]


@pytest.mark.parametrize(
    "name,rows,message",
    [
        ("0.weightt", [1], r"no parameter of this name\. Did you mean 0\.weight"),
        ("0.weight", [1, 8], "rows 0 to 7 and row 8 is not one of them"),
        ("0.weight", [-1], "row -1"),
        ("0.weight", [], "none is to be trained"),
    ],
)
def test_what_is_not_there_is_refused(name, rows, message):
    with pytest.raises(ConfigError, match=message):
        train_only_rows(make_table(), name, rows)
