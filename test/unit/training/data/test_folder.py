import shutil

import pytest

from image_sets import IMAGES_OF_EMOJI, emoji_rows
from open_clip.errors import DataError
from training.data import SourceRequest, open_source
from training.params.data import DataParams, ShardParams


def read_folder(path, role):
    return open_source(SourceRequest(str(path), role, DataParams(dataset_type="folder"), ShardParams()))


def copy_images(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    return [shutil.copy(image, folder) for image in IMAGES_OF_EMOJI[:count]]


def write_list(folder, name, rows):
    lines = ["img_key,caption_key", *(f'{image},"{caption}"' for image, caption in rows)]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_prepared_flickr30k_folder_gives_the_list_of_the_split(tmp_path):
    rows = emoji_rows(4)
    write_list(tmp_path, "flickr30k_train.csv", rows[:15])
    write_list(tmp_path, "flickr30k_test.csv", rows[15:])
    train, test = read_folder(tmp_path, "train"), read_folder(tmp_path, "val")
    assert (len(train), len(test)) == (15, 5)
    assert train.read("text", 0) == rows[0][1]
    assert test.source.endswith("flickr30k_test.csv")


def test_a_validation_list_comes_before_the_test_list(tmp_path):
    for name in ("flickr30k_val.csv", "flickr30k_test.csv"):
        write_list(tmp_path, name, emoji_rows(1))
    assert read_folder(tmp_path, "val").source.endswith("flickr30k_val.csv")


def test_a_missing_split_is_named(tmp_path):
    write_list(tmp_path, "flickr30k_train.csv", emoji_rows(1))
    with pytest.raises(DataError, match=r"(?s)no val data. Looked for flickr30k_val.csv, flickr30k_test.csv"):
        read_folder(tmp_path, "val")


def test_an_unconverted_annotation_names_the_tool(tmp_path):
    (tmp_path / "results_20130124.token").write_text("a.jpg#0\tA .\n")
    with pytest.raises(DataError, match=r"(?s)results_20130124.token lies there: run .*tools/flickr30k_handle.py"):
        read_folder(tmp_path, "train")


def test_images_with_captions_beside_them_are_read_in_path_order(tmp_path):
    first, second = sorted(copy_images(tmp_path / "b", 1) + copy_images(tmp_path / "a", 1))
    (tmp_path / "a" / "notes.txt").write_text("no image of this name")
    (tmp_path / first).with_suffix(".txt").write_text("one\n\ntwo\n", encoding="utf-8")
    (tmp_path / second).with_suffix(".txt").write_text("\u732b\r\n", encoding="utf-8")
    table = read_folder(tmp_path, "train")
    assert [table.read("text", index) for index in range(3)] == ["one", "two", "\u732b"]
    assert [table.image_path(index) for index in range(3)] == [first, first, second]
    assert [table.row(index) for index in range(3)] == [1, 2, 3]


def test_images_that_lack_a_sound_caption_are_named(tmp_path):
    images = sorted(copy_images(tmp_path, 4))
    contents = (b"fine\n", None, b"", b"caf\xe9\n")
    for image, content in zip(images, contents, strict=True):
        if content is not None:
            (tmp_path / image).with_suffix(".txt").write_bytes(content)
    table = read_folder(tmp_path, "train")
    assert len(table) == 1
    reasons = [fault.reason for fault in table.faults]
    assert [fault.path for fault in table.faults] == images[1:]
    assert "no caption file" in reasons[0]
    assert "is empty" in reasons[1]
    assert "not valid text" in reasons[2]


def test_a_folder_with_neither_form_says_what_was_looked_for(tmp_path):
    copy_images(tmp_path, 2)
    with pytest.raises(DataError, match=r"(?s)flickr30k_train.csv.*2 images, none with a .txt file"):
        read_folder(tmp_path, "train")
    with pytest.raises(DataError, match="is no folder"):
        read_folder(tmp_path / "gone", "train")
