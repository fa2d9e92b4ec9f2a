from pathlib import Path

import numpy as np
import pytest
import torch

from image_sets import WordTokenizer, crop_to_uint8, emoji_rows, pair_set, write_pairs
from row_sources import ListSource, numbered_rows
from training.data import ImageField, RowDataset, make_eval_loader, read_csv_pairs
from training.data.sides import read_captions

torch.set_num_threads(1)


@pytest.fixture
def rows():
    """Seven images with three captions each, two of which are equal."""
    rows = emoji_rows(7, captions=3)
    rows[16] = (rows[16][0], rows[2][1])
    return rows


@pytest.fixture
def dataset(tmp_path, rows):
    table = read_csv_pairs(write_pairs(tmp_path / "val.csv", rows))
    return pair_set(table, crop_to_uint8, WordTokenizer(), is_train=False)


class Counting(WordTokenizer):
    calls = 0

    def __call__(self, texts):
        Counting.calls += 1
        return super().__call__(texts)


def test_each_different_caption_stands_once_shortest_first(dataset, rows):
    captions = read_captions(dataset, range(21))
    assert captions.tokens.dtype == torch.int32
    assert captions.lengths.tolist() == sorted(captions.lengths.tolist())
    expected = WordTokenizer()([caption for _, caption in rows])
    assert torch.equal(captions.tokens[captions.which].long(), expected)
    assert len(captions.tokens) == len(expected.unique(dim=0)) < 21
    assert captions.rows.tolist() == list(range(21))


def test_without_an_end_token_captions_keep_their_order(dataset):
    dataset.fields["texts"].tokenizer = lambda texts: torch.tensor([[len(text), 1] for text in texts])
    captions = read_captions(dataset, range(5, 9))
    assert captions.lengths is None
    assert captions.rows.tolist() == [5, 6, 7, 8]
    assert captions.tokens[captions.which, 0].tolist() == [len(dataset.source.read("text", row)) for row in range(5, 9)]


def test_no_rows_have_no_captions(dataset):
    captions = read_captions(dataset, range(0))
    assert len(captions.tokens) == len(captions.rows) == len(captions.which) == 0


def test_captions_are_tokenised_once_for_all_evaluations(tmp_path, rows):
    table = read_csv_pairs(write_pairs(tmp_path / "val.csv", rows))
    loader = make_eval_loader(pair_set(table, crop_to_uint8, Counting(), is_train=False), batch_size=4)
    before = Counting.calls
    first = loader.sides.captions()
    assert loader.sides.captions() is first
    assert Counting.calls == before + 1


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_all_processes_together_read_each_image_once_and_each_caption(dataset, world_size, workers):
    shown, captioned = [], []
    for rank in range(world_size):
        loader = make_eval_loader(dataset, batch_size=2, rank=rank, world_size=world_size, workers=workers)
        batches = list(loader.images())
        assert [len(batch.images) for batch in batches][:-1] == [2] * (len(batches) - 1)
        shown += [row for batch in batches for row in batch.indices.tolist()]
        captioned += loader.sides.captions().rows.tolist()
        loader.close()
    assert shown == list(range(0, 21, 3))
    assert captioned == list(range(21))


def test_images_are_numbered_once_wherever_their_rows_stand(tmp_path, rows):
    mixed = [rows[place] for place in np.random.default_rng(0).permutation(21)]
    table = read_csv_pairs(write_pairs(tmp_path / "val.csv", mixed))
    loader = make_eval_loader(pair_set(table, crop_to_uint8, WordTokenizer(), is_train=False), batch_size=4)
    paths = [table.image_path(row) for row in loader.sides.first_rows]
    assert len(paths) == len(set(paths)) == 7
    assert loader.sides.first_rows == sorted(loader.sides.first_rows)
    assert all(table.image_path(row) not in [p for p, _ in mixed[:row]] for row in loader.sides.first_rows)


def test_a_source_may_number_its_images_as_it_likes():
    ids = [2**61, -5, 2**61, 7, -5]
    dataset = RowDataset(ListSource(numbered_rows(5), ids), (ImageField(np.array),), is_train=False)
    loader = make_eval_loader(dataset, batch_size=4)
    assert loader.sides.image_ids.tolist() == [2, 0, 2, 1, 0]
    assert loader.sides.first_rows == [0, 1, 3]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_image_that_cannot_be_read_is_a_fault_of_all_its_rows(tmp_path, rows, workers):
    copies = []
    for number in range(4):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(Path(rows[0][0]).read_bytes())
        copies += [(str(path), f"caption {number} {word}") for word in "ab"]
    table = read_csv_pairs(write_pairs(tmp_path / "val.csv", copies))
    for number in (1, 2):
        (tmp_path / f"{number}.jpg").write_bytes(b"torn")
    loader = make_eval_loader(
        pair_set(table, crop_to_uint8, WordTokenizer(), is_train=False), batch_size=1, workers=workers
    )
    batches = list(loader.images())
    loader.close()
    assert [len(batch.images) for batch in batches] == [1, 0, 0, 1]
    faults = [fault for batch in batches for fault in batch.faults]
    assert [fault.row for fault in faults] == [4, 5, 6, 7]
    assert len({fault.reason for fault in faults}) == 1
