"""One start of the trainer, from parsed flags to the last report; what main calls and nothing else knows."""

import argparse
import contextlib
import logging
from collections.abc import Iterator

from open_clip.errors import DeviceError, OpenClipError, Preempted
from training.assembly import Parts, Place, build_parts, build_trainer, check_inputs
from training.assembly.data import describe_workers
from training.device import Device, select_device
from training.distributed import (
    StopRequest,
    Watchdog,
    World,
    barrier,
    broadcast_object,
    is_sharded,
    start_process_group,
    stop_process_group,
    unwrap_model,
    world_from_environment,
)
from training.early_signals import run_begins
from training.elsewhere import keep_copy, take_up
from training.evaluating import Evaluator
from training.exit_status import leave_run
from training.failures import explain_failures
from training.journal import Journal, open_journal
from training.loop import EVALUATION, Hook, Progress
from training.opening import describe_opening, log_start, resume_command, stopped_words
from training.params import CheckpointParams, RunParams
from training.resume import resume, roll_back
from training.run_folder import (
    RunFolder,
    choose_name,
    describe_run,
    find_folder,
    hold_folder,
)
from training.saving import Saver
from training.tracing import StepTrace
from training.watching import Watching, make_stragglers, make_watchdog

_LOG = logging.getLogger(__name__)


def run_session(args: argparse.Namespace) -> None:
    """Train, or only evaluate, as the flags say.

    Raises:
        OpenClipError: One of its kinds; each carries the exit status of the program.
    """
    params = RunParams.from_namespace(args)
    world = world_from_environment()
    device = select_device(params.hardware.device, world.world_size)
    _check_process_limit(device, world, params)
    check_inputs(params, world)
    own_index = world.is_distributed and not params.distributed.no_set_device_rank
    index = world.local_rank if world.device_index is None else world.device_index
    torch_device = device.activate(index if own_index else None)
    # Until all are there nothing is to be saved: a signal ends the process.
    store = start_process_group(
        device,
        world,
        backend=params.distributed.dist_backend,
        init_method=params.distributed.dist_url,
        timeout_s=params.distributed.dist_startup_timeout_s,
    )
    with StopRequest() as stop, contextlib.ExitStack() as held, contextlib.ExitStack() as undo:
        run_begins()
        folder = find_folder(params.checkpoint, broadcast_object(choose_name(args), world))
        held.enter_context(_taken(params.checkpoint, folder, world))
        if world.is_master and folder.is_new:
            undo.callback(folder.take_back)
        watchdog = make_watchdog(params.distributed, device, world, store, stop, folder)
        place = Place(device, torch_device, world, folder, watchdog.headway)
        with open_journal(params.report, place) as journal, watchdog, explain_failures(device, params):
            if world.is_master:
                log_start(place, args, describe_workers(params))
            session = Session(params, place, journal, stop, watchdog, resume_command(place, args))
            if world.is_master:
                describe_run(folder, args)
            undo.pop_all()
            with keep_copy(params.checkpoint, folder, world):
                session.run()
        stop_process_group()


@contextlib.contextmanager
def _taken(params: CheckpointParams, folder: RunFolder, world: World) -> Iterator[None]:
    """Hold the run folder; the master does, and where it cannot, every process ends.

    Raises:
        OpenClipError: The master's own in the master, a word of it in the others.
    """
    with contextlib.ExitStack() as held:
        problem: OpenClipError | None = None
        if world.is_master:
            try:
                held.enter_context(hold_folder(params, folder))
                take_up(params, folder)
            except OpenClipError as error:
                problem = error
        kind = broadcast_object(None if problem is None else type(problem), world)
        if problem is not None:
            raise problem
        if kind is not None:
            raise kind("the first process cannot use the run folder and says why.")
        yield


class Session:
    """A run in the making: its parts, its checkpoints, its journal."""

    def __init__(
        self,
        params: RunParams,
        place: Place,
        journal: Journal,
        stop: StopRequest,
        watchdog: Watchdog,
        how_to_go_on: str,
    ) -> None:
        self.params = params
        self.place = place
        self.journal = journal
        self.stop = stop
        self.watchdog = watchdog
        self.how_to_go_on = how_to_go_on
        self.parts: Parts = build_parts(params, place)
        self.progress, self.resumed_from = resume(params, self.parts, place)
        self.saver = Saver(params, place, self.parts, self.progress, journal, self.resumed_from)
        self.evaluator = Evaluator(place, self.parts, self.progress, journal)
        watchdog.on_hang = self._record_hang

    def run(self) -> None:
        """Train what is left, evaluate where due, and end with summary and report."""
        self.journal.begin(self.params, self.place, self.parts, self.progress, self.resumed_from)
        try:
            if self._is_done():
                done = self.progress.step, self.progress.epoch
                _LOG.info("nothing is left to do: all %d steps (%d whole epochs) are trained and evaluated", *done)
                if not self.journal.is_told():
                    self.journal.finish("finished", self.saver.newest)
                leave_run(self.place.folder.root, trains=False)
                return
            if self.place.world.is_master:
                start = self.progress, self.resumed_from
                _LOG.info(describe_opening(self.params, self.place, self.parts, *start, self.how_to_go_on))
            with self.watchdog.explaining(), explain_failures(self.place.device, self.params):
                self._train_or_evaluate()
        except Preempted as stopped:
            with self.watchdog.during("save"):
                self.saver.finish()
                self.journal.event("stop", signal=self.stop.signal_name)
                # Nobody leaves before the master has saved: torchrun ends all when one process leaves.
                barrier(self.place.world)
            self.journal.finish("stopped", self.saver.newest)
            raise Preempted(stopped_words(str(stopped), self.place.world, self.how_to_go_on)) from None
        except Exception:
            # Faults of a user's own recipe, too: what was trained so far is told.
            self.saver.close()
            self.journal.finish("failed", self.saver.newest)
            raise
        finally:
            self.saver.close()
            self.parts.close()
        self.journal.finish("finished", self.saver.newest)

    def _train_or_evaluate(self) -> None:
        if self.parts.train_loader is None or self.evaluator.is_missing(self.resumed_from):
            with EVALUATION, self.watchdog.during("evaluation"):
                self.evaluator.evaluate_now()
        if self.parts.train_loader is None:
            return
        trainer = build_trainer(
            self.params,
            self.place,
            self.parts,
            self.progress,
            stop=self.stop,
            hooks=self._hooks(),
            roll_back=self._roll_back,
            recorder=self.journal.recorder,
        )
        leave_run(self.place.folder.root, trains=True)
        trainer.train()

    def _is_done(self) -> bool:
        is_resumed = self.resumed_from is not None and self.parts.train_loader is not None
        length = self.parts.length
        is_trained = length is not None and length.is_reached(self.progress.epoch, self.progress.step)
        return is_resumed and is_trained and not self.evaluator.is_missing(self.resumed_from)

    def _hooks(self) -> list[Hook]:
        """List what goes along with the training, in the order in which it hears of a step."""
        hooks: list[Hook] = []
        if self.params.report.profile and self.parts.length is not None:
            left = self.parts.length.steps - self.progress.step
            hooks.append(StepTrace(self.params.report.profile_steps, left, self.place, self.progress.step))
        stragglers = make_stragglers(self.params.report, self.place, self.journal)
        model = self.parts.task.model
        if not is_sharded(model):
            # A sharded model waits for the others inside its forward pass, which then tells nothing of this process.
            stragglers.watch(unwrap_model(model))
        return [*hooks, self.saver, self.evaluator, Watching(self.watchdog, stragglers)]

    def _record_hang(self, ranks: tuple[int, ...], message: str) -> None:
        self.journal.event("hang", ranks=list(ranks), reason=message)
        self.journal.finish("failed", self.saver.newest)

    def _roll_back(self) -> tuple[Progress, str] | None:
        # What is still being written may be what to go back to.
        self.saver.close()
        found = roll_back(self.params, self.parts, self.place, self.resumed_from)
        return None if found is None else (found[0], str(found[1]))


def _check_process_limit(device: Device, world: World, params: RunParams) -> None:
    """Refuse too many processes in each of them, before any waits for the others."""
    limit = device.process_limit()
    if params.distributed.no_set_device_rank or limit is None or world.local_world_size <= limit:
        return
    raise DeviceError(
        f"{world.local_world_size} processes were started on this machine and {limit} {device.kind} device(s) are "
        f"visible. Start one process a device (--nproc_per_node {limit}), or ask for the CPU: --device cpu."
    )
