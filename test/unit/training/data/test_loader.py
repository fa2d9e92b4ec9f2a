import hashlib
import os
import random
import signal
import time

import numpy as np
import pytest
import torch

from image_sets import WordTokenizer, crop_to_uint8, emoji_rows, pair_set, write_pairs
from open_clip.errors import DataError
from open_clip.transform import Compose, image_transform, to_uint8
from training.data import Batch, make_eval_loader, make_train_loader, read_csv_pairs

torch.set_num_threads(1)
# This machine may have fewer cores than a test has workers; that is the point of the test.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return read_csv_pairs(write_pairs(tmp_path_factory.mktemp("pairs") / "train.csv", emoji_rows(20)))


def train_set(table, **options):
    return pair_set(table, crop_to_uint8, WordTokenizer(), **{"seed": 5, **options})


def direct_set(table, **options):
    """Pairs whose images are written in their place of a batch."""
    return pair_set(table, to_uint8(image_transform(32, True)), WordTokenizer(), **{"seed": 5, **options})


def digest(batches):
    sha = hashlib.sha256()
    for batch in batches:
        sha.update(batch.images.numpy().tobytes() + batch.texts.ids.numpy().tobytes() + "".join(batch.keys).encode())
    return sha.hexdigest()


def test_a_batch_holds_what_the_trainer_needs(table):
    batch = next(make_train_loader(train_set(table), batch_size=8, seed=5).epoch(0))
    images, texts = batch.images, batch.texts.ids
    assert images.shape == (8, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert texts.shape == (8, 24)
    assert texts.dtype == batch.texts.lengths.dtype == batch.image_ids.dtype == torch.int64
    for row in range(8):
        assert texts[row, batch.texts.lengths[row] - 1] == WordTokenizer.eot_token_id
        index = int(batch.indices[row])
        assert batch.keys[row] == f"train.csv:{table.row(index)}"
        assert batch.image_ids[row] == table.image_id(index)
    assert batch.faults == ()


def test_moving_a_batch_leaves_what_the_host_plans_with_on_the_host(table):
    batch = next(make_train_loader(train_set(table), batch_size=8).epoch(0)).to("meta")
    assert batch.images.is_meta
    assert batch.texts.ids.is_meta
    assert not batch.texts.lengths.is_meta
    assert not batch.image_ids.is_meta


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_worker_count_changes_no_pixel_and_no_order(table, workers):
    alone = make_train_loader(train_set(table), batch_size=8, seed=5)
    helped = make_train_loader(train_set(table), batch_size=8, seed=5, workers=workers)
    try:
        for epoch in range(2):
            assert digest(helped.epoch(epoch)) == digest(alone.epoch(epoch))
    finally:
        helped.close()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_images_written_in_place_are_those_of_the_transform(table, workers):
    class Foreign(Compose):
        """The same steps, of which the loader does not know what they give."""

    dataset, transform = direct_set(table), to_uint8(image_transform(32, True))
    foreign = pair_set(table, Foreign(transform.transforms), WordTokenizer(), seed=5)
    assert dataset.shapes == ((3, 32, 32),)
    assert foreign.shapes == ()
    loaders = [make_train_loader(one, batch_size=8, seed=5, workers=workers) for one in (dataset, foreign)]
    try:
        for epoch in range(2):
            assert digest(loaders[0].epoch(epoch)) == digest(loaders[1].epoch(epoch))
    finally:
        for loader in loaders:
            loader.close()
    for request in [(0, 3), (1, 7)]:
        assert torch.equal(dataset[request].values["images"][0], foreign[request].values["images"][0])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_that_are_held_keep_their_images(table, workers):
    loader = make_train_loader(direct_set(table), batch_size=8, seed=5, workers=workers)
    try:
        expected = [digest([batch]) for batch in loader.epoch(0)]
        held = [*loader.epoch(0), *loader.epoch(1)]
        assert [digest([batch]) for batch in held[: len(expected)]] == expected
    finally:
        loader.close()


def test_images_of_workers_take_the_same_memory_over_and_over(table):
    loader = make_train_loader(direct_set(table), batch_size=8, seed=5, workers=1)
    places = {batch.images.data_ptr() for epoch in range(3) for batch in loader.epoch(epoch)}
    loader.close()
    assert len(places) <= 5


@pytest.mark.parametrize("workers", [0, 1])
def test_epochs_left_early_leave_no_place_behind(table, workers):
    loader = make_train_loader(direct_set(table), batch_size=8, seed=5, workers=workers)
    expected = digest(make_train_loader(direct_set(table), batch_size=8, seed=5).epoch(3))
    for epoch in range(6):
        next(loader.epoch(epoch))
    places = set()
    assert digest(see_places(loader.epoch(3), places)) == expected
    loader.close()
    assert len(places) <= 5


def see_places(batches, places):
    for batch in batches:
        places.add(batch.images.data_ptr())
        yield batch


def test_two_ranks_with_half_the_batch_see_the_pixels_of_one(table):
    whole = list(make_train_loader(train_set(table), batch_size=8, seed=5).epoch(1))
    halves = [
        list(make_train_loader(train_set(table), batch_size=4, rank=rank, world_size=2, seed=5).epoch(1))
        for rank in range(2)
    ]
    for batch, first, second in zip(whole, *halves, strict=True):
        assert torch.equal(batch.images, torch.cat([first.images, second.images]))
        assert batch.keys == first.keys + second.keys


@pytest.mark.parametrize("workers", [0, 2])
def test_a_start_in_the_middle_gives_the_rest_of_the_epoch(table, workers):
    loader = make_train_loader(train_set(table), batch_size=8, seed=5, workers=workers)
    try:
        whole = list(loader.epoch(2))
        assert loader.num_batches == len(whole) == 12
        assert digest(loader.epoch(2, start_batch=7)) == digest(whole[7:])
        assert list(loader.epoch(2, start_batch=12)) == []
    finally:
        loader.close()


def test_a_start_in_the_middle_reads_nothing_that_comes_before(table):
    read = []

    def counting(image, generator):
        read.append(1)
        return crop_to_uint8(image, generator)

    loader = make_train_loader(pair_set(table, counting, WordTokenizer()), batch_size=8)
    list(loader.epoch(0, start_batch=10))
    assert len(read) == 2 * 8


def test_crops_differ_between_epochs_and_rows(table):
    dataset = train_set(table)
    same_image = [dataset[request].values["images"][0] for request in [*((0, row) for row in range(5)), (1, 0)]]
    assert len({image.numpy().tobytes() for image in same_image}) > 1


def test_epochs_draw_nothing_from_the_random_state_of_the_run(table):
    for workers in (0, 1):
        loader = make_train_loader(train_set(table), batch_size=8, workers=workers)
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()
        list(loader.epoch(0))
        after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()
        loader.close()
        assert torch.equal(before[0], after[0])
        assert before[1:] == after[1:]


def test_a_transform_without_generator_is_as_repeatable(table):
    def foreign(image):
        jitter = torch.rand(1).item() + random.random() + np.random.rand()
        return crop_to_uint8(image, torch.Generator().manual_seed(int(jitter * 1e6)))

    dataset = pair_set(table, foreign, WordTokenizer(), seed=5)
    alone = make_train_loader(dataset, batch_size=8, seed=5)
    helped = make_train_loader(dataset, batch_size=8, seed=5, workers=2)
    state = torch.get_rng_state()
    try:
        assert digest(alone.epoch(0)) == digest(helped.epoch(0))
    finally:
        helped.close()
    assert torch.equal(state, torch.get_rng_state())


def test_a_tokenizer_that_drops_words_at_random_does_not_see_the_batch(table):
    class Dropping(WordTokenizer):
        reduction_fn = staticmethod(random.sample)

        def __call__(self, texts):
            return super().__call__([" ".join(random.sample(text.split(), 2)) for text in texts])

    dataset = pair_set(table, crop_to_uint8, Dropping(), seed=5)
    whole = next(make_train_loader(dataset, batch_size=8, seed=5).epoch(0))
    second = next(make_train_loader(dataset, batch_size=4, rank=1, world_size=2, seed=5).epoch(0))
    assert torch.equal(whole.texts.ids[4:], second.texts.ids)


def test_lengths_are_unknown_without_an_end_token(table):
    dataset = pair_set(table, crop_to_uint8, lambda texts: torch.ones(len(texts), 4, dtype=torch.int64))
    assert next(make_train_loader(dataset, batch_size=8).epoch(0)).texts.lengths is None


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 3])
def test_evaluation_gives_every_row_once_in_order(table, world_size, workers):
    keys = []
    for rank in range(world_size):
        loader = make_eval_loader(
            train_set(table, is_train=False), batch_size=7, rank=rank, world_size=world_size, workers=workers
        )
        assert loader.num_samples == 100
        batches = list(loader)
        assert len(batches) == loader.num_batches
        assert digest(batches) == digest(loader)
        keys += [key for batch in batches for key in batch.keys]
        loader.close()
    assert keys == [f"train.csv:{row}" for row in range(2, 102)]


def test_fewer_rows_than_a_global_batch_is_refused_with_both_numbers(table):
    with pytest.raises(DataError, match=r"100 usable rows an epoch, fewer than one global batch of 128 \(64 x 2"):
        make_train_loader(train_set(table), batch_size=64, world_size=2)


def test_leaving_an_epoch_early_leaves_no_worker_and_no_late_batch(table):
    loader = make_train_loader(train_set(table), batch_size=8, seed=5, workers=2)
    expected = digest(make_train_loader(train_set(table), batch_size=8, seed=5).epoch(1))
    before = children()
    for _ in loader.epoch(0):
        break
    assert digest(loader.epoch(1)) == expected
    workers = children() - before
    assert len(workers) == 2
    loader.close()
    deadline = time.monotonic() + 10
    while children() & workers and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not children() & workers


def test_workers_live_on_over_epochs_and_survive_stop_signals(table):
    loader = make_train_loader(train_set(table), batch_size=8, seed=5, workers=2)
    before = children()
    list(loader.epoch(0))
    workers = children() - before
    for worker in workers:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(worker, number)
    assert len(list(loader.epoch(1))) == 12
    assert children() - before == workers
    loader.close()


def test_a_killed_worker_is_a_clear_error(table):
    def slow(image, generator):
        time.sleep(0.01)
        return crop_to_uint8(image, generator)

    loader = make_train_loader(pair_set(table, slow, WordTokenizer()), batch_size=8, workers=2)
    before = children()
    batches = loader.epoch(0)
    assert isinstance(next(batches), Batch)
    # One only: torch raises for each dead worker, wherever the main process stands when it hears of it.
    os.kill(min(children() - before), signal.SIGKILL)
    with pytest.raises(DataError, match=r"(?s)A data worker process died.*--workers"):
        list(batches)


def test_memory_does_not_grow_over_twenty_epochs(table):
    loader = make_train_loader(train_set(table), batch_size=8, seed=5)
    sizes = []
    for epoch in range(20):
        for _ in loader.epoch(epoch):
            pass
        sizes.append(resident_bytes())
    assert sizes[-1] - sizes[4] < 2e6


def children():
    path = f"/proc/self/task/{os.getpid()}/children"
    with open(path) as file:
        return {int(pid) for pid in file.read().split()}


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
