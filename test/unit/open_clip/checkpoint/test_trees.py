"""A file's content is used only if it is plain tensors no larger than what the file holds of them."""

import os
import socket

import pytest
import torch

from open_clip.checkpoint import load_weights, read_checkpoint, read_state_dict
from open_clip.checkpoint.trees import check_tree
from open_clip.errors import CheckpointError
from tiny_models import tiny_clip

FORMATS = {"zip": True, "pickle": False}


def nested(depth):
    inner = {}
    for _ in range(depth):
        inner = {"a": inner}
    return inner


def doubled(times):
    inner = [1.0]
    for _ in range(times):
        inner = [inner, inner]
    return inner


CLAIMS = {
    "one value without end": lambda: {"w": torch.zeros(1).expand(1 << 40)},
    "rows of one": lambda: {"w": torch.zeros(1, 8).expand(8192**2 + 1, 8)},
    "overlapping": lambda: {"w": torch.as_strided(torch.zeros(200), (60, 60), (1, 1))},
    "in an optimizer": lambda: {"optimizer": {"state": {0: {"exp_avg": torch.zeros(1).expand(4)}}}},
    "in a list": lambda: {"rng": [(torch.zeros(1).expand(9),)]},
    "views of one storage": lambda: views(torch.zeros(1 << 20)),
    "sparse": lambda: {"w": torch.eye(3).to_sparse()},
    "of no bytes": lambda: {"w": torch.empty(1 << 40, device="meta")},
    "nested": lambda: nested(200),
    "doubled": lambda: {"a": doubled(60)},
}


def views(storage):
    return {f"w{number}": storage[number:] for number in range(300)}


@pytest.mark.parametrize("is_zip", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("kind", CLAIMS)
def test_what_claims_more_than_the_file_holds_is_refused(kind, is_zip, tmp_path):
    path = tmp_path / "claims.pt"
    torch.save(CLAIMS[kind](), path, _use_new_zipfile_serialization=is_zip)
    assert path.stat().st_size < 8 << 20
    with pytest.raises(CheckpointError, match=r"claims\.pt: "):
        read_checkpoint(path)


def test_what_holds_itself_is_refused():
    content = {"a": [1]}
    content["a"].append(content)
    with pytest.raises(CheckpointError, match="nested without end"):
        check_tree(content)


def test_tied_weights_and_slices_of_a_larger_storage_pass(tmp_path):
    whole = torch.randn(1000, 10)
    content = {
        "a": whole,
        "b": whole,
        "c": whole[5:9],
        "d": whole.t(),
        "empty": torch.zeros(0, 5),
        "n": torch.tensor(3),
    }
    torch.save(content, tmp_path / "tied.pt")
    found = read_checkpoint(tmp_path / "tied.pt")
    assert all(torch.equal(found[key], value) for key, value in content.items())


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link to nowhere", "link to itself", "folder"])
def test_what_is_no_plain_file_is_refused_and_not_waited_for(kind, tmp_path):
    path = tmp_path / "file.pt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "link to itself" else tmp_path / "gone")
    with pytest.raises(CheckpointError, match=r"file\.pt: "):
        read_checkpoint(path)


FORGED = "\x1b[31mw\n2026-01-01 | ERROR | forged\u202e" + "x" * 5000


@pytest.mark.parametrize("value", [torch.zeros(3), 5, torch.zeros(1).expand(9)])
def test_no_name_out_of_a_file_forges_a_line(value, tmp_path):
    torch.save({**tiny_clip().state_dict(), FORGED: value}, tmp_path / "names.pt")
    with pytest.raises(CheckpointError) as caught:
        load_weights(tiny_clip(), read_state_dict(tmp_path / "names.pt"))
    message = str(caught.value)
    assert not {"\x1b", "\u202e"} & set(message)
    assert "\n2026" not in message
    assert len(message) < 2000


def test_weights_of_a_million_prefixes_are_answered_at_once(tmp_path):
    torch.save({"module." * 1_000_000 + "w": torch.zeros(1), "v": torch.zeros(1)}, tmp_path / "prefixes.pt")
    with pytest.raises(CheckpointError, match="do not fit"):
        load_weights(tiny_clip(), read_state_dict(tmp_path / "prefixes.pt"))


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_weights_of_another_kind_of_number_are_refused(dtype):
    weights = tiny_clip().state_dict()
    weights["text_projection"] = weights["text_projection"].to(dtype)
    with pytest.raises(CheckpointError, match="text_projection is of torch"):
        load_weights(tiny_clip(), weights)


@pytest.mark.parametrize("key", ["positional_embedding", "visual.positional_embedding"])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4), (0, 64), (3, 0)])
def test_position_tables_of_another_form_are_told_with_both_shapes(key, shape):
    weights = tiny_clip().state_dict()
    weights[key] = torch.zeros(shape)
    with pytest.raises(CheckpointError, match=key):
        load_weights(tiny_clip(), weights)
