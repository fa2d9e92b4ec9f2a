"""Random and mutated lists and images: read or refused, never a crash."""

import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from image_sets import IMAGES_OF_EMOJI
from open_clip.errors import DataError
from training.data import ImageError, ImageFile, StoredImage, read_csv_pairs
from training.data.members import MemberColumn

pytestmark = pytest.mark.faults
IMAGE = IMAGES_OF_EMOJI[0]
HEADER = "filepath\ttitle\n"


def read(tmp_path, content, **options):
    path = tmp_path / "dirty.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return read_csv_pairs(path, **options)


def captions(table):
    return [table.read("text", index) for index in range(len(table))]


FUZZ = settings(
    max_examples=60, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
ALPHABET = st.sampled_from([*'\t,"\n\r\0 a|\x1f\ufeff\u2028\U0001f600', IMAGE, '""', "nan", "\r\n"])


@FUZZ
@given(st.lists(ALPHABET, max_size=60).map("".join), st.sampled_from(["\t", ",", "||"]))
def test_any_text_is_read_or_refused_row_by_row(tmp_path, body, separator):
    sound = f"{IMAGE}{separator}the last row\n"
    content = f"filepath{separator}title\n{IMAGE}{separator}the first row\n{body}\n{sound}"
    table = read(tmp_path, content, separator=separator)
    assert table.read("text", 0) == "the first row"
    assert table.row(0) == 2
    assert any(caption.strip() == "the last row" for caption in captions(table)[1:])
    assert all(caption.strip() for caption in captions(table))
    assert all(fault.reason.isprintable() and str(fault).isprintable() for fault in table.faults)


@FUZZ
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(tmp_path, content):
    try:
        table = read(tmp_path, HEADER.encode() + f"{IMAGE}\tfirst\n".encode() + content)
    except DataError:
        return
    assert table.read("text", 0) == "first"


@FUZZ
@given(
    st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8),
    st.floats(0.2, 1),
)
def test_a_mutated_image_is_read_or_refused(tmp_path, kind, changes, share):
    path = tmp_path / f"mutated.{kind.lower()}"
    Image.open(IMAGE).resize((48, 36)).save(path, kind)
    content = bytearray(path.read_bytes())
    for position, value in changes:
        content[int(position * len(content))] = value
    path.write_bytes(content[: int(len(content) * share)])
    reason = ""
    try:
        image = ImageFile(str(path)).open()
        assert image.convert("RGB").size == image.size
    except ImageError as error:
        reason = str(error)
    assert not reason or reason.isprintable()


def member(suffix):
    held = io.BytesIO()
    if suffix == "npy":
        np.save(held, np.arange(40, dtype=np.float32).reshape(5, 8))
    elif suffix.startswith("npz"):
        np.savez_compressed(held, emb=np.arange(40, dtype=np.int64), other=np.ones(3))
    else:
        held.write(json.dumps({"emb": ["one", "two"], "other": {"deep": [1, None]}}).encode())
    return held.getvalue()


@FUZZ
@given(
    st.sampled_from(["npy", "npz", "npz:emb", "json", "json:emb", "txt"]),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
    st.floats(0.2, 1),
)
def test_a_mutated_member_is_read_or_refused(word, changes, share):
    content = bytearray(member(word))
    for position, value in changes:
        content[int(position * len(content))] = value
    reason = ""
    value = None
    try:
        value = MemberColumn.named("x", word).read(0, bytes(content[: int(len(content) * share)]), seed=1)
    except DataError as error:
        reason = str(error)
    assert not reason or reason.isprintable()
    assert not isinstance(value, StoredImage)
    # What is read is plain: no object of a class that a file names.
    arrays = [*value.values()] if isinstance(value, dict) and word == "npz" else [value]
    assert all(isinstance(one, np.ndarray | str | list | dict | int | float | None) for one in arrays)
    assert not any(isinstance(one, np.ndarray) and one.dtype.hasobject for one in arrays)
