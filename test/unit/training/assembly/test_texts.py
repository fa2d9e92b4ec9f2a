import logging

import pytest
import torch

import open_clip
from loop_runs import ALONE
from tiny_models import tiny_coca
from training.assembly import Place
from training.assembly.texts import evaluation_shapes, make_text_planner
from training.device import DEVICES
from training.distributed import World
from training.params import RunParams, parse_args
from training.run_folder import RunFolder

TWO = World(rank=0, local_rank=0, world_size=2, local_world_size=2)


def choose(*flags, kind="cpu", world=ALONE, model=None):
    """Choose the form of a run's texts as far as flags, device and model decide it."""
    words = ["--train-data", "pairs.csv", "--model", "ViT-micro-8-32", *flags]
    params = RunParams.from_namespace(parse_args(words))
    device = DEVICES[kind]()
    place = Place(device, torch.device("cpu"), world, RunFolder("run", None))
    model = open_clip.create_model("ViT-micro-8-32") if model is None else model
    return make_text_planner(params, place, model), evaluation_shapes(params, place)


@pytest.mark.parametrize(
    "kind,flags,world,expected",
    [
        ("cpu", (), ALONE, "packed"),
        ("cuda", (), TWO, "packed"),
        ("npu", (), TWO, "bucketed"),
        ("cuda", ("--torchcompile",), ALONE, "bucketed"),
        ("npu", ("--fsdp",), ALONE, "bucketed"),
        ("npu", ("--fsdp",), TWO, "padded"),
        ("cuda", ("--fsdp",), TWO, "packed"),
        ("cuda", ("--fsdp", "--torchcompile"), TWO, "padded"),
        ("cpu", ("--text-shapes", "bucketed"), TWO, "bucketed"),
        ("npu", ("--text-shapes", "padded"), ALONE, "padded"),
    ],
)
def test_the_form_follows_from_device_and_flags(kind, flags, world, expected, caplog):
    caplog.set_level(logging.INFO)
    planner, _ = choose(*flags, kind=kind, world=world)
    assert planner.shapes == expected
    assert [record.message for record in caplog.records if record.message.startswith(f"text: {expected}")]


def test_a_tower_that_needs_the_padding_is_left_alone_and_that_is_said(caplog):
    caplog.set_level(logging.INFO)
    assert choose("--text-shapes", "packed", model=tiny_coca())[0] is None
    assert "needs all positions; --text-shapes packed has no effect" in caplog.text


def test_evaluation_takes_the_flags_form_or_the_devices():
    assert choose("--torchcompile")[1] == "packed"
    assert choose(kind="npu")[1] == "bucketed"
    assert choose("--text-shapes", "padded")[1] == "padded"
