import pickle
from typing import NamedTuple

import pytest
import torch
from torch.utils.data import DataLoader

from open_clip.transformer.texts import Texts
from training.data import Batch, Fault
from training.data.buffers import SharedBuffers
from training.data.parcels import Parcel, register

SHAPE = (2, 3, 4, 5)
FAULT = Fault("list.csv", 3, "a.jpg", "torn")


class Plan(NamedTuple):
    order: torch.Tensor
    groups: tuple[tuple[int, torch.Tensor], ...]
    total: int


def make_batch(images, **fields):
    texts = Texts(torch.arange(6).view(2, 3), torch.tensor([3, 2]))
    return Batch(images, texts, **{"keys": ("a:1", "b:2"), "faults": (FAULT,)} | fields)


def sent(parcel):
    return pickle.loads(pickle.dumps(parcel))


def test_a_parcel_opens_to_the_batch_with_the_images_in_their_shared_place():
    buffers = SharedBuffers(SHAPE, 1)
    number, place = register(buffers), buffers.ask()
    images = buffers.to_fill(place, 2)
    images.copy_(torch.arange(images.numel()).view(SHAPE))
    opened = sent(Parcel(make_batch(images), (number, place))).open()
    assert torch.equal(opened.images, images)
    made = make_batch(images)
    assert torch.equal(opened.texts.ids, made.texts.ids)
    assert torch.equal(opened.texts.lengths, made.texts.lengths)
    for ours, theirs in zip(opened[2:], made[2:], strict=True):
        assert torch.equal(ours, theirs) if isinstance(theirs, torch.Tensor) else ours == theirs
    assert isinstance(opened.faults[0], Fault)
    opened.texts.ids[0, 0] = 5
    opened.images[0] = 1
    assert (images[0] == 1).all()


def test_no_image_travels_with_a_parcel_that_names_its_place():
    buffers = SharedBuffers((2, 3, 224, 224), 1)
    images = buffers.to_fill(buffers.ask(), 2)
    assert len(pickle.dumps(Parcel(make_batch(images), (register(buffers), 0)))) < 2000


def test_images_without_a_place_travel_along():
    images = torch.rand(SHAPE)
    assert torch.equal(Parcel(make_batch(images), None).open().images, images)
    empty = Batch(torch.empty(0), Texts(torch.empty(0, dtype=torch.int64)), keys=(), faults=(FAULT,))
    opened = sent(Parcel(empty, (0, 0))).open()
    assert len(opened.images) == len(opened.texts) == 0
    assert opened.faults == (FAULT,)


def test_tensors_inside_of_a_field_travel_too():
    plan = Plan(torch.tensor([1, 0]), ((16, torch.tensor([0])), (32, torch.tensor([1]))), 5)
    part = Parcel(make_batch(torch.rand(SHAPE), values={"plan": plan}), None).open().values["plan"]
    assert isinstance(part, Plan)
    assert torch.equal(part.order, plan.order)
    assert [(size, rows.tolist()) for size, rows in part.groups] == [(16, [0]), (32, [1])]
    assert part.total == 5


@pytest.mark.parametrize("tensor", [torch.arange(300_000), torch.ones(3, dtype=torch.bfloat16), torch.tensor(7)])
def test_tensors_of_any_size_and_type_travel(tensor):
    [opened] = DataLoader([Parcel(make_batch(torch.rand(SHAPE), values={"one": tensor}), None)], batch_size=None)
    assert torch.equal(
        sent(Parcel(make_batch(torch.rand(SHAPE), values={"one": tensor}), None)).open().values["one"], tensor
    )
    assert torch.equal(opened.open().values["one"], tensor)
