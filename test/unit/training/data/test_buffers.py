import os

import torch

from training.data.buffers import Buffers, SharedBuffers

SHAPE = (2, 3, 4, 5)


def address(tensor):
    return tensor.untyped_storage().data_ptr()


def test_memory_is_lent_again_when_nothing_holds_it():
    buffers = Buffers(SHAPE)
    first = buffers.lend()
    assert first.shape == SHAPE
    assert first.dtype == torch.uint8
    where = address(first)
    del first
    assert address(buffers.lend()) == where


def test_memory_is_not_lent_again_while_a_part_of_it_is_held():
    buffers = Buffers(SHAPE)
    for hold in (lambda lent: lent[1, 0], lambda lent: lent.numpy()[0], lambda lent: lent.permute(0, 2, 3, 1)):
        lent = buffers.lend()
        lent.fill_(7)
        held = hold(lent)
        del lent
        other = buffers.lend()
        other.fill_(9)
        assert (held == 7).all()


def test_what_a_forked_process_writes_is_read_here():
    buffers = SharedBuffers(SHAPE, 3)
    place = buffers.ask()
    child = os.fork()
    if not child:
        buffers.to_fill(place, 2).fill_(5)
        os._exit(0)
    os.waitpid(child, 0)
    assert torch.equal(buffers.lend(place, 1), torch.full((1, *SHAPE[1:]), 5, dtype=torch.uint8))


def test_a_shared_place_is_asked_for_again_when_nothing_holds_it():
    buffers = SharedBuffers(SHAPE, 2)
    first, second = buffers.ask(), buffers.ask()
    assert buffers.ask() is None
    held = buffers.lend(first, 2)
    buffers.lend(second, 2)
    assert buffers.ask() == second
    assert buffers.ask() is None
    part = held[0]
    del held
    assert buffers.ask() is None
    del part
    assert buffers.ask() == first


def test_places_whose_batch_will_not_come_are_free_again():
    buffers = SharedBuffers(SHAPE, 2)
    held = buffers.lend(buffers.ask(), 2)
    buffers.ask()
    assert buffers.ask() is None
    buffers.forget_asked()
    assert buffers.ask() is not None
    assert buffers.ask() is None
    del held
