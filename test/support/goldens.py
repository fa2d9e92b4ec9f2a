"""Losses and weights of small runs, recorded once; later code must give the same bits and go on from the same files.

    python test/support/goldens.py record              # makes test/goldens anew: only where a number changes on purpose
    python test/support/goldens.py check [CASE ...]    # compares this tree with it; a case is `clip-csv-cpu-1-1`

A case is a recipe, a source, a device, a number of processes and one of batches a step; a step always takes eight rows.
Weights begin with a table of tokens that is zero where no caption reaches: so a checkpoint packs into little.
"""

import csv
import hashlib
import itertools
import json
import lzma
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import numpy
import PIL
import torch

import open_clip
from npu_session import simulator_env
from pairs import make_pairs, micro_flags
from runs import ROOT, kill_group, load_payload, run_trainer, start_trainer, train_losses, wait_for_step
from shard_sets import write_tar
from tiny_models import tiny_coca_config, tiny_config

FOLDER = ROOT / "test" / "goldens"
LOSSES = FOLDER / "losses.json"
RECIPES = ("clip", "siglip", "coca", "distill")
CASES = tuple(
    "-".join(parts) for parts in itertools.product(RECIPES, ("csv", "shards"), ("cpu", "npu"), ("1", "2"), ("1", "2"))
)
STEPS, EPOCH_STEPS, STEP_ROWS = 20, 5, 8
#: After this step, inside the second epoch, a run is asked to stop; the checkpoint that it leaves is kept.
STOPPED_AFTER = 7


def machine():
    """Say on what the bits of a run depend beside this tree."""
    return {
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "processor": torch.backends.cpu.get_cpu_capability(),
    }


def make_inputs(folder):
    """Make the table, the shards and the two models, whose names the flags of :func:`run_case` give."""
    folder = Path(folder)
    table = make_pairs(folder, STEPS * STEP_ROWS // (STEPS // EPOCH_STEPS) // 2, 2)
    with open(table, newline="", encoding="utf-8") as file:
        rows = [(Path(row["img_key"]), row["caption_key"]) for row in csv.DictReader(file)]
    (folder / "shards").mkdir()
    for number, part in enumerate((rows[:24], rows[24:])):
        members = [
            (f"{number}{at:04d}.{form}", data)
            for at, (image, caption) in enumerate(part)
            for form, data in (("jpg", image.read_bytes()), ("txt", caption.encode()))
        ]
        write_tar(folder / "shards" / f"{number:05d}.tar", members)
    captions = [caption for _, caption in rows]
    image, text = {"width": 32, "head_width": 16, "layers": 1}, {"vocab_size": 49408, "width": 8}
    _write_model(folder / "clip", 0, captions, tiny_config(image, text, embed_dim=16))
    _write_model(folder / "teacher", 9, captions, tiny_config(image, text, embed_dim=16))
    text = {**text, "width": 4}
    coca = tiny_coca_config(image, text, {"width": 4, "layers": 1}, embed_dim=4)
    _write_model(folder / "coca", 0, captions, coca)


def _write_model(folder, seed, captions, config):
    """Write a model folder whose table of tokens holds what the captions need."""
    folder.mkdir()
    torch.manual_seed(seed)
    open_clip.factory.add_model_config(_write_json(folder / f"golden-{folder.name}.json", config))
    model = open_clip.create_model(f"golden-{folder.name}")
    used = torch.zeros(49408, 1)
    used[open_clip.SimpleTokenizer(context_length=16)(captions).unique()] = 1
    state = model.state_dict()
    for name, value in state.items():
        if name.endswith("token_embedding.weight"):
            value *= used
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3}
    _write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocess})


def _write_json(path, value):
    path.write_text(json.dumps(value))
    return path


def case_flags(case, inputs, logs, **more):
    """Spell the flags of a case."""
    recipe, source, device, processes, accum = case.split("-")
    flags = {
        "model": f"local-dir:{inputs / ('coca' if recipe == 'coca' else 'clip')}",
        "device": device,
        "batch_size": STEP_ROWS // int(processes) // int(accum),
        "accum_freq": accum,
        "epochs": STEPS // EPOCH_STEPS,
        "grad_clip_norm": 1.0,
        "logs_dir": logs,
        "name": case,
    }
    if recipe == "siglip":
        flags["siglip"] = True
    if recipe == "distill":
        teacher = inputs / "teacher"
        flags |= {
            "distill_model": f"local-dir:{teacher}",
            "distill_pretrained": teacher / "open_clip_pytorch_model.bin",
        }
    data = inputs / "pairs.csv"
    if source == "shards":
        data = f"{inputs}/shards/{{00000..00001}}.tar"
        flags |= {"dataset_type": "webdataset", "train_num_samples": EPOCH_STEPS * STEP_ROWS}
    return micro_flags(data, **(flags | more))


def run_case(case, inputs, logs, **more):
    """Train one case to its end and give its losses by step and the digest of its weights."""
    _, _, device, processes, _ = case.split("-")
    environ = simulator_env(devices=2) if device == "npu" else {}
    status, output = run_trainer(case_flags(case, inputs, logs, **more), int(processes), **environ)
    assert status == 0, output
    weights = load_payload(Path(logs) / case / "checkpoints" / f"epoch_{STEPS // EPOCH_STEPS}.pt")["state_dict"]
    return train_losses(Path(logs) / case), digest(weights)


def stop_case(case, inputs, logs):
    """Ask a run of one process to stop inside its second epoch and give the checkpoint that it leaves."""
    process = start_trainer(case_flags(case, inputs, logs))
    wait_for_step(Path(logs) / case, STOPPED_AFTER, process)
    output = kill_group(process, signal.SIGTERM)
    assert process.returncode == 75, output
    return next((Path(logs) / case / "checkpoints").glob("epoch_*_step_*.pt"))


def digest(weights):
    """Digest names and bits of weights."""
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(weights):
        total.update(name.encode())
        total.update(weights[name].contiguous().view(-1).numpy().tobytes())
    return total.hexdigest()


def unpack_checkpoint(recipe, folder):
    """Write the checkpoint that is kept of a recipe into a folder and return its path."""
    packed = next(FOLDER.glob(f"{recipe}-*.pt.xz"))
    path = Path(folder) / packed.name.removeprefix(f"{recipe}-").removesuffix(".xz")
    path.write_bytes(lzma.decompress(packed.read_bytes()))
    return path


def record():
    """Run every case and write what it gave; stop a plain run of each recipe and keep its checkpoint."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    told = {"made by": "python test/support/goldens.py record", "machine": machine(), "cases": {}}
    with tempfile.TemporaryDirectory() as folder:
        inputs, logs = Path(folder) / "inputs", Path(folder) / "logs"
        make_inputs(inputs)
        for recipe in RECIPES:
            kept = stop_case(f"{recipe}-csv-cpu-1-1", inputs, logs / "stopped")
            (FOLDER / f"{recipe}-{kept.name}.xz").write_bytes(lzma.compress(kept.read_bytes(), preset=9))
        for case in CASES:
            losses, weights = run_case(case, inputs, logs)
            told["cases"][case] = {"losses": list(losses.values()), "weights": weights}
            shutil.rmtree(logs / case)
            print(case, weights, flush=True)
    LOSSES.write_text(json.dumps(told, indent=1) + "\n")


def check(cases):
    """Run these cases and name those that give other numbers."""
    golden, failed = json.loads(LOSSES.read_text()), []
    assert golden["machine"] == machine(), f"recorded with {golden['machine']}, and this is {machine()}"
    with tempfile.TemporaryDirectory() as folder:
        make_inputs(Path(folder))
        for case in cases:
            losses, weights = run_case(case, Path(folder), Path(folder) / "logs")
            same = {"losses": list(losses.values()), "weights": weights} == golden["cases"][case]
            failed += [] if same else [case]
            print(case, "same" if same else "OTHER", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(record() if sys.argv[1:2] == ["record"] else bool(check(sys.argv[2:] or CASES)))
