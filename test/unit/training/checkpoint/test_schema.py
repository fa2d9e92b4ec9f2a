"""What a checkpoint and its manifest may hold; anything else is a refusal that names file and entry."""

import contextlib
import copy
import dataclasses
import hashlib
import json
import os
import random

import pytest
import torch

from checkpoint_faults import small_payload
from open_clip.errors import CheckpointError
from training.checkpoint import Manifest, read_newest, read_verified, write_checkpoint
from training.checkpoint.schema import FOLDER, check_payload
from training.device import rng_snapshot, select_device
from training.loop import Progress

FORGED = "\x1b[31mX\n2026-01-01 | ERROR | forged\u202e"


def sound_payload():
    progress = Progress(epoch=1, batch=2, step=7, samples_seen=56)
    state = progress.state_dict()
    state["losses"] = {"loss": {"last": float("nan"), "total": 3.0, "weight": 8.0}}
    state |= {"skipped": [[0, 3]], "left_out": [[1, 0]], "recent_losses": [1.5, 1.25]}
    return {
        **small_payload(1, 7),
        "ema_updates": 7,
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "growth_interval": 2000, "_growth_tracker": 3},
        "training_state": {
            "schema": 1,
            "progress": state,
            "order": {"seed": 0, "global_batch": 8, "num_samples": 24, "accum_freq": 1, "arrangement": ""},
            "rng": [rng_snapshot(select_device("cpu"))],
        },
    }


def change(tree, place, value):
    """Copy a tree with another value at a place; None for the value takes the entry out."""
    changed = copy.deepcopy(tree)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    if isinstance(inner, tuple):
        return change(tree, place[:-1], (*inner[: place[-1]], value, *inner[place[-1] + 1 :]))
    if value is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return changed


def test_sound_payloads_pass_ours_and_upstreams():
    payload = sound_payload()
    assert check_payload(payload, "a.pt") is payload
    upstream = {key: payload[key] for key in ("epoch", "name", "state_dict", "optimizer")}
    check_payload({**upstream, "scaler": {}}, "a.pt")
    # Weights alone may be called anything.
    check_payload({"epoch": torch.zeros(3)}, "a.pt")


def test_every_field_of_the_progress_is_looked_at():
    for item in dataclasses.fields(Progress):
        with pytest.raises(CheckpointError, match=rf"training_state\.progress\.{item.name}"):
            check_payload(change(sound_payload(), ("training_state", "progress", item.name), "7"), "a.pt")


STATE = ("training_state",)
CHANGES = [
    (("epoch",), [-1, 1.0, True, "1", 2**70, [1], torch.tensor(1)]),
    (("global_step",), [-1, float("nan"), {}]),
    (("samples_seen",), ["x", torch.zeros(2)]),
    (("ema_updates",), [-3, 2**60, "a"]),
    (("training_state",), [5, [], "abc", torch.zeros(1)]),
    ((*STATE, "progress"), [5, [1], "abc", {"batch": 1}]),
    ((*STATE, "progress", "losses"), [[], {"loss": 5}, {5: {}}, {FORGED: {"last": "x"}}]),
    ((*STATE, "progress", "losses", "loss", "last"), ["x", 2**70, True, [1.0]]),
    ((*STATE, "progress", "losses", "loss", "weight"), [float("inf"), "x"]),
    ((*STATE, "progress", "skipped"), [5, [5], [[1]], [[1, 2, 3]], [["a", "b"]], {}]),
    ((*STATE, "progress", "recent_losses"), [[float("nan")], ["x"], 5]),
    ((*STATE, "order"), [5, [], {"seed": 1.5}, {"seed": 2**70}, {5: 5}]),
    ((*STATE, "rng"), [5, {}, [5], [{}]]),
    ((*STATE, "rng", 0, "python"), [5, (3, (1, 2), None), (3, None, None), ("a", 1, 2)]),
    ((*STATE, "rng", 0, "python", 1), [(1,) * 624, ("a",) * 625, (-1,) * 625, (2**70,) * 625]),
    ((*STATE, "rng", 0, "numpy"), [5, (), ("MT19937",), (5, 5, 5, 5, 5)]),
    ((*STATE, "rng", 0, "numpy", 1), [torch.zeros(624), torch.zeros(3, dtype=torch.int64), [1]]),
    ((*STATE, "rng", 0, "numpy", 2), [625, -1, 1.5]),
    ((*STATE, "rng", 0, "torch"), [None, torch.zeros(5056), "x", torch.zeros(2, 2, dtype=torch.uint8)]),
    ((*STATE, "rng", 0, "device_kind"), [5, None]),
    ((*STATE, "rng", 0, "device"), [5, torch.zeros(3)]),
    (("scaler",), [5, [], {"scale": "x"}, {"scale": float("nan")}, {"scale": -1.0}, {"scale": torch.ones(1)}]),
    (("scaler", "_growth_tracker"), [-1, "x", 1.5]),
    (("scaler", "apex"), [5, {"loss_scaler0": 5}, {"loss_scaler0": {"loss_scale": "x"}}]),
    (("scaler", "masters"), [5, [5], [torch.zeros(2, dtype=torch.int64)], [torch.tensor(float("nan"))]]),
]


@pytest.mark.parametrize("place,values", CHANGES, ids=[".".join(map(str, place)) for place, _ in CHANGES])
def test_an_entry_of_another_kind_is_refused_by_its_name(place, values):
    for value in values:
        with pytest.raises(CheckpointError) as caught:
            check_payload(change(sound_payload(), place, value), f"{FORGED}.pt")
        message = str(caught.value)
        assert place[0] in message
        assert not {"\x1b", "\n", "\u202e"} & set(message)


def test_latest_passes_over_a_checkpoint_of_another_form(tmp_path):
    write_checkpoint(sound_payload(), tmp_path / "epoch_1.pt")
    write_checkpoint(change(sound_payload(), ("epoch",), "two"), tmp_path / "epoch_2.pt")
    told = []
    assert read_newest(tmp_path, told.append)[0].name == "epoch_1.pt"
    assert "epoch_2.pt: its entry epoch" in told[0]


def test_a_file_cannot_send_the_reader_to_a_folder(tmp_path):
    write_checkpoint({**sound_payload(), FOLDER: "/etc"}, tmp_path / "epoch_1.pt")
    with pytest.raises(CheckpointError, match=FOLDER):
        read_verified(tmp_path / "epoch_1.pt")


def write_manifest(folder, files):
    check = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"schema": 1, "files": files, "check": check}))


RECORD = {"size": 3, "sha256": ["ab"], "epoch": 1, "step": 2, "samples_seen": 16, "time": 1.5, "torch": "2.6"}
FILES = [
    *(5, [], "abc", None, {"epoch_1.pt": 5}, {"epoch_1.pt": {}}, {"epoch_1.pt": [5]}, {"epoch_1.pt": [{}]}),
    *({"epoch_1.pt": [{**RECORD, "size": value}]} for value in (-1, "3", 1.5, None, 2**80, [3], True)),
    *({"epoch_1.pt": [{**RECORD, "sha256": value}]} for value in (5, None, "ab", [5], {"a": 1}, [["ab"]])),
    *({"epoch_1.pt": [{**RECORD, key: FORGED}]} for key in ("epoch", "step", "samples_seen", "time")),
    {"epoch_1.pt": [{**RECORD, "torch": 5}]},
]


@pytest.mark.parametrize("files", FILES, ids=range(len(FILES)))
def test_a_manifest_of_any_form_is_told_and_not_used(files, tmp_path, caplog):
    write_checkpoint(small_payload(1), tmp_path / "epoch_1.pt")
    write_manifest(tmp_path, files)
    assert read_newest(tmp_path, pytest.fail)[1]["epoch"] == 1
    assert "manifest.json is not used" in caplog.text
    assert "\x1b" not in caplog.text


def test_a_newer_manifests_further_fields_are_left_alone(tmp_path):
    write_manifest(tmp_path, {"epoch_1.pt": [{**RECORD, "host": "a"}]})
    assert Manifest(tmp_path).of("epoch_1.pt")[0].step == 2


@pytest.mark.parametrize("kind", ["pipe", "nested", "folder", "device", "huge"])
def test_a_manifest_that_is_no_small_plain_file_is_told_and_not_used(kind, tmp_path, caplog):
    write_checkpoint(small_payload(1), tmp_path / "epoch_1.pt")
    path = tmp_path / "manifest.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "nested":
        path.write_text("[" * 100_000)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    assert read_newest(tmp_path, pytest.fail)[1]["epoch"] == 1
    assert "manifest.json is not used" in caplog.text


def test_two_hundred_random_changes_raise_nothing_else():
    rng = random.Random(4)
    values = [None, -1, 2**70, 1.5, "x", [], {}, (1, 2), torch.zeros(2), FORGED, True]
    for _ in range(200):
        payload, place = sound_payload(), []
        inner = payload
        while isinstance(inner, dict | list | tuple) and inner and (not place or rng.random() < 0.8):
            key = rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(min(len(inner), 9))
            place.append(key)
            inner = inner[key]
        value = rng.choice(values)
        with contextlib.suppress(CheckpointError):
            check_payload(change(payload, place, value), "a.pt")
