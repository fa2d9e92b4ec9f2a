"""Agree on who is there before the process group starts: names who is missing, and hears no echo of an attempt before.

torchrun keeps one store for all its attempts, so after a restart it still holds what dead processes wrote, addresses
among it, and the count of restarts differs between nodes. Here every process shows a word made for the occasion.
"""

import datetime
import secrets
import time

from torch.distributed.distributed_c10d import PrefixStore, Store

from open_clip.errors import DeviceError, cut_list

_POLL_S = 0.05


def call_roll(store: Store, rank: int, world_size: int, timeout_s: float) -> Store:
    """Wait until every process is there.

    Returns:
        The part of the store that belongs to this attempt of the run alone.

    Raises:
        DeviceError: Some did not come in time; on rank 0 with who.
    """
    store.set_timeout(datetime.timedelta(seconds=timeout_s))
    calls = PrefixStore("rollcall", store)
    name = _call(calls, world_size, timeout_s) if rank == 0 else _answer(calls, rank, timeout_s)
    return PrefixStore(name, store)


def _answer(calls: Store, rank: int, timeout_s: float) -> str:
    """Show a word of one's own, and answer when rank 0 has read that one and not a dead process's."""
    word = secrets.token_hex(8)
    try:
        calls.set(f"word/{rank}", word)
        name: str = calls.get(f"read/{word}").decode()
        calls.set(f"here/{name}/{rank}", word)
        calls.get(f"start/{name}")
    except RuntimeError as error:
        raise DeviceError(
            f"rank {rank} was not called up by rank 0 within {timeout_s:.0f} s: {str(error).partition(chr(10))[0]}. "
            "Rank 0 says who is missing, if it was started at all."
        ) from error
    return name


def _call(calls: Store, world_size: int, timeout_s: float) -> str:
    """Read every process's word until all have answered to the name of this attempt."""
    name, deadline = secrets.token_hex(8), time.monotonic() + timeout_s
    missing = list(range(1, world_size))
    read: dict[int, str] = {}
    while missing:
        for rank in missing:
            if calls.check([f"word/{rank}"]):
                word = calls.get(f"word/{rank}").decode()
                if read.get(rank) != word:
                    calls.set(f"read/{word}", name)
                    read[rank] = word
        missing = [rank for rank in missing if not calls.check([f"here/{name}/{rank}"])]
        if missing and time.monotonic() > deadline:
            raise DeviceError(
                f"{len(missing)} of {world_size} processes did not arrive within {timeout_s:.0f} s: rank "
                f"{cut_list(missing, 16)}. Look at the launcher and their logs; --dist-startup-timeout-s waits longer."
            )
        if missing:
            time.sleep(_POLL_S)
    calls.set(f"start/{name}", "1")
    return name
