import pickle
from typing import NamedTuple

import pytest
import torch
from torch.utils.data import DataLoader

from open_clip.transformer.texts import Texts
from training.data import Batch, Fault
from training.data.buffers import SharedBuffers
from training.data.parcels import Parcel, Slot, register

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


def fill(shapes, num_rows=2):
    """Return the last of three places of shared buffers and what a worker writes of it, each part in other numbers."""
    buffers = SharedBuffers(shapes, 3)
    place = Slot(register(buffers), buffers.ask())
    parts = [part[:num_rows] for part in buffers.to_fill(place.number)]
    for start, part in enumerate(parts):
        part.copy_((torch.arange(part.numel()) + 7 * start).remainder(251).view(part.shape))
    return buffers, place, parts


def test_a_parcel_opens_to_the_batch_with_the_images_in_their_shared_place():
    buffers, place, [images] = fill([SHAPE])
    opened = sent(Parcel(make_batch(images), place)).open()
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


def test_parts_of_a_place_stand_beside_each_other_wherever_in_the_batch_they_are():
    buffers, place, [images, small, large] = fill([SHAPE, (2, 3, 1, 1), (2, 3, 9, 9)])
    values = {"views": (small, [large]), "others": torch.ones(2, dtype=torch.uint8)}
    opened = sent(Parcel(make_batch(images, values=values), place)).open()
    views = opened.values["views"]
    for ours, theirs in ((opened.images, images), (views[0], small), (views[1][0], large)):
        assert ours.data_ptr() == theirs.data_ptr()
        assert torch.equal(ours, theirs)
    assert opened.values["others"].tolist() == [1, 1]


def test_a_place_is_free_when_its_last_tensor_is_gone():
    buffers, place, [images, small] = fill([SHAPE, (2, 3, 1, 1)])
    opened = Parcel(make_batch(images, values={"view": small}), place).open()
    view = opened.values["view"]
    del opened
    assert {buffers.ask(), buffers.ask(), buffers.ask()} == {0, 1, None}
    del view
    assert buffers.ask() == place.number


def test_a_place_that_a_batch_did_not_need_is_free_at_once():
    buffers, place, _ = fill([SHAPE])
    Parcel(make_batch(torch.ones(2)), place).open()
    assert buffers.ask() == place.number


def test_no_image_travels_with_a_parcel_that_names_its_place():
    buffers, place, [images, view] = fill([(2, 3, 224, 224), (2, 3, 112, 112)])
    assert len(pickle.dumps(Parcel(make_batch(images, values={"view": view}), place))) < 2500


def test_images_without_a_place_travel_along():
    images = torch.rand(SHAPE)
    assert torch.equal(Parcel(make_batch(images), None).open().images, images)
    empty = Batch(torch.empty(0), Texts(torch.empty(0, dtype=torch.int64)), keys=(), faults=(FAULT,))
    opened = sent(Parcel(empty, None)).open()
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
