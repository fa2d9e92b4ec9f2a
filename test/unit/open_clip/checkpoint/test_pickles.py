"""Whatever asks for more than plain data is refused by name; plain data comes back as it was."""

import argparse
import io
import os
import pickle
import time
import tracemalloc
from collections import Counter, OrderedDict, defaultdict
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch

from open_clip.checkpoint import read_checkpoint, read_plain_pickle, read_state_dict
from open_clip.checkpoint.pickled_values import Named
from open_clip.checkpoint.pickles import PlainUnpickler
from open_clip.errors import CheckpointError

PAIR = (12, 34, "一只猫")
PLAIN_DATA = {
    "none": None,
    "numbers": [True, 0, -1, 1 << 70, 1.5, 2j],
    "texts": ("a", "ü" * 300, b"\x00\xff", bytearray(b"ab")),
    "sets": [{1, 2}, frozenset({"a"})],
    (1, "key"): {},
    "ordered": OrderedDict(a=1, b=[2]),
    "counted": Counter("aab"),
    "filled": defaultdict(list, {"x": [1]}),
}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back_as_it_was(protocol):
    assert read_plain_pickle(pickle.dumps(PLAIN_DATA, protocol)) == PLAIN_DATA


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pairs_of_a_data_set_are_read_in_every_protocol(protocol):
    assert read_plain_pickle(pickle.dumps(PAIR, protocol)) == PAIR


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_numbers_and_arrays_of_numpy_are_read(protocol):
    arrays = [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.asfortranarray(np.eye(3, 2)),
        np.array([True]),
        np.zeros(0),
    ]
    scalars = [np.float32(1.5), np.int64(-7), np.bool_(True)]
    read = read_plain_pickle(pickle.dumps([arrays, scalars], protocol))
    for found, array in zip(read[0], arrays, strict=True):
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)
    assert read[1] == [1.5, -7, True]
    assert [type(number) for number in read[1]] == [float, int, bool]


def test_a_namespace_and_a_path_are_read_as_plain_data():
    given = argparse.Namespace(lr=0.1, model="base", betas=(0.9, 0.98), out=PurePosixPath("a/b"))
    assert read_plain_pickle(pickle.dumps(given)) == {"lr": 0.1, "model": "base", "betas": (0.9, 0.98), "out": "a/b"}


@pytest.mark.parametrize("is_zip", [True, False])
def test_weights_beside_a_namespace_are_read(tmp_path, is_zip):
    weights = OrderedDict({"module.a": torch.arange(3.0), "module.b": torch.nn.Parameter(torch.ones(2))})
    args = argparse.Namespace(lr=0.1, device="gpu")
    content = {"model": weights, "args": args, "epoch": 3, "best": np.float64(0.5), "scaler": None}
    torch.save(content, tmp_path / "public.pth", _use_new_zipfile_serialization=is_zip)
    read = read_checkpoint(tmp_path / "public.pth")
    assert (read["args"], read["best"]) == ({"lr": 0.1, "device": "gpu"}, 0.5)
    state = read_state_dict(tmp_path / "public.pth")
    assert torch.equal(state["a"], torch.arange(3.0))
    assert torch.equal(state["b"], torch.ones(2))


@pytest.mark.parametrize("is_zip", [True, False])
def test_tensors_of_every_kind_come_back_as_they_were(tmp_path, is_zip):
    base = torch.randn(6, 4)
    tagged = torch.ones(2)
    tagged.note = "kept by nobody"
    content = {
        **{str(dtype): torch.ones(3).to(dtype) for dtype in (torch.float16, torch.bfloat16, torch.int8, torch.bool)},
        **{str(dtype): torch.ones(3).to(dtype) for dtype in (torch.complex64, torch.uint16, torch.float8_e4m3fn)},
        "view": base[2:4].t(),
        "base": base,
        "part": torch.arange(10.0)[3:5],
        "tagged": tagged,
        "empty": torch.zeros(0, 5),
        "buffer": torch.nn.Buffer(torch.ones(1)),
        "size": torch.Size([2, 3]),
        "type": torch.float32,
    }
    torch.save(content, tmp_path / "all.pt", _use_new_zipfile_serialization=is_zip)
    read = read_checkpoint(tmp_path / "all.pt")
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            assert (read[name].dtype, read[name].stride()) == (value.dtype, value.stride()), name
            assert read[name].flatten().view(torch.uint8).tolist() == value.flatten().view(torch.uint8).tolist(), name
        else:
            assert read[name] == value
    assert read["view"].untyped_storage().data_ptr() == read["base"].untyped_storage().data_ptr()


class Reduced:
    """Unpickles as a call."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


CALLS = {
    "os.system": (Reduced(os.system, "touch hostile-was-here"), "posix.system"),
    "eval": (Reduced(eval, "open('hostile-was-here', 'w')"), "builtins.eval"),
    "a chain of getattr": (Reduced(getattr, Reduced(__import__, "os"), "system"), "builtins.getattr"),
    "import": (Reduced(__import__, "os"), "builtins.__import__"),
    "open": (Reduced(io.open, "hostile-was-here", "w"), "io.open"),
    "numpy's reader": (Reduced(np.load, "x"), "numpy"),
    "a class of ours": (Reduced(Named, "a", None), "Named"),
}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("kind", CALLS)
def test_a_call_is_refused_by_its_name_and_not_made(kind, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value, name = CALLS[kind]
    content = pickle.dumps({"args": value}, protocol)
    name = name.replace("builtins", "__builtin__") if protocol < 3 else name
    with pytest.raises(CheckpointError, match=f"refused.*{name}"):
        read_plain_pickle(content)
    torch.save({"model": {}, "args": argparse.Namespace(f=value)}, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=r"file\.pt: refused"):
        read_checkpoint(tmp_path / "file.pt")
    assert not (tmp_path / "hostile-was-here").exists()


PROGRAMS = {
    "puts into a function": (
        b"\x80\x02c_codecs\nencode\n}U\x0c__defaults__Nsb.",
        "changes the inside of a _codecs",
    ),
    "puts into a class": (b"\x80\x02cargparse\nNamespace\n}U\x08__init__Nsb.", "changes the inside of a argparse.Name"),
    "puts into a number": (b"\x80\x02K\x01}b.", "changes the inside of a int"),
    "sets an entry of a class": (b"\x80\x02cbuiltins\nset\nK\x01K\x02s.", "puts entries into a builtins.set"),
    "adds to a list as to a set": (b"\x80\x04](K\x01\x90.", "puts members into a list"),
    "calls a number": (b"\x80\x02K\x05)R.", "calls a int"),
    "calls what may not be built": (b"\x80\x02cbuiltins\nlist\n)R.", "calls builtins.list"),
    "leaves a class": (b"\x80\x02cbuiltins\nset\n.", "is a Named"),
    "points outside": (b"\x80\x02U\x01aQ.", "outside itself"),
    "names by number": (b"\x80\x02\x82\x01.", "by a number"),
    "named arguments": (b"\x80\x04cbuiltins\nset\n)}\x8c\x01aK\x01s\x92.", "named arguments"),
    "an array of objects": (b"\x80\x02cnumpy\ndtype\nU\x02O8\x85R.", "array of O8"),
    "a buffer of any length": (b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.", "damaged"),
    "a list of lists as key": (b"\x80\x02}]K\x01s.", "a list is part of a key"),
    "cut short": (pickle.dumps([PAIR] * 3)[:-9], "cut short"),
    "no pickle": (b"\x80\x7f", "damaged"),
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_no_step_of_a_pickle_reaches_past_plain_data(kind):
    content, said = PROGRAMS[kind]
    with pytest.raises(CheckpointError, match=said):
        read_plain_pickle(content)


COPY = b"cbuiltins\nbytearray\nh\x00\x85R"
TWICE = b"](h%ch%ceq%c"
BOMBS = {
    "bytes of a number": b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b".",
    "a buffer of a number": b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".",
    "a frame of a number": b"\x80\x04\x95" + (1 << 40).to_bytes(8, "little") + b".",
    "a long of a number": b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b".",
    "a place in the memo": b"\x80\x02]r\xff\xff\xff\x0f0h\x00.",
    # One text of a megabyte, copied to 2,000 buffers.
    "copies": b"\x80\x02B"
    + (1 << 20).to_bytes(4, "little")
    + bytes(1 << 20)
    + b"q\x000]("
    + 2000 * b"cbuiltins\nbytearray\nh\x00\x85R"
    + b"e.",
    "lists in lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "lists that hold each other": b"\x80\x02]q\x00"
    + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(60))
    + b".",
    # The hash of the last would take 2**200 steps.
    "a tuple of tuples as a key": b"\x80\x02}K\x01\x85" + b"2\x86" * 200 + b"K\x01s.",
    "a set of tuples of tuples": b"\x80\x04\x8f(K\x01\x85" + b"2\x86" * 200 + b"\x90.",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_before_it_takes_memory_or_time(kind):
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises(CheckpointError):
        read_plain_pickle(BOMBS[kind])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.monotonic() - started < 20
    assert most < 300 << 20


class Own(torch.Tensor):
    """Not torch's."""


def test_a_tensors_class_and_builder_are_held_to_the_table(tmp_path):
    torch.save({"w": torch.ones(2).as_subclass(Own)}, tmp_path / "own.pt")
    with pytest.raises(CheckpointError, match=r"own\.pt: refused.*Own"):
        read_checkpoint(tmp_path / "own.pt")


def test_the_older_format_never_gives_more_than_the_file_has(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({"w": torch.arange(64.0)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    # The number of values, 64, stands once in the pickle and once before the bytes.
    at = content.index(b"cpuq") if b"cpuq" in content else content.index(b"cpu")
    place = content.index(b"K@", at)
    path.write_bytes(content[:place] + b"J\xff\xff\xff\x7f" + content[place + 2 :])
    with pytest.raises(CheckpointError, match="more bytes than it has"):
        read_checkpoint(path)
    path.write_bytes(content[:-4])
    with pytest.raises(CheckpointError, match="ends too early"):
        read_checkpoint(path)


def test_a_table_decides_what_else_is_built():
    content = pickle.dumps(Reduced(os.getpid), 2)
    assert PlainUnpickler(io.BytesIO(content), {"posix.getpid": lambda: 7}).unpickle() == 7


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_tensors_of_a_bare_pickle_come_back_as_they_were(tmp_path, protocol):
    base = torch.randn(6, 4)
    content = {
        "half": torch.arange(5, dtype=torch.bfloat16),
        "trained": torch.nn.Parameter(torch.ones(2)),
        "part": base[2:4].t(),
        "rows": [{"key": "a", "image_emb": base}],
    }
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(content, protocol))
    read = read_checkpoint(tmp_path / "bare.pth")
    assert (read["half"].dtype, read["half"].tolist()) == (torch.bfloat16, [0, 1, 2, 3, 4])
    assert torch.equal(read["trained"], torch.ones(2))
    assert torch.equal(read["part"], base[2:4].t())
    assert torch.equal(read["rows"][0]["image_emb"], base)


def test_a_file_inside_a_bare_pickle_runs_nothing_either(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside = io.BytesIO()
    torch.save(Reduced(os.system, "touch hostile-was-here"), inside, _use_new_zipfile_serialization=False)
    bare = pickle.dumps({"w": Reduced(torch.storage._load_from_bytes, inside.getvalue())})
    (tmp_path / "bare.pth").write_bytes(bare)
    with pytest.raises(CheckpointError, match=r"bare\.pth: refused.*posix\.system"):
        read_checkpoint("bare.pth")
    nested = pickle.dumps({"w": Reduced(torch.storage._load_from_bytes, bare)})
    (tmp_path / "bare.pth").write_bytes(nested)
    with pytest.raises(CheckpointError, match="refused.*_load_from_bytes"):
        read_checkpoint("bare.pth")
    assert not (tmp_path / "hostile-was-here").exists()


def test_bytes_may_be_longer_than_a_pickle_and_nothing_else_may():
    def read(value):
        file = io.BytesIO(pickle.dumps(value, 4))
        return PlainUnpickler(file, most_bytes=1 << 17, content_bytes=1 << 20).unpickle()

    # Python frames what is small, and leaves what is large outside.
    small = [bytes([number]) * 5_000 for number in range(200)]
    assert read(small) == small
    assert read(bytes(1 << 20)) == bytes(1 << 20)
    for value in (bytes(2 << 20), [[] for _ in range(200_000)], [*small, *([] for _ in range(200_000))]):
        with pytest.raises(CheckpointError, match="longer than any"):
            read(value)
