"""Any file at all gives JSON values of sane size or one kind of error."""

import json
import math
import os

import pytest

from open_clip.checked_json import is_number, numbers_of, parse_json, read_json, read_json_lines


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[" * 100 + b"]" * 100,
        b'{"a":' * 60 + b"1" + b"}" * 60,
        b"\x00",
        b"nope",
    ],
)
def test_what_is_no_sane_json_is_one_kind_of_error(raw, tmp_path):
    with pytest.raises(ValueError, match="."):
        parse_json(raw)
    (tmp_path / "a.json").write_bytes(raw)
    with pytest.raises(ValueError, match="."):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.jsonl").write_bytes(raw + b'\n{"step": 1}\n')
    assert [one for _, one in read_json_lines(tmp_path / "a.jsonl")][-1] == {"step": 1}


def test_numbers_come_back_finite_and_of_sane_size():
    raw = (
        b'{"a": NaN, "b": -Infinity, "c": 1e999, "d": 1'
        + b"0" * 400
        + b', "e": 7, "f": true, "g": 123456789012345678901}'
    )
    value = parse_json(raw)
    assert value == {"a": None, "b": None, "c": None, "d": None, "e": 7, "f": True, "g": 123456789012345678901.0}
    assert numbers_of(value) == {"e": 7, "g": 123456789012345678901.0}
    assert numbers_of([value]) == {}


def test_a_pipe_or_a_device_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(OSError, match="plain file|directory"):
            read_json(path)


def test_a_file_above_the_limit_is_refused(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps("x" * 100))
    with pytest.raises(OSError, match="larger than 50 bytes"):
        read_json(tmp_path / "a.json", most_bytes=50)


def test_a_line_without_end_costs_itself_and_no_memory(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"n": 1}\n')
        file.truncate(1 << 27)
        file.seek(0, os.SEEK_END)
        file.write(b'\n\n{"n": 2}\n{"n"')
    assert [one for _, one in read_json_lines(path)] == [{"n": 1}, None, {"n": 2}, None]


@pytest.mark.parametrize("value", [0, -1.5, 2**53, -(2**53), 1e300])
def test_finite_numbers_are_numbers(value):
    assert is_number(value)


@pytest.mark.parametrize("value", [True, None, "1", math.nan, math.inf, 2**53 + 1, -(2**53) - 1, 10**400, 1j])
def test_what_no_float_can_tell_apart_and_what_is_not_finite_is_no_number(value):
    assert not is_number(value)
