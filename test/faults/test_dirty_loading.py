"""Bad images met while loading: replaced in training, left out in evaluation, counted in both."""

import os

import pytest
import torch

from image_sets import IMAGES_DIR, IMAGES_OF_EMOJI, WordTokenizer, crop_to_uint8, pair_set, write_pairs
from open_clip.errors import DataError
from open_clip.transform import image_transform, to_uint8
from training.data import Quarantine, make_eval_loader, make_train_loader, read_csv_pairs

torch.set_num_threads(1)
pytestmark = pytest.mark.faults
IMAGE = IMAGES_OF_EMOJI[0]
TRANSFORMS = (crop_to_uint8, to_uint8(image_transform(32, True)))


@pytest.fixture
def broken_table(tmp_path):
    """Twenty rows of four images, of which the second was torn after the list was read."""
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.jpg").write_bytes((IMAGES_DIR / os.path.basename(IMAGE)).read_bytes())
    rows = [(str(tmp_path / f"{name}.jpg"), f"{name} {number}") for name in "abcd" for number in range(5)]
    table = read_csv_pairs(write_pairs(tmp_path / "pairs.csv", rows))
    torn = tmp_path / "b.jpg"
    torn.write_bytes(torn.read_bytes()[:500])
    return table


@pytest.mark.parametrize("transform", TRANSFORMS, ids=["foreign", "direct"])
@pytest.mark.parametrize("workers", [0, 2])
def test_training_replaces_a_torn_image_by_the_next_sound_row(broken_table, workers, transform):
    dataset = pair_set(broken_table, transform, WordTokenizer())
    loader = make_train_loader(dataset, batch_size=5, workers=workers)
    batches = list(loader.epoch(0))
    loader.close()
    faults = [fault for batch in batches for fault in batch.faults]
    assert sorted(fault.row for fault in faults) == [7, 8, 9, 10, 11]
    assert all("torn or broken" in fault.reason for fault in faults)
    keys = [key for batch in batches for key in batch.keys]
    assert len(keys) == 20
    assert keys.count("pairs.csv:12") == 6
    assert all(len(batch.images) == len(batch.texts) == 5 for batch in batches)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=["foreign", "direct"])
@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_leaves_a_torn_image_out_and_gives_no_empty_batch(broken_table, workers, transform):
    loader = make_eval_loader(
        pair_set(broken_table, transform, WordTokenizer(), is_train=False), batch_size=5, workers=workers
    )
    batches = list(loader)
    loader.close()
    assert [len(batch.images) for batch in batches] == [5, 5, 5]
    assert [fault.row for batch in batches for fault in batch.faults] == [7, 8, 9, 10, 11]
    assert {int(index) for batch in batches for index in batch.indices} == set(range(5)) | set(range(10, 20))


def test_bad_rows_at_the_end_of_an_evaluation_are_not_forgotten(tmp_path, broken_table):
    (tmp_path / "d.jpg").unlink()
    loader = make_eval_loader(pair_set(broken_table, crop_to_uint8, WordTokenizer(), is_train=False), batch_size=5)
    assert sum(len(batch.faults) for batch in loader) == 10


@pytest.mark.parametrize("workers", [0, 1])
def test_when_no_image_is_left_the_run_ends_with_the_first_reasons(tmp_path, broken_table, workers):
    for name in "abcd":
        (tmp_path / f"{name}.jpg").write_bytes(b"")
    dataset = pair_set(broken_table, crop_to_uint8, WordTokenizer())
    loader = make_train_loader(dataset, batch_size=5, workers=workers)
    with pytest.raises(DataError, match=r"(?s)^4 rows one after the other.*image file is empty"):
        list(loader.epoch(0))
    loader.close()
    with pytest.raises(DataError, match="None of the 20 rows to evaluate"):
        list(make_eval_loader(pair_set(broken_table, crop_to_uint8, WordTokenizer(), is_train=False), batch_size=5))


def test_when_the_only_image_is_gone_the_run_speaks_of_one_row(tmp_path):
    only = tmp_path / "a.jpg"
    only.write_bytes((IMAGES_DIR / os.path.basename(IMAGE)).read_bytes())
    table = read_csv_pairs(write_pairs(tmp_path / "pairs.csv", [(str(only), "a cat")]))
    only.write_bytes(b"")
    loader = make_train_loader(pair_set(table, crop_to_uint8, WordTokenizer()), batch_size=1, workers=0)
    with pytest.raises(DataError, match="^1 row cannot be used, so no sound row is left to take its place"):
        list(loader.epoch(0))


def test_a_transform_that_fails_on_one_image_is_that_rows_fault(broken_table):
    def picky(image, generator):
        raise ZeroDivisionError("no area")

    sample = pair_set(broken_table, picky, WordTokenizer(), is_train=False)[0, 0]
    assert sample.faults[0].reason == "transform failed: no area (ZeroDivisionError)"


def test_faults_of_reading_and_of_training_share_one_budget(tmp_path, broken_table):
    quarantine = Quarantine(tmp_path / "bad.jsonl", broken_table.num_rows_read, budget=0.2)
    loader = make_train_loader(pair_set(broken_table, crop_to_uint8, WordTokenizer()), batch_size=5)
    batches = list(loader.epoch(0))
    with pytest.raises(DataError, match="5 of 20 rows are bad"):
        quarantine.record(fault for batch in batches for fault in batch.faults)
