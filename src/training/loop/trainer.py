"""The loop: epochs of steps, with saves, evaluations and stops in between.

It knows tasks, batches and the clock; what a checkpoint, an evaluation or a log line looks like is its hooks' business.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from open_clip.errors import Preempted
from training.data import Batch
from training.distributed import World, mean_over_processes
from training.loop.clock import Clock
from training.loop.feed import Feed
from training.loop.guard import StepGuard
from training.loop.hooks import Hooks, Moment, Wants
from training.loop.phases import DATA
from training.loop.recorder import Recorder, StepRecord
from training.loop.recovery import Recovery, RollBackNeeded, StepPlace
from training.loop.state import Progress, RunningMean
from training.loop.step import Stepper, StepResult
from training.optim import Length
from training.optim.schedule import Schedule


@dataclass(frozen=True)
class Plan:
    """How long to train and how often to look up.

    Attributes:
        length: When the run ends.
        accum_freq: Batches of one optimizer step.
        log_every_n_steps: Optimizer steps between two log lines.
        record_every_n_steps: Optimizer steps between two records of the figures; log lines are recorded in any case.
    """

    length: Length
    accum_freq: int = 1
    log_every_n_steps: int = 100
    record_every_n_steps: int = 10


class Trainer:
    """Trains until the plan is done, a stop is asked for, or the numbers break.

    Args:
        stepper: Takes an optimizer step.
        feed: The batches of each step.
        schedule: Learning rate as a function of the step.
        plan: How long to train.
        progress: Where the run is; kept up to date here.
        hooks: What goes along with the run.
        roll_back: Puts the newest good checkpoint back and gives its progress and name; None when there is none.
        recorder: Hears what happens.
        guard: Judges each step.
        recovery: Follows its verdicts.
        world: Place of this process.
        batch_size: Rows of a batch of one process.
        read_later: Starts to bring a tensor to the host; what it returns waits for the values.
    """

    def __init__(
        self,
        stepper: Stepper,
        feed: Feed,
        schedule: Schedule,
        *,
        plan: Plan,
        progress: Progress,
        hooks: Hooks,
        roll_back: Callable[[], tuple[Progress, str] | None],
        recorder: Recorder,
        guard: StepGuard,
        recovery: Recovery,
        world: World,
        batch_size: int,
        read_later: Callable[[torch.Tensor], Callable[[], list[float]]] = lambda values: values.tolist,
    ) -> None:
        self.stepper = stepper
        self.feed = feed
        self.schedule = schedule
        self.plan = plan
        self.progress = progress
        self.hooks = hooks
        self.recorder = recorder
        self.guard = guard
        self.recovery = recovery
        self.world = world
        self.global_batch = batch_size * world.world_size
        self._put_back = roll_back
        self._clock = Clock()
        self._read_later = read_later
        # Steps whose verdict was not read yet, oldest first.
        self._unread: deque[StepPlace] = deque()
        # Tells the figures of a step whose numbers may not have reached the host yet.
        self._untold: Callable[[], None] | None = None

    def train(self) -> None:
        """Run the epochs that are left.

        Raises:
            Preempted: After a checkpoint, when a signal asked for a stop.
            NumericsError: When the numbers are not finite and the guards allow no other way out.
            DataError: When all processes together met more unusable rows than allowed.
        """
        self._start_from_progress()
        while not self._is_done():
            try:
                stopping = self._train_epoch()
            except RollBackNeeded as reason:
                self._roll_back(reason)
                continue
            # A run that ends inside an epoch stays there: with more steps it goes on as if it had never ended.
            ends_epoch = self.progress.batch >= self.feed.num_batches
            if ends_epoch:
                self.progress.start_next_epoch()
                self.recovery.start_epoch()
                self.feed.start_counting()
            is_last = self._is_done()
            moment = Moment(self.progress.epoch, self.progress.step, ends_epoch, stopping, is_last)
            # Saved first: a run that is killed in the evaluation then only has that to do again.
            self._save(moment)
            if stopping and not is_last:
                raise self._preempted()
            self.hooks.evaluate(moment)

    def _train_epoch(self) -> bool:
        """Train to the end of the epoch or of the run; tell whether a stop was asked for in its last steps."""
        progress, clock = self.progress, self._clock
        self.recorder.start_epoch(progress)
        clock.start()
        for batches in self._batches_of_steps():
            if self.recovery.is_left_out():
                # Counted as if it were taken: learning rate and end of the run stay where they would have been.
                self._count(len(batches))
                clock.skip()
                if self._is_done():
                    break
                continue
            clock.data_arrived()
            lr = self.schedule(progress.step)
            place = StepPlace(progress.epoch, progress.batch, len(batches), progress.step + 1)
            result = self.stepper.step(batches, lr)
            self._unread.append(place)
            self._count(len(batches))
            # Figures and verdict of the step before: reading them here leaves the device a step of work in the queue.
            self._tell()
            stopping = self._read_verdicts(but=1)
            is_last = progress.batch >= self.feed.num_batches or self._is_done()
            self.recorder.tick(progress, lr, len(batches) * self.global_batch, clock.step_done())
            is_logged = progress.step % self.plan.log_every_n_steps == 0 or is_last
            if is_logged or progress.step % self.plan.record_every_n_steps == 0:
                self._record(result, lr, len(batches), is_logged)
            wants = self.hooks.step_done(progress.step)
            if (stopping or wants) and not is_last:
                self._pause(wants, stopping)
            if is_last:
                break
        self._tell()
        stopping = self._read_verdicts()
        self.recovery.check_epoch(math.ceil(progress.batch / self.plan.accum_freq))
        return stopping

    def _is_done(self) -> bool:
        return self.plan.length.is_reached(self.progress.epoch, self.progress.step)

    def _pause(self, wants: Wants, stopping: bool) -> None:
        """Do inside an epoch what hooks want, with the numbers of all steps known.

        Raises:
            Preempted: When a stop was asked for.
        """
        self._tell()
        stopping = self._read_verdicts() or stopping
        moment = Moment(self.progress.epoch, self.progress.step, ends_epoch=False, is_stopping=stopping)
        if (stopping or Wants.SAVE in wants) and (stopping or self.recovery.is_steady):
            self._save(moment)
        if stopping:
            raise self._preempted()
        if Wants.EVALUATION in wants:
            self.hooks.evaluate(moment)
            self._clock.skip()

    def _batches_of_steps(self) -> Iterator[list[Batch]]:
        steps = self.feed.steps(self.progress.epoch, self.progress.batch, self.plan.accum_freq)
        while True:
            with DATA:
                batches = next(steps, None)
            if batches is None:
                return
            for _ in batches:
                self.hooks.batch_arrived()
            yield batches

    def _count(self, num_batches: int) -> None:
        self.progress.batch += num_batches
        self.progress.step += 1
        self.progress.samples_seen += num_batches * self.global_batch

    def _read_verdicts(self, but: int = 0) -> bool:
        """Follow up all steps but the newest so many; tell whether a stop was asked for."""
        stopping = False
        while len(self._unread) > but:
            stopping |= self.recovery.take(self.guard.read(), self._unread.popleft())
        return stopping

    def _save(self, moment: Moment) -> None:
        self.progress.recent_losses = self.guard.window.losses()
        self.hooks.save(moment)

    def _roll_back(self, reason: RollBackNeeded) -> None:
        self.guard.forget()
        self._unread.clear()
        self._untold = None
        with self.hooks.during("save"):
            self.recovery.roll_back(reason, self._put_back)
        self._start_from_progress()

    def _start_from_progress(self) -> None:
        self.guard.window.restore(self.progress.recent_losses)
        self.recovery.start()
        self.feed.start_counting()

    def _preempted(self) -> Preempted:
        return Preempted(f"stopped on request after step {self.progress.step}; a checkpoint is written")

    def _record(self, result: StepResult, lr: float, num_batches: int, is_logged: bool) -> None:
        """Have a step's figures told once they are on the host: one read for all, which no step waits for."""
        progress, rows = self.progress, num_batches * self.global_batch
        names = [*result.losses, "loss"]
        on_device = torch.stack([*(value.float() for value in result.losses.values()), result.total])
        # Under --local-loss each process knows only its rows' share of the loss.
        means = mean_over_processes(on_device, self.world)
        figures = self.stepper.task.figures()
        values = torch.cat([means, *(value.float().reshape(1) for value in figures.values())])
        read = self._read_later(values)
        data_time_s, step_time_s = self._clock.take_means()
        record = partial(
            StepRecord,
            epoch=progress.epoch,
            batch=progress.batch,
            num_batches=self.feed.num_batches,
            num_samples=self.feed.num_batches * self.global_batch,
            step=progress.step,
            samples_seen=progress.samples_seen,
            epoch_samples=progress.batch * self.global_batch,
            lr=lr,
            data_time_s=data_time_s,
            step_time_s=step_time_s,
            samples_per_step=rows,
            world_size=self.world.world_size,
            is_logged=is_logged,
        )

        def tell() -> None:
            told = read()
            for name, value in zip(names, told, strict=False):
                progress.losses.setdefault(name, RunningMean()).update(value, rows)
            losses = {name: (mean.last, mean.mean) for name, mean in progress.losses.items()}
            self.recorder.step(record(figures=dict(zip(figures, told[len(names) :], strict=True)), losses=losses))

        self._untold = tell
        if values.device.type == "cpu":
            self._tell()

    def _tell(self) -> None:
        untold, self._untold = self._untold, None
        if untold is not None:
            untold()
