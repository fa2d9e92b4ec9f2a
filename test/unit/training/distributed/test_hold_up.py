from dataclasses import replace

import pytest

from training.distributed.hold_up import judge
from training.distributed.pulse import Pulse, main_thread_place

WAITING = Pulse(beat=1, host="a", pid=7, step=11, phase="step", where="loss.py:3 (gather)", is_waiting=True)


def looks(*pulses, silent=()):
    """Two looks: all ranks beat on between them but the silent ones."""
    first = dict(enumerate(pulses))
    return first, {rank: pulse if rank in silent else replace(pulse, beat=9) for rank, pulse in first.items()}, 12.0


def test_a_sign_of_life_survives_the_store():
    assert Pulse.decode(WAITING.encode().encode()) == WAITING


def test_a_rank_without_a_sign_of_life_is_named_with_its_place():
    verdict = judge(*looks(WAITING, replace(WAITING, host="b", pid=8), silent=[1]))
    assert verdict.ranks == (1,)
    assert verdict.is_loss
    assert verdict.status == 6
    assert verdict.frozen == (("b", 8),)
    assert (
        "rank 1 (b, process 8) gives no sign of life since 12 s or longer, last seen in step 12" in verdict.describe()
    )


def test_a_rank_that_starves_for_data_is_named_and_the_status_is_that_of_data():
    starving = replace(WAITING, phase="data", is_waiting=False, still_s=31.2, where="loader.py:9 (next)")
    verdict = judge(*looks(WAITING, starving, WAITING))
    assert verdict.ranks == (1,)
    assert verdict.status == 3
    assert "is in step 12 (data) at loader.py:9 (next) since 31 s" in verdict.describe()


def test_a_rank_that_computes_or_sleeps_is_named():
    verdict = judge(*looks(WAITING, WAITING, replace(WAITING, is_waiting=False, where="vit.py:5 (forward)")))
    assert verdict.ranks == (2,)
    assert not verdict.is_loss
    assert verdict.status == 6


def test_a_rank_that_saves_is_busy():
    assert judge(*looks(replace(WAITING, phase="save", is_waiting=False), WAITING)).is_busy


def test_a_rank_a_step_behind_is_named_when_all_wait():
    assert judge(*looks(WAITING, WAITING, replace(WAITING, step=10))).ranks == (2,)


def test_calls_that_do_not_match_are_said_to_be_so():
    assert "do not match" in judge(*looks(WAITING, WAITING)).describe()


def test_the_cause_is_told_rather_than_those_that_left_because_of_it():
    cause = replace(WAITING, left="a data worker process died", status=3)
    follower = replace(WAITING, left="the processes lost each other", status=6, follows=True)
    verdict = judge(*looks(follower, cause, WAITING, silent=[0, 1]))
    assert verdict.ranks == (1,)
    assert (verdict.status, verdict.speaker) == (3, 2)
    assert "ended: a data worker process died" in verdict.describe()


def test_a_rank_that_only_followed_is_told_when_nothing_else_is_known():
    verdict = judge(*looks(replace(WAITING, left="no headway", status=6, follows=True), WAITING, silent=[0]))
    assert verdict.ranks == (0,)


@pytest.mark.parametrize("count", [40])
def test_many_ranks_are_cut_short(count):
    verdict = judge(*looks(*[WAITING] * count, silent=range(1, count)))
    assert verdict.describe().endswith(f"and {count - 1 - 8} more")


def test_the_main_threads_place_is_a_line_of_code():
    where, is_waiting = main_thread_place()
    assert ":" in where
    assert not is_waiting
