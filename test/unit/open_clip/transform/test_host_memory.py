import numpy as np
import torch

from open_clip.transform.host_memory import Recycler


def _address(tensor):
    return tensor.untyped_storage().data_ptr()


def test_memory_is_handed_out_again_when_nothing_uses_it():
    recycler = Recycler(2)
    first = recycler.empty((2, 3), np.float32)
    assert first.shape == (2, 3)
    assert first.dtype == torch.float32
    where, part = _address(first), first[1].fill_(5)
    del first
    other = recycler.empty((2, 3), np.float32)
    other.fill_(9)
    assert (part == 5).all()
    del part
    assert _address(recycler.empty((2, 3), np.float32)) == where


def test_a_result_of_another_size_gets_memory_of_its_own_and_the_rest_goes_back():
    recycler = Recycler(2)
    recycler.empty((4096,), np.uint8)
    assert len(recycler._free) == 1
    larger = recycler.empty((2, 4096), np.uint8)
    assert larger.fill_(3).sum() == 3 * 8192
    assert not recycler._free


def test_no_more_pieces_are_kept_than_asked():
    recycler = Recycler(2)
    held = [recycler.empty((64,), np.float32) for _ in range(6)]
    assert len({_address(one) for one in held}) == 6
    del held
    assert len(recycler._free) == 2
