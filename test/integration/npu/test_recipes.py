"""Recipes on the simulated npu, on one process and on two, against the CPU."""

import pytest
import torch

from draw_ranks import activate, draw_on_rank
from draws import Draws, join_draws, make_random
from npu_session import simulator_env
from pairs import make_pairs, micro_flags
from ranks import on_ranks
from recipes import losses_and_gradients, make_batch, make_task
from runs import load_payload, run_trainer, train_losses
from training.main import main

pytestmark = pytest.mark.npu
FLAGS = {"siglip": True, "ema_decay": 0.9, "image_layer_decay": 0.7}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return make_pairs(folder, 20, 2, name="train.csv"), make_pairs(folder, 6, 2, seed=1, name="val.csv")


@pytest.mark.parametrize("processes,cut", [(1, {}), (2, {"batch_size": 2, "accum_freq": 2})])
def test_siglip_with_an_average_gives_the_losses_of_the_cpu(data, tmp_path, processes, cut):
    assert main(micro_flags(*data, logs_dir=tmp_path, name="cpu", **FLAGS)) == 0
    words = micro_flags(*data, logs_dir=tmp_path, name="npu", **{**FLAGS, "device": "npu", **cut})
    status, output = run_trainer(words, processes, **simulator_env(devices=2))
    assert status == 0, output
    assert train_losses(tmp_path / "npu") == pytest.approx(train_losses(tmp_path / "cpu"), rel=1e-5)
    ours, theirs = (load_payload(tmp_path / name / "checkpoints" / "epoch_2.pt") for name in ("npu", "cpu"))
    assert ours["ema_updates"] == theirs["ema_updates"] == 10
    for name, value in theirs["state_dict_ema"].items():
        # AdamW turns a rounding difference in a near-zero gradient into one of up to a step of lr 1e-3.
        assert (ours["state_dict_ema"][name] - value).abs().max() < 2e-3, name


@pytest.mark.parametrize("processes", [1, 2])
def test_random_models_equal_one_large_batch_of_the_same_draws_on_the_cpu(tmp_path, processes):
    names, rows = ("clip", "coca"), 8
    env = simulator_env(devices=2, OPENCLIP_TEST_DEVICE="npu")
    meeting = {"backend": "cpu:gloo,npu:hccl", "begin": activate, "environ": env}
    ranks = on_ranks(draw_on_rank, processes, tmp_path, rows, names, **meeting)
    for name in names:
        answers, cached, drawn = zip(*(one[name] for one in ranks), strict=True)
        for before, after in zip(sum(cached, []), sum(drawn, []), strict=True):
            assert all(torch.equal(one, other) for one, other in zip(before, after, strict=False))
        task = make_task(name)
        make_random(task.model)
        with Draws(join_draws([drawn[rank][part] for part in range(2) for rank in range(processes)])):
            _, gradients = losses_and_gradients(task, [make_batch(rows, name)])
        for parameter, gradient in gradients.items():
            # fp32 against float64: 1e-5 of each tensor's largest entry.
            tolerance = 1e-5 * gradient.abs().max().item() + 1e-9
            assert (answers[0][1][parameter].double() - gradient).abs().max().item() <= tolerance, parameter
