"""Saves by the clock."""

from training.checkpoint import SaveTimer
from training.distributed import World

ALONE = World(0, 0, 1, 1)


def test_without_minutes_nothing_is_ever_due():
    assert not any(SaveTimer(0, 1, ALONE).is_due(step) for step in range(100))


def test_the_clock_is_looked_at_in_given_steps_and_starts_again_with_each_save():
    timer = SaveTimer(1e-9, 10, ALONE)
    assert [step for step in range(1, 31) if timer.is_due(step)] == [10, 20, 30]
    slow = SaveTimer(60, 10, ALONE)
    assert not slow.is_due(10)
    slow._last -= 3601
    assert slow.is_due(20)
    slow.restart()
    assert not slow.is_due(30)
