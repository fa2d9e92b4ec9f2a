"""apex precisions in real runs: two processes, steps of several batches, resuming, weights that come from elsewhere."""

import json

import pytest
import torch

from apex_ranks import step_of_rank
from apex_sources import KINDS, apex_folder
from pairs import make_pairs, micro_flags
from ranks import on_ranks
from runs import assert_same_state, load_payload, run_trainer, train_losses

pytestmark = pytest.mark.slow
STEPS = 20


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return make_pairs(folder, 20, 2, name="train.csv"), make_pairs(folder, 6, 2, seed=1, name="val.csv")


@pytest.fixture(scope="module", params=KINDS)
def apex(request, tmp_path_factory):
    return apex_folder(request.param, tmp_path_factory.mktemp("apex"))


def train(data, folder, apex=None, processes=1, **flags):
    words = micro_flags(*data, logs_dir=folder.parent, name=folder.name, epochs=4, **flags)
    status, output = run_trainer(words, processes, PYTHONPATH="" if apex is None else str(apex))
    assert status == 0, output
    return folder


def last(folder):
    return load_payload(folder / "checkpoints" / "epoch_4.pt")


@pytest.mark.parametrize(
    "precision, more",
    [("npu_amp", {}), ("apex_o1", {}), ("apex_o2", {"loss_scale": "dynamic", "accum_freq": 2, "ema_decay": 0.9})],
)
def test_two_processes_train_save_and_resume_as_if_they_had_not_stopped(precision, more, data, apex, tmp_path):
    flags = {"precision": precision, "batch_size": 4 // more.get("accum_freq", 1), **more}
    whole = train(data, tmp_path / "whole", apex, 2, **flags)
    losses = list(train_losses(whole).values())
    assert len(losses) == STEPS
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    half = whole / "checkpoints" / "epoch_2.pt"
    resumed = train(data, tmp_path / "resumed", apex, 2, resume=half, **flags)
    ours, theirs = last(resumed), last(whole)
    assert bool(ours["scaler"]["masters"]) is (precision != "apex_o1")
    assert not torch.equal(ours["state_dict"]["visual.proj"], load_payload(half)["state_dict"]["visual.proj"])
    for key in ("state_dict", "optimizer", "scaler", *(("state_dict_ema",) if "ema_decay" in more else ())):
        assert_same_state(ours[key], theirs[key])


def test_a_step_of_several_batches_is_the_same_on_two_processes_as_on_one(apex, tmp_path):
    (alone,) = on_ranks(step_of_rank, 1, tmp_path / "one", str(apex))
    first, second = on_ranks(step_of_rank, 2, tmp_path / "two", str(apex))
    for precision, expected in alone.items():
        assert_same_state(first[precision], second[precision])
        for ours, theirs in zip(first[precision], expected, strict=True):
            # fp16 computes the gradients: 1 % of each tensor's largest, and what is lost below fp16's least.
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-2 * float(theirs.abs().max()) + 1e-5)


@pytest.mark.parametrize("resumed_as", ["npu_amp", "fp32"])
def test_a_run_goes_on_in_another_precision(resumed_as, data, apex, tmp_path):
    saved_as = {"npu_amp": "fp32", "fp32": "npu_amp"}[resumed_as]
    half = train(data, tmp_path / "first", apex, precision=saved_as) / "checkpoints" / "epoch_2.pt"
    resumed = train(data, tmp_path / "second", apex, precision=resumed_as, resume=half, lr=1e-9, warmup=0)
    before = load_payload(half)["state_dict"]
    for name, value in last(resumed)["state_dict"].items():
        torch.testing.assert_close(value, before[name], rtol=1e-3, atol=1e-4)


def test_weights_are_evaluated_without_apex(data, tmp_path):
    trained = train(data, tmp_path / "trained", precision="fp32")
    expected = json.loads((trained / "summary.json").read_text())["metrics"]
    weights = trained / "checkpoints" / "epoch_4.pt"
    evaluated = train((None, data[1]), tmp_path / "evaluated", precision="npu_amp", pretrained=weights)
    found = json.loads((evaluated / "summary.json").read_text())["metrics"]
    assert found["clip_val_loss"] == pytest.approx(expected["clip_val_loss"], rel=1e-2)
