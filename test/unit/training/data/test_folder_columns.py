"""Files beside an image are columns by their suffix; folders of classes give names and numbers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from open_clip.errors import DataError
from training.data import SourceRequest, find_kind
from training.data.classes import ClassFolderKind
from training.data.csv import CsvKind
from training.data.folder import FolderKind
from training.data.source import MissingColumns
from training.params.data import DataParams, ShardParams


def draw(path, colour=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (colour, 0, 0)).save(path)


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        stem = tmp_path / "sub" / f"{number}"
        draw(Path(f"{stem}.png"), number)
        draw(Path(f"{stem}.depth.png"), 100 + number)
        Path(f"{stem}.txt").write_text(f"one {number}\ntwo {number}\n")
        Path(f"{stem}.json").write_text(json.dumps({"label": number, "short": ["a", "b"]}))
        np.savez(f"{stem}.npz", emb=np.full(2, number))
    return tmp_path


def ask(path, columns, *pairs, word="auto", role="train"):
    return SourceRequest(
        str(path), role, DataParams(columns=list(pairs), dataset_type=word), ShardParams(), columns=columns
    )


def open_source(*args, **options):
    request = ask(*args, **options)
    kind = find_kind(request)
    kind.check(request)
    return kind.open(request)


def test_each_caption_is_a_row_with_what_lies_beside_its_image(folder):
    names = ("image", "text", "depth", "short", "emb", "label")
    source = open_source(folder, names, "depth=depth.png", "short=json:short", "emb=npz:emb", word="folder")
    assert source.columns == names
    # The depth images are no rows of their own.
    assert (len(source), source.faults, source.num_images) == (6, (), 3)
    assert [source.read("text", row) for row in (2, 3)] == ["one 1", "two 1"]
    assert source.read("image", 3).open().getpixel((0, 0)) == (1, 0, 0)
    assert source.read("depth", 3).open().getpixel((0, 0)) == (101, 0, 0)
    assert (source.read("emb", 5).tolist(), source.read("label", 5)) == ([2, 2], 2)
    assert {source.read("short", 0, seed) for seed in range(20)} == {"a", "b"}
    plain = open_source(folder / "sub", ("image", "npz"), "npz=npz", word="folder").contents
    assert plain != open_source(folder / "sub", ("image", "npz"), "npz=npz:emb", word="folder").contents


def test_without_captions_each_image_is_a_row(folder):
    source = open_source(folder, ("image", "npz", "depth"), "depth=depth.png")
    assert (len(source), source.columns) == (3, ("image", "npz", "depth"))
    assert open_source(folder, ("image", "text"), "text=json:short").read("text", 2) in ("a", "b")


def test_an_image_without_a_file_is_unusable_and_one_that_goes_later_too(folder):
    for image in folder.glob("sub/*.depth.png"):
        image.unlink()
    (folder / "sub" / "1.npz").unlink()
    (folder / "sub" / "0.npz").write_bytes(b"PK damaged")
    source = open_source(folder, ("image", "text", "npz"), "npz=npz")
    assert (len(source), [fault.reason for fault in source.faults]) == (4, ["no npz (npz) beside it"])
    with pytest.raises(DataError, match="array file cannot be read"):
        source.read("npz", 0)
    (folder / "sub" / "2.npz").unlink()
    with pytest.raises(DataError, match=r"no npz \(npz\) beside it"):
        source.read("npz", 3)


def test_a_column_that_no_image_has_is_a_wrong_flag_that_names_those_there_are(folder):
    for columns, pairs, missing in (
        (("image", "text", "emb"), ("emb=emb.npz",), "emb"),
        (("image", "name"), (), "name"),
        (("image", "name"), ("name=json:names",), "name"),
    ):
        with pytest.raises(MissingColumns, match=f"has no column '{missing}'.*depth.png, json, npz, png, txt"):
            open_source(folder, columns, *pairs)


def test_the_list_of_a_flickr30k_folder_has_the_columns_of_its_header(folder):
    image = folder / "sub" / "0.png"
    (folder / "flickr30k_train.csv").write_text(f"img_key,caption_key,score\n{image},a cat,0.5\n")
    source = open_source(folder, ("image", "text", "score"))
    assert [source.read(name, 0) for name in ("text", "score")] == ["a cat", "0.5"]
    (folder / "flickr30k_train.csv").write_text(f"img_key,after\n{image},sub/1.png\n")
    request = replace(ask(folder, ("image", "after")), image_columns=("image", "after"))
    assert find_kind(request).open(request).read("after", 0).open().getpixel((0, 0)) == (1, 0, 0)
    (folder / "flickr30k_train.csv").write_text(f"img_key,caption_key,score\n{image},a cat,0.5\n")
    with pytest.raises(MissingColumns, match="'stars'.*img_key, caption_key, score"):
        open_source(folder, ("image", "stars"))


def test_a_folder_of_classes_gives_the_name_and_the_number_of_a_class(tmp_path):
    for name in ("9", "10"):
        draw(tmp_path / name / "a.png")
    for role in ("train", "val"):
        source = open_source(tmp_path, ("image", "label"), role=role)
        rows = [(source.read("text", row), source.read("label", row)) for row in range(2)]
        assert (rows, source.classes) == ([("9", "0"), ("10", "1")], ("9", "10"))
    request = ask(tmp_path, ("image", "short"), word="classes")
    with pytest.raises(MissingColumns, match="'short'.*It has: image, text, label"):
        find_kind(request).check(request)


def test_a_folder_of_classes_gives_files_beside_its_images_where_a_flag_names_them(tmp_path):
    for number, name in enumerate(("9", "10")):
        draw(tmp_path / name / "a.png", number)
        draw(tmp_path / name / "a.depth.png", 100 + number)
    draw(tmp_path / "10" / "b.png")
    source = open_source(tmp_path, ("image", "label", "depth"), "depth=depth.png", word="classes")
    # The depth images are no rows of their own, and one is missing.
    assert (len(source), [fault.reason for fault in source.faults]) == (2, ["no depth (depth.png) beside it"])
    levels = [source.read(name, row).open().getpixel((0, 0))[0] for row in range(2) for name in ("image", "depth")]
    assert levels == [0, 100, 1, 101]
    assert [source.read("label", row) for row in range(2)] == ["0", "1"]
    with pytest.raises(MissingColumns, match="has no column 'mask'.*depth.png, png"):
        open_source(tmp_path, ("image", "label", "mask"), "mask=mask.png", word="classes")


def test_a_check_without_columns_looks_at_the_form_alone(folder, tmp_path_factory):
    classes = tmp_path_factory.mktemp("classes")
    draw(classes / "cat" / "a.png")
    (folder / "rows.csv").write_text("label\n3\n")
    for path in (classes, folder, folder / "rows.csv"):
        request = ask(path, ())
        find_kind(request).check(request)
    for path, said in ((folder / "gone.csv", "No such file"), (folder / "sub" / "none", "No such file")):
        with pytest.raises(DataError, match=said):
            find_kind(ask(path, ())).check(ask(path, ()))
    (empty := folder / "empty").mkdir()
    with pytest.raises(DataError, match="holds no train data"):
        find_kind(ask(empty, ())).check(ask(empty, ()))
    with pytest.raises(DataError, match="no caption|holds no train data"):
        find_kind(ask(classes, ("image", "text"))).check(ask(classes, ("image", "text")))


def test_auto_takes_a_folder_of_classes_only_where_nothing_else_tells_them(folder, tmp_path_factory):
    classes = tmp_path_factory.mktemp("classes")
    draw(classes / "cat" / "a.png")
    for path, columns, pairs, kind in (
        (classes, ("image", "label"), (), ClassFolderKind),
        (classes, ("image", "text"), (), FolderKind),
        (classes, ("image", "label"), ("label=cls",), FolderKind),
        (folder / "sub", ("image", "label"), (), FolderKind),
        (folder, ("image", "label"), (), FolderKind),
        (folder / "gone", ("image", "label"), (), CsvKind),
    ):
        assert type(find_kind(ask(path, columns, *pairs))) is kind
