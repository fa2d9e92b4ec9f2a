"""The loop: epochs of steps, with saves, evaluations and stops in between.

It knows tasks, loaders and the clock; what a checkpoint, an evaluation or a log line looks like is given to it.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from open_clip.errors import Preempted
from training.data import Batch, TrainLoader
from training.distributed import World, mean_over_processes
from training.loop.clock import Clock
from training.loop.guard import StepGuard
from training.loop.phases import DATA, EVALUATION, SAVE
from training.loop.recorder import Recorder, StepRecord
from training.loop.recovery import Recovery, RollBackNeeded, StepPlace
from training.loop.state import Progress, RunningMean
from training.loop.step import Stepper, StepResult
from training.optim.schedule import Schedule


@dataclass(frozen=True)
class Plan:
    """How long to train and how often to look up.

    Attributes:
        epochs: Passes over the data.
        accum_freq: Batches of one optimizer step.
        log_every_n_steps: Optimizer steps between two log lines.
        record_every_n_steps: Optimizer steps between two records of the figures; log lines are recorded in any case.
        save_every_n_steps: Optimizer steps between two saves inside an epoch; 0 for none.
    """

    epochs: int
    accum_freq: int = 1
    log_every_n_steps: int = 100
    record_every_n_steps: int = 10
    save_every_n_steps: int = 0


@dataclass(frozen=True)
class Actions:
    """What the loop has done for it; every process calls each of them at the same point.

    Attributes:
        receive: Brings a batch to the device and accounts for its unusable rows.
        prefetch: Brings the batches of each step to the device ahead of its turn; counts none of them.
        save_step: Saves the state inside an epoch.
        save_epoch: Saves the state at the end of an epoch, where that is due or, given True, in any case.
        evaluate: Evaluates after so many completed epochs, when that is due.
        after_step: Hears the number of each step that is done, and tells whether its state is to be saved.
        roll_back: Puts the newest good checkpoint back and gives its progress and name; None when there is none.
        start_counting: Hears that unusable rows are counted anew: an epoch begins or the run went back.
    """

    receive: Callable[[Batch], Batch]
    save_step: Callable[[], None]
    save_epoch: Callable[[bool], None]
    evaluate: Callable[[], None]
    after_step: Callable[[int], bool] = lambda step: False
    roll_back: Callable[[], tuple[Progress, str] | None] = lambda: None
    start_counting: Callable[[], None] = lambda: None
    prefetch: Callable[[Iterator[list[Batch]]], Iterator[list[Batch]]] = lambda steps: steps


class Trainer:
    """Trains until the plan is done, a stop is asked for, or the numbers break."""

    def __init__(
        self,
        stepper: Stepper,
        loader: TrainLoader,
        schedule: Schedule,
        *,
        plan: Plan,
        progress: Progress,
        actions: Actions,
        recorder: Recorder,
        guard: StepGuard,
        recovery: Recovery,
        world: World,
        batch_size: int,
        read_later: Callable[[torch.Tensor], Callable[[], list[float]]] = lambda values: values.tolist,
    ) -> None:
        self.stepper = stepper
        self.loader = loader
        self.schedule = schedule
        self.plan = plan
        self.progress = progress
        self.actions = actions
        self.recorder = recorder
        self.guard = guard
        self.recovery = recovery
        self.world = world
        self.global_batch = batch_size * world.world_size
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
        while self.progress.epoch < self.plan.epochs:
            try:
                stopping = self._train_epoch()
            except RollBackNeeded as reason:
                self._roll_back(reason)
                continue
            self.progress.start_next_epoch()
            self.recovery.start_epoch()
            self.actions.start_counting()
            self._save(lambda: self.actions.save_epoch(stopping))  # noqa: B023 (called at once)
            if stopping and self.progress.epoch < self.plan.epochs:
                raise self._preempted()
            with EVALUATION:
                self.actions.evaluate()

    def _train_epoch(self) -> bool:
        """Train to the end of the epoch; tell whether a stop was asked for in its last steps."""
        progress, clock = self.progress, self._clock
        self.recorder.start_epoch(progress)
        clock.start()
        for batches in self._batches_of_steps():
            if self.recovery.is_left_out():
                self._count(len(batches))
                clock.step_left_out()
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
            is_last = progress.batch >= self.loader.num_batches
            self.recorder.tick(progress, lr, len(batches) * self.global_batch, clock.step_done())
            is_logged = progress.step % self.plan.log_every_n_steps == 0 or is_last
            if is_logged or progress.step % self.plan.record_every_n_steps == 0:
                self._record(result, lr, len(batches), is_logged)
            wants_save = self.actions.after_step(progress.step)
            if (stopping or wants_save or self._save_is_due()) and not is_last:
                self._tell()
                stopping = self._read_verdicts() or stopping
                if stopping or self.recovery.is_steady:
                    self._save(self.actions.save_step)
                if stopping:
                    raise self._preempted()
        self._tell()
        self.recorder.end_epoch()
        stopping = self._read_verdicts()
        self.recovery.check_epoch(-(-self.loader.num_batches // self.plan.accum_freq))
        return stopping

    def _batches_of_steps(self) -> Iterator[list[Batch]]:
        steps = self.actions.prefetch(self._read_steps())
        while True:
            with DATA:
                batches = next(steps, None)
                if batches is None:
                    return
                received = [self.actions.receive(batch) for batch in batches]
            yield received

    def _read_steps(self) -> Iterator[list[Batch]]:
        batches = iter(self.loader.epoch(self.progress.epoch, self.progress.batch))
        # The last step of an epoch takes what is left: no batch is thrown away.
        while group := list(itertools.islice(batches, self.plan.accum_freq)):
            yield group

    def _save_is_due(self) -> bool:
        every = self.plan.save_every_n_steps
        return every > 0 and self.progress.step % every == 0

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

    def _save(self, save: Callable[[], None]) -> None:
        self.progress.recent_losses = self.guard.window.losses()
        with SAVE:
            save()

    def _roll_back(self, reason: RollBackNeeded) -> None:
        self.guard.forget()
        self._unread.clear()
        self._untold = None
        self.recovery.roll_back(reason, self.actions.roll_back)
        self._start_from_progress()

    def _start_from_progress(self) -> None:
        self.guard.window.restore(self.progress.recent_losses)
        self.recovery.start()
        self.actions.start_counting()

    def _preempted(self) -> Preempted:
        return Preempted(f"stopped on request after step {self.progress.step}; a checkpoint is written")

    def _record(self, result: StepResult, lr: float, num_batches: int, is_logged: bool) -> None:
        """Have a step's figures told once they are on the host: one read for all, which no step waits for."""
        progress, rows = self.progress, num_batches * self.global_batch
        names = [*result.losses, "loss"]
        on_device = torch.stack([*(value.float() for value in result.losses.values()), result.total])
        # Under --local-loss each process knows only its rows' share of the loss.
        means = mean_over_processes(on_device, self.world)
        values = torch.cat([means, self.stepper.task.logit_scale().reshape(1)])
        read = self._read_later(values)
        data_time_s, step_time_s = self._clock.take_means()
        record = partial(
            StepRecord,
            epoch=progress.epoch,
            batch=progress.batch,
            num_batches=self.loader.num_batches,
            num_samples=self.loader.num_batches * self.global_batch,
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
            *losses, logit_scale = read()
            for name, value in zip(names, losses, strict=True):
                progress.losses.setdefault(name, RunningMean()).update(value, rows)
            figures = {name: (mean.last, mean.mean) for name, mean in progress.losses.items()}
            self.recorder.step(record(logit_scale=logit_scale, losses=figures))

        self._untold = tell
        if values.device.type == "cpu":
            self._tell()

    def _tell(self) -> None:
        untold, self._untold = self._untold, None
        if untold is not None:
            untold()
