"""A run ends after so many steps wherever that is, and goes on from there as if it had never ended."""

import pytest
import torch

from loop_runs import SmallRun, make_batches
from open_clip.errors import Preempted
from training.loop import Hook, Moment

BATCHES = 4


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Heard(Hook):
    """Keeps the moments of saves and evaluations."""

    def __init__(self):
        self.saves, self.evaluations = [], []

    def save(self, moment):
        self.saves.append(moment)

    def evaluate(self, moment):
        self.evaluations.append(moment)


class AsksToStop(Hook):
    """Asks for a stop when a batch arrives."""

    def __init__(self, batch):
        self.left, self.run = batch, None

    def batch_arrived(self):
        self.left -= 1
        if self.left == 0:
            self.run.stop.ask("SIGTERM")


def weights(run):
    return torch.cat([value.flatten() for value in run.task.model.state_dict().values()])


def test_a_run_of_steps_ends_inside_an_epoch_with_a_save_and_an_evaluation():
    heard = Heard()
    run = SmallRun(make_batches(BATCHES), max_steps=6, hooks=[heard]).train()
    assert (run.progress.epoch, run.progress.batch, run.progress.step) == (1, 2, 6)
    expected = [Moment(1, 4, ends_epoch=True), Moment(1, 6, ends_epoch=False, is_last=True)]
    assert heard.saves == heard.evaluations == expected
    assert sorted(run.events.losses) == [1, 2, 3, 4, 5, 6]


def test_a_run_that_ends_with_an_epoch_ends_once():
    heard = Heard()
    run = SmallRun(make_batches(BATCHES), max_steps=8, hooks=[heard]).train()
    assert heard.saves[-1] == Moment(2, 8, ends_epoch=True, is_last=True)
    assert [moment.step for moment in heard.evaluations] == [4, 8]
    by_epochs = SmallRun(make_batches(BATCHES), epochs=2).train()
    assert torch.equal(weights(run), weights(by_epochs))


@pytest.mark.parametrize("accum_freq,steps", [(1, 8), (3, 4)])
def test_a_run_goes_on_from_its_last_step_to_the_bit(accum_freq, steps):
    batches = make_batches(BATCHES)
    whole = SmallRun(batches, epochs=2, accum_freq=accum_freq).train()
    for first in range(1, steps):
        start = SmallRun(batches, max_steps=first, accum_freq=accum_freq).train()
        rest = SmallRun(batches, max_steps=steps, accum_freq=accum_freq)
        rest.progress.become(rest.restore(start.saved[-1]))
        rest.train()
        assert rest.progress.step == steps
        assert torch.equal(weights(rest), weights(whole)), first


def test_nothing_is_trained_past_the_last_step():
    run = SmallRun(make_batches(BATCHES), max_steps=5).train()
    again = SmallRun(make_batches(BATCHES), max_steps=3)
    again.progress.become(again.restore(run.saved[-1]))
    again.train()
    assert again.progress.step == 5
    assert torch.equal(weights(again), weights(run))


def test_a_step_that_is_left_out_may_be_the_last():
    run = SmallRun(make_batches(BATCHES), max_steps=3)
    run.progress.left_out = [[0, 2]]
    run.train()
    assert run.progress.step == 3
    assert sorted(run.events.losses) == [1, 2]


def test_a_stop_in_the_last_step_is_the_end_and_one_before_it_is_not():
    asking = AsksToStop(3)
    run = asking.run = SmallRun(make_batches(BATCHES), max_steps=3, hooks=[asking])
    run.train()
    assert run.stop.requested
    asking = AsksToStop(1)
    run = asking.run = SmallRun(make_batches(BATCHES), max_steps=3, hooks=[asking])
    with pytest.raises(Preempted, match="after step 2"):
        run.train()
