import threading

import pytest
from torch.distributed import HashStore

from open_clip.errors import DeviceError
from training.distributed.rollcall import call_roll


def call_all(store, world_size, timeout_s=20.0):
    """Let ranks meet in threads; give what each wrote into its part of the store and read from it."""
    found = {}

    def meet(rank):
        mine = call_roll(store, rank, world_size, timeout_s)
        mine.set(str(rank), f"rank {rank}")
        found[rank] = mine

    threads = [threading.Thread(target=meet, args=(rank,)) for rank in reversed(range(world_size))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout_s)
    return found


def test_all_ranks_share_one_part_of_the_store():
    parts = call_all(HashStore(), 3)
    assert sorted(parts) == [0, 1, 2]
    assert all(part.get("1") == b"rank 1" for part in parts.values())


def test_a_second_attempt_sees_nothing_of_the_first():
    store = HashStore()
    call_all(store, 3)
    # One that died before it was called up leaves its word behind.
    store.set("rollcall/word/2", "of a dead process")
    parts = call_all(store, 2)
    parts = call_all(store, 3)
    assert sorted(parts) == [0, 1, 2]
    assert not call_roll(store, 0, 1, 1.0).check(["1"])


def test_rank_0_names_who_did_not_come():
    store = HashStore()
    store.set("rollcall/word/2", "of a dead process")
    with pytest.raises(DeviceError, match=r"2 of 3 processes did not arrive within 0 s: rank 1, 2\."):
        call_roll(store, 0, 3, 0.2)


def test_the_others_say_that_rank_0_did_not_call():
    with pytest.raises(DeviceError, match="rank 1 was not called up by rank 0"):
        call_roll(HashStore(), 1, 2, 0.3)
