from collections import namedtuple
from dataclasses import dataclass, field

import pytest
import torch

from device_under_test import device_under_test
from open_clip.transformer.texts import Texts
from training.data import Batch
from training.data.parcels import Parcel
from training.data.walk import move, pin, rebuild, tensors_in

DEVICE, TORCH_DEVICE = device_under_test()
Pair = namedtuple("Pair", "left right")


@dataclass(frozen=True)
class Targets:
    """A value as a recipe might make it; a check of its own, and a part that no constructor takes."""

    ids: torch.Tensor
    weights: dict[str, torch.Tensor]
    kind: str = "soft"
    total: torch.Tensor = field(init=False)

    def __post_init__(self):
        assert self.kind == "soft"
        object.__setattr__(self, "total", self.ids.sum())


class OnHost:
    """A value that knows what of it moves."""

    def __init__(self, ids, lengths):
        self.ids, self.lengths = ids, lengths

    def to(self, device, non_blocking=False):
        return OnHost(self.ids.to(device, non_blocking=non_blocking), self.lengths)

    def pin_memory(self):
        return OnHost(self.ids.pin_memory(), self.lengths)


def make_values():
    return {
        "label": torch.tensor([1, 2]),
        "views": (torch.ones(2, 3), [torch.zeros(2), "a word"]),
        "pair": Pair(torch.tensor([3.0]), {"deep": {"deeper": torch.tensor([4])}}),
        "targets": Targets(torch.tensor([5, 6]), {"hard": torch.tensor([0.5])}),
        "names": ("a", "b"),
        "size": torch.Size((2, 3)),
        "nothing": None,
    }


def make_batch():
    host = {"keys": ("a:1", "b:2"), "image_ids": torch.tensor([0, 1]), "indices": torch.tensor([7, 8])}
    texts = Texts(torch.zeros(2, 5, dtype=torch.int64))
    return Batch(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), texts, make_values(), **host)


def assert_same(ours, theirs):
    assert type(ours) is type(theirs)
    assert ours["names"] == ("a", "b")
    assert ours["nothing"] is None
    assert type(ours["size"]) is torch.Size
    assert ours["views"][1][1] == "a word"
    assert (type(ours["pair"]), type(ours["targets"])) == (Pair, Targets)
    ours, theirs = list(tensors_in(ours)), list(tensors_in(theirs))
    assert len(ours) == len(theirs) == 8
    assert all(torch.equal(one.cpu(), other) for one, other in zip(ours, theirs, strict=True))


def test_every_tensor_at_any_depth_moves_and_what_the_host_plans_with_stays():
    batch = make_batch().to(TORCH_DEVICE)
    assert {tensor.device.type for tensor in tensors_in((batch.images, batch.texts, batch.values))} == {DEVICE.kind}
    assert {tensor.device.type for tensor in tensors_in((batch.image_ids, batch.indices))} == {"cpu"}
    assert_same(batch.values, make_values())
    assert all(tensor.is_meta for tensor in tensors_in(make_batch().to("meta")[:3]))


def test_every_tensor_at_any_depth_is_sent_from_a_worker():
    opened = Parcel(make_batch(), None).open()
    assert_same(opened.values, make_values())
    assert opened.keys == ("a:1", "b:2")


@pytest.mark.skipif(not DEVICE.pin_memory, reason="this device takes no pinned memory")
def test_every_tensor_at_any_depth_is_pinned():
    batch = make_batch().pin_memory()
    assert all(tensor.is_pinned() for tensor in tensors_in(batch.values))
    assert not batch.indices.is_pinned()
    assert_same(batch.values, make_values())


def test_a_value_that_knows_what_of_it_moves_is_asked():
    value = {"texts": OnHost(torch.ones(2), torch.ones(2))}
    moved = move(value, "meta")["texts"]
    assert (moved.ids.device.type, moved.lengths.device.type) == ("meta", "cpu")


def test_nothing_is_changed_in_place():
    values = make_values()
    move(values, "meta")
    assert_same(values, make_values())
    assert rebuild("a word", str.upper) == "a word"
    assert pin(()) == ()
