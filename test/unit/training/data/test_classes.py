import numpy as np
import pytest
import torch
from PIL import Image

from open_clip.errors import DataError
from open_clip.transform import image_transform, to_direct, to_uint8
from training.data import LabelField, RowDataset, read_class_folder, rgb_first


def make_folder(root, names, count=2):
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (4, 4)).save(root / name / f"{number}.png")
    return root


def class_numbers(table, classes):
    """Read the classes by their numbers, and by their names."""
    fields = LabelField(), LabelField("named", "text", classes)
    batch = RowDataset(table, fields, is_train=False).read_batch([(0, row) for row in range(len(table))])
    assert torch.equal(batch.tensor("labels"), batch.tensor("named"))
    return batch.tensor("labels").tolist()


def test_classes_come_in_the_order_of_their_letters(tmp_path):
    table, classes = read_class_folder(make_folder(tmp_path, ["n02", "n01", "n10"]))
    assert classes == ["n01", "n02", "n10"]
    assert [table.read("text", row) for row in range(len(table))] == ["n01", "n01", "n02", "n02", "n10", "n10"]
    assert class_numbers(table, classes) == [0, 0, 1, 1, 2, 2]


def test_numbered_classes_come_in_the_order_of_their_numbers(tmp_path):
    make_folder(tmp_path, ["0", "10", "2"], count=1)
    assert read_class_folder(tmp_path, by_number=True)[1] == ["0", "2", "10"]
    table, classes = read_class_folder(tmp_path)
    assert classes == ["0", "2", "10"]
    assert class_numbers(table, classes) == [0, 1, 2]
    assert read_class_folder(make_folder(tmp_path, ["ten"], count=1))[1] == ["0", "10", "2", "ten"]
    with pytest.raises(DataError, match="'ten' is not a number"):
        read_class_folder(tmp_path, by_number=True)


def test_images_of_sub_folders_count_and_other_files_do_not(tmp_path):
    make_folder(tmp_path, ["a"], count=1)
    make_folder(tmp_path / "a", ["deep"], count=1)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "readme.md").write_text("no class")
    table, classes = read_class_folder(tmp_path)
    assert (len(table), classes) == (2, ["a"])


def test_what_is_no_class_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        read_class_folder(tmp_path / "none")
    with pytest.raises(DataError, match="holds no class folders"):
        read_class_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        read_class_folder(tmp_path)


def test_a_dangling_link_is_a_refused_row(tmp_path):
    make_folder(tmp_path, ["a"], count=1)
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert len(read_class_folder(tmp_path)[0].faults) == 1


def test_images_are_turned_to_rgb_before_the_transform():
    palette = Image.new("P", (2, 2))
    assert rgb_first(lambda image: image.mode)(palette) == "RGB"
    assert rgb_first(np.asarray)(palette).shape == (2, 2, 3)


def test_the_turn_to_rgb_becomes_a_step_of_a_transform_that_has_steps():
    transform = to_uint8(image_transform(8, is_train=False))
    palette = Image.effect_noise((20, 30), 90).convert("P")
    turned = rgb_first(transform)
    assert torch.equal(turned(palette), transform(palette.convert("RGB")))
    assert to_direct(turned) is not None
