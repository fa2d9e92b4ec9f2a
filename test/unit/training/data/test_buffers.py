import os

import torch

from training.data.buffers import Buffers, SharedBuffers, view_bytes

SHAPE = (2, 3, 4, 5)
NUM_BYTES = 128


def address(tensor):
    return tensor.untyped_storage().data_ptr()


def test_memory_is_lent_again_when_nothing_holds_it():
    buffers = Buffers([SHAPE])
    [first] = buffers.lend()
    assert first.shape == SHAPE
    assert first.dtype == torch.uint8
    where = address(first)
    del first
    assert address(buffers.lend()[0]) == where


def test_memory_is_not_lent_again_while_a_part_of_it_is_held():
    buffers = Buffers([SHAPE])
    for hold in (lambda lent: lent[1, 0], lambda lent: lent.numpy()[0], lambda lent: lent.permute(0, 2, 3, 1)):
        [lent] = buffers.lend()
        lent.fill_(7)
        held = hold(lent)
        del lent
        [other] = buffers.lend()
        other.fill_(9)
        assert (held == 7).all()


def test_what_a_forked_process_writes_is_read_here():
    buffers = SharedBuffers([SHAPE], 3)
    place = buffers.ask()
    child = os.fork()
    if not child:
        buffers.to_fill(place)[0].fill_(5)
        os._exit(0)
    os.waitpid(child, 0)
    lent = buffers.lend(place)
    assert lent.shape == (NUM_BYTES,)
    assert (view_bytes(lent, 0, SHAPE) == 5).all()


def test_a_shared_place_is_asked_for_again_when_nothing_holds_it():
    buffers = SharedBuffers([SHAPE], 2)
    first, second = buffers.ask(), buffers.ask()
    assert buffers.ask() is None
    held = buffers.lend(first)
    buffers.lend(second)
    assert buffers.ask() == second
    assert buffers.ask() is None
    part = view_bytes(held, 3, (2, 5))
    del held
    assert buffers.ask() is None
    del part
    assert buffers.ask() == first


def test_places_whose_batch_will_not_come_are_free_again():
    buffers = SharedBuffers([SHAPE], 2)
    held = buffers.lend(buffers.ask())
    buffers.ask()
    assert buffers.ask() is None
    buffers.forget_asked()
    assert buffers.ask() is not None
    assert buffers.ask() is None
    del held


def test_parts_of_a_place_stand_apart_and_tensors_are_found_in_it():
    shapes = [(2, 3, 1, 1), SHAPE, (2, 7)]
    buffers = SharedBuffers(shapes, 2)
    for place in range(2):
        parts = buffers.to_fill(place)
        for number, part in enumerate(parts):
            part.fill_(number + 1)
        assert [part.unique().tolist() for part in parts] == [[1], [2], [3]]
        assert [buffers.offset_of(part[:1], place) for part in parts] == [0, 64, 192]
        assert buffers.offset_of(parts[1], 1 - place) is None
        assert buffers.offset_of(parts[1].permute(0, 2, 3, 1), place) is None
    assert buffers.offset_of(torch.zeros(3), 0) is None
