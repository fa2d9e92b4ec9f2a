"""The whole fine-tuning job on the simulated npu, on one process and on two, against the same job on the CPU."""

import json

import pytest
import torch

from npu_session import simulator_env
from pairs import make_pairs, micro_flags
from runs import assert_same_state, load_payload, run_trainer, train_losses

pytestmark = pytest.mark.npu


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return make_pairs(folder, 20, 2, name="train.csv"), make_pairs(folder, 6, 2, seed=1, name="val.csv")


@pytest.fixture(scope="module")
def on_cpu(data, tmp_path_factory):
    logs = tmp_path_factory.mktemp("cpu")
    status, output = run_trainer(micro_flags(*data, logs_dir=logs, name="run"))
    assert status == 0, output
    return logs / "run"


def run_on_npu(data, logs, processes=1, env=(), resume=None, is_launched=False, **flags):
    words = micro_flags(*data, logs_dir=logs, name="run", **{"device": "npu", **flags})
    if resume:
        words += ["--resume", str(resume)]
    environ = simulator_env(devices=2, **dict(env))
    status, output = run_trainer(words, processes, is_launched=is_launched, **environ)
    assert status == 0, output
    return logs / "run", output


@pytest.mark.parametrize("processes,batch_size", [(1, 8), (2, 4)])
def test_the_npu_gives_the_losses_of_the_cpu(data, on_cpu, tmp_path, processes, batch_size):
    # A result of hccl that is used before anything waited for it is an error, as it is a wrong number on a card.
    env = {"NPUSIM_RACES": "error"}
    chosen = {"batch_size": batch_size, "workers": 1, "grad_clip_norm": 100.0}
    run, _ = run_on_npu(data, tmp_path, processes, env, is_launched=True, **chosen)
    assert train_losses(run) == pytest.approx(train_losses(on_cpu), rel=1e-5)
    summary = json.loads((run / "summary.json").read_text())
    assert "Ascend" in summary["device"]
    expected = json.loads((on_cpu / "summary.json").read_text())["metrics"]
    assert summary["metrics"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("processes,batch_size", [(1, 8), (2, 4)])
def test_fp16_autocast_trains_with_the_devices_scaler_and_saves_its_state(data, tmp_path, processes, batch_size):
    run, _ = run_on_npu(data, tmp_path, processes, batch_size=batch_size, precision="amp", epochs=4, grad_clip_norm=1.0)
    losses = list(train_losses(run).values())
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    scaler = load_payload(run / "checkpoints" / "epoch_4.pt")["scaler"]
    assert scaler["scale"] > 0
    assert "dynamic" not in scaler


def test_bf16_autocast_follows_fp32(data, on_cpu, tmp_path):
    run, _ = run_on_npu(data, tmp_path, precision="amp_bf16")
    assert train_losses(run) == pytest.approx(train_losses(on_cpu), rel=0.05)


def test_a_chip_without_bf16_refuses_it_and_says_what_to_use(data, tmp_path):
    words = micro_flags(*data, logs_dir=tmp_path, name="run", device="npu", precision="amp_bf16")
    status, output = run_trainer(words, **simulator_env(devices=1, NPUSIM_BF16="0"))
    assert status == 6
    assert "--precision amp" in output


def test_a_checkpoint_goes_from_npu_to_cpu_and_back(data, on_cpu, tmp_path):
    run, _ = run_on_npu(data, tmp_path / "a", epochs=2, save_every_n_steps=3)
    first = run / "checkpoints" / "epoch_1.pt"
    assert all(value.device.type == "cpu" for value in torch.load(first, weights_only=True)["state_dict"].values())
    words = micro_flags(*data, logs_dir=tmp_path / "b", name="run", epochs=2)
    status, output = run_trainer([*words, "--resume", str(first)])
    assert status == 0, output
    second = tmp_path / "b" / "run"
    expected = {step: loss for step, loss in train_losses(on_cpu).items() if step > 5}
    assert train_losses(second) == pytest.approx(expected, rel=1e-5)
    back, _ = run_on_npu(data, tmp_path / "c", epochs=3, resume=second / "checkpoints" / "epoch_2.pt")
    assert sorted(train_losses(back)) == [11, 12, 13, 14, 15]


def test_a_resumed_npu_run_ends_with_the_weights_of_the_uninterrupted_one(data, tmp_path):
    whole, _ = run_on_npu(data, tmp_path / "whole", precision="amp", force_patch_dropout=0.3)
    run_on_npu(data, tmp_path / "cut", precision="amp", force_patch_dropout=0.3, save_every_n_steps=2)
    cut = tmp_path / "cut" / "run" / "checkpoints"
    resumed, _ = run_on_npu(data, tmp_path / "on", precision="amp", force_patch_dropout=0.3, resume=cut / "epoch_1.pt")
    ours, theirs = (load_payload(run / "checkpoints" / "epoch_2.pt") for run in (resumed, whole))
    for key in ("state_dict", "optimizer", "scaler"):
        assert_same_state(ours[key], theirs[key])


def test_more_processes_than_devices_are_refused_with_both_numbers(data, tmp_path):
    words = micro_flags(*data, logs_dir=tmp_path, name="run", device="npu", batch_size=4)
    status, output = run_trainer(words, 2, OPEN_CLIP_STATUS_FILE=str(tmp_path / "status"), **simulator_env(devices=1))
    assert status != 0
    assert (tmp_path / "status").read_text() == "6\n"
    assert "2 processes were started on this machine and 1 npu device(s) are visible" in output


def test_apex_levels_train_with_a_fixed_scale(data, tmp_path):
    stand_in = simulator_env(devices=1)
    from npu_session import SIMULATOR

    path = f"{SIMULATOR.with_name('apex_stand_in')}:{stand_in['PYTHONPATH']}"
    words = micro_flags(*data, logs_dir=tmp_path, name="run", device="npu", precision="npu_amp", loss_scale=128)
    status, output = run_trainer(words, **{**stand_in, "PYTHONPATH": path})
    assert status == 0, output
    losses = list(train_losses(tmp_path / "run").values())
    assert len(losses) == 10
    assert losses[-1] < losses[0]
