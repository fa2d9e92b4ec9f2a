"""The few shapes of text that an NPU has to compile, in real runs of the trainer on the simulated npu."""

import csv
import json
import re

import pytest

from npu_session import simulator_env
from pairs import micro_flags
from runs import ROOT, run_trainer, train_losses

pytestmark = pytest.mark.npu
EXAMPLES = ROOT / "examples" / "flickr30k-emoji"
COUNTED = (str(ROOT / "test" / "support" / "counted_trainer.py"),)
NUM_IMAGES = 96


def read_examples():
    """Give {image: its captions} of the set that ships here."""
    captions = {}
    for line in (EXAMPLES / "results_20130124.token").read_text(encoding="utf-8").splitlines():
        name, caption = line.split("\t")
        captions.setdefault(name.partition("#")[0], []).append(caption)
    return captions


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pair images with one to all of their captions in a row: 4 to 77 tokens."""
    path = tmp_path_factory.mktemp("data") / "train.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["img_key", "caption_key"])
        for number, (name, captions) in enumerate(list(read_examples().items())[:NUM_IMAGES]):
            image = EXAMPLES / "flickr30k-images" / name
            writer.writerow([image, " ".join(captions[: 1 + number % 5])])
    return path


def run(data, logs, name, processes=1, program=("-m", "training.main"), counts=None, **flags):
    words = micro_flags(data, logs_dir=logs, name=name, force_context_length=77, workers=1, **flags)
    environ = (
        {}
        if flags.get("device") != "npu"
        else simulator_env(devices=2, **({} if "fsdp" in flags else {"NPUSIM_RACES": "error"}))
    )
    status, output = run_trainer(words, processes, program=program, COUNTS_FILE=str(counts), **environ)
    assert status == 0, output
    return logs / name, output


def text_shapes(counts):
    """Give the (rows, tokens) in which the table of token embeddings got its gradient."""
    found = (re.match(r"aten::embedding_dense_backward \[(\d+), (\d+), \d+\]", name) for name in counts)
    return {(int(match[1]), int(match[2])) for match in found if match}


def test_an_epoch_of_real_captions_computes_at_most_four_shapes_of_text(data, tmp_path):
    counts = tmp_path / "counts.json"
    folder, output = run(data, tmp_path, "npu", program=COUNTED, counts=counts, device="npu", batch_size=32)
    assert "text: bucketed" in output
    shapes = text_shapes(json.loads(counts.read_text()))
    assert len(shapes) <= 4
    assert {length for _, length in shapes} > {16, 32}
    told = json.loads((folder / "summary.json").read_text())["text_shapes"]
    assert {tuple(shape) for shape in told} == shapes
    run(data, tmp_path, "cpu", batch_size=32, text_shapes="padded")
    assert train_losses(folder) == pytest.approx(train_losses(tmp_path / "cpu"), rel=1e-4)


def test_what_captions_a_batch_holds_changes_no_operators_shape(data, tmp_path):
    def operators(seed):
        path = tmp_path / f"{seed}.json"
        run(data, tmp_path, f"seed-{seed}", program=COUNTED, counts=path, device="npu", batch_size=32, seed=seed)
        return json.loads(path.read_text())

    # What depends on the captions is how often a shape is met, and the sizes of plans, which are only copied and cut.
    assert set(operators(1)) == set(operators(2))


@pytest.mark.parametrize("flags", [pytest.param({}, marks=pytest.mark.slow), {"accum_freq": 2}])
def test_two_processes_with_different_captions_do_the_same_steps(data, tmp_path, flags):
    folder, output = run(data, tmp_path, "two", 2, device="npu", batch_size=16 // flags.get("accum_freq", 1), **flags)
    assert "text: bucketed" in output
    run(data, tmp_path, "one", batch_size=32, text_shapes="padded")
    assert train_losses(folder) == pytest.approx(train_losses(tmp_path / "one"), rel=1e-4)


@pytest.mark.slow
def test_under_fsdp_all_processes_run_the_tower_equally_often(data, tmp_path):
    _, output = run(data, tmp_path, "spread", 2, device="npu", batch_size=16, fsdp=True)
    assert "text: padded" in output
