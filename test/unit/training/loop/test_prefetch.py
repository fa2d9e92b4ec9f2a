"""Batches on their way to the device; run on another one with OPENCLIP_TEST_DEVICE."""

import pytest
import torch

from device_under_test import device_under_test
from open_clip.errors import DataError
from open_clip.transformer.layout import plan_texts
from open_clip.transformer.texts import Texts
from training.data import Batch
from training.data.walk import tensors_in
from training.loop import Prefetcher

DEVICE, TORCH_DEVICE = device_under_test()


def make_batch(number):
    lengths = torch.tensor([3, 5]) + number
    layout = plan_texts(lengths, shapes="bucketed", context_length=32)
    images, texts = torch.full((2, 3, 4, 4), number, dtype=torch.uint8), torch.full((2, 32), number)
    batch = Batch(images, Texts(texts, lengths, layout), {"labels": (torch.full((2,), number),)})
    return batch.pin_memory() if DEVICE.pin_memory else batch


def test_batches_arrive_whole_and_in_order():
    steps = ([make_batch(number), make_batch(number + 1)] for number in range(0, 8, 2))
    seen = []
    for step in Prefetcher(DEVICE, TORCH_DEVICE)(steps):
        for batch in (batch.to(TORCH_DEVICE) for batch in step):
            assert batch.texts.lengths.device.type == "cpu"
            moved = [batch.images, batch.texts.ids, *tensors_in((batch.texts.layout, batch.values))]
            assert {tensor.device.type for tensor in moved} == {DEVICE.kind}
            texts = batch.texts.ids.index_select(0, batch.texts.layout.rows).float().mean()
            labels = batch.values["labels"][0].float().mean()
            seen.append((batch.images.float().mean(), texts, labels, batch.texts.layout.ends.max()))
    assert [tuple(value.item() for value in values) for values in seen] == [(n, n, n, n + 4) for n in range(8)]


def test_an_error_of_the_loader_comes_when_its_step_would_have():
    def steps():
        yield [make_batch(0)]
        raise DataError("no more")

    iterator = Prefetcher(DEVICE, TORCH_DEVICE)(steps())
    assert next(iterator)[0].texts.ids[0, 0].item() == 0
    with pytest.raises(DataError, match="no more"):
        next(iterator)


def test_nothing_is_read_further_ahead_than_one_step():
    read = []

    def steps():
        for number in range(5):
            read.append(number)
            yield [make_batch(number)]

    iterator = Prefetcher(DEVICE, TORCH_DEVICE)(steps())
    next(iterator)
    assert read == ([0] if DEVICE.copy_stream() is None else [0, 1])
    next(iterator)
    assert len(read) <= 3


def test_a_loader_without_batches_gives_none():
    assert list(Prefetcher(DEVICE, TORCH_DEVICE)(iter([]))) == []
