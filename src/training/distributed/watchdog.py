"""Ends a run that hangs, and names who hangs: a thread that watches whether the main thread makes headway.

The limits of the collective libraries stay long and are the last resort: this thread's own are short once training
runs, know phases that may take longer, and end every process with a message and a status.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from torch.distributed.distributed_c10d import Store

from open_clip.errors import DataError, DeviceError, OpenClipError, Preempted, first_line
from training.distributed.collectives import barrier
from training.distributed.courier import Courier
from training.distributed.env import World
from training.distributed.hold_up import LONG_PHASES, HoldUp, judge
from training.distributed.pulse import Pulse, main_thread_place
from training.distributed.signals import StopRequest
from training.distributed.stacks import write_stacks
from training.early_signals import started_by
from training.exit_status import leave_status

_LOG = logging.getLogger(__name__)
_LAST_WORDS_S = 10.0


@dataclass(frozen=True)
class Limits:
    """How long the main thread may make no headway.

    Attributes:
        running_s: In a step and while it waits for data; 0 never ends a run.
        long_s: In start-up, the first step, evaluations and saves.
    """

    running_s: float = 600.0
    long_s: float = 1800.0

    def of(self, phase: str) -> float:
        """Give the limit of a phase."""
        return self.long_s if phase in LONG_PHASES else self.running_s

    @property
    def beat_s(self) -> float:
        """Seconds between two signs of life."""
        return min(max(self.running_s / 20, 0.1), 2.0)


class Watchdog:
    """Context of a run: watches it, tells the other processes about it, and ends it when it hangs.

    Attributes:
        on_hang: Called once before the end with (ranks, message), to leave a record; it must need no other process.
    """

    def __init__(
        self,
        world: World,
        store: Store | None,
        stop: StopRequest,
        limits: Limits,
        *,
        folder: Path | None = None,
        read_trace: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.on_hang: Callable[[tuple[int, ...], str], None] = lambda ranks, message: None
        self._world = world
        self._stop = stop
        self._limits = limits
        self._folder = folder
        self._read_trace = read_trace
        self._phase, self._step = "start-up", 0
        self._is_running = False
        self._headway = 0
        self._still_s = 0.0
        self._beats = 0
        self._left, self._left_status, self._follows = "", 0, False
        self._has_spoken = False
        self._closed = threading.Event()
        self._parent = started_by()
        self._courier: Courier | None = None
        if world.is_distributed and store is not None and limits.running_s > 0:
            self._courier = Courier(store, world.rank, world.world_size, limits.beat_s, self._pulse)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        if self._courier is not None:
            # After it every process has posted its first sign of life.
            barrier(self._world)
            self._courier.start()
        if self._limits.running_s > 0:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, OpenClipError):
                if not isinstance(error, Preempted):
                    self._leave(str(error), error.exit_status, follows=isinstance(error, LostProcesses))
            elif isinstance(error, RuntimeError) and not self._left:
                with self.explaining():
                    raise error
            elif isinstance(error, Exception):
                self._leave(f"{type(error).__name__}: {error}", 1)
        finally:
            self.close()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        # It may hold the whole run, data workers included, which end with it.
        self.on_hang = lambda ranks, message: None
        if self._courier is not None:
            self._courier.close()

    def batch_arrived(self) -> None:
        """Hear that the main thread goes from waiting for data to work."""
        self._enter("step" if self._is_running else "start-up")

    def step_done(self, step: int) -> None:
        """Hear that a step is done and the next batch is waited for."""
        self._step, self._is_running = step, True
        self._enter("data")

    def headway(self) -> None:
        """Hear that the main thread gets on, within the same phase."""
        self._headway += 1

    @contextlib.contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Mark a phase that may take long."""
        before = self._phase
        self._enter(phase)
        try:
            yield
        finally:
            self._enter(before)

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Turn the failure of a collective, which says nothing, into an error that names who is gone.

        Raises:
            LostProcesses: Another process ended or gives no sign of life.
        """
        try:
            yield
        except OpenClipError:
            raise
        except RuntimeError as error:
            found = self._who_is_gone()
            if found is None:
                self._leave(f"{type(error).__name__}: {first_line(error)}", 1)
                raise
            message, status = found
            raise LostProcesses(message, status) from error

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._headway += 1

    def _pulse(self) -> Pulse:
        self._beats += 1
        where, is_waiting = main_thread_place()
        return Pulse(
            beat=self._beats,
            host=socket.gethostname(),
            pid=os.getpid(),
            step=self._step,
            phase=self._phase,
            still_s=round(self._still_s, 1),
            where=where,
            is_waiting=is_waiting,
            left=self._left,
            status=self._left_status,
            follows=self._follows,
        )

    def _leave(self, reason: str, status: int, *, follows: bool = False) -> None:
        """Tell the others why this process ends."""
        self._left, self._left_status, self._follows = " ".join(reason.split())[:300], status, follows
        if self._courier is not None:
            self._courier.post_now()

    def _who_is_gone(self) -> tuple[str, int] | None:
        """Ask who ended or fell silent after a collective failed; None when all others live."""
        if self._courier is None:
            return None
        found = self._judge()
        if found is None:
            return f"{self._describe_silent_store()} {self._advice()}", DeviceError.exit_status
        if not found.is_loss:
            return None
        return f"the processes lost each other: {found.describe()}. {self._advice()}", found.status

    def _judge(self) -> HoldUp | None:
        """Look at all processes; None when the store does not answer."""
        assert self._courier is not None
        looks = self._courier.two_looks(wait_s=10 * self._limits.beat_s)
        return None if looks is None else judge(*looks)

    def _describe_silent_store(self) -> str:
        host = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
        owner = "the launcher of the first node" if self._world.launcher == "torchrun" else "rank 0"
        return f"the processes' meeting point {host} no longer answers: {owner} or its machine is gone or stopped."

    def _advice(self) -> str:
        return "Go on from the last checkpoint with --resume latest."

    def _watch(self) -> None:
        """Count the time without headway; only that in which this thread itself could run, so a frozen job goes on."""
        tick_s = self._limits.beat_s / 2
        seen, is_warned, now = self._headway, False, time.monotonic()
        while not self._closed.wait(tick_s):
            before, now = now, time.monotonic()
            self._check_parent()
            if seen != self._headway:
                if is_warned:
                    _LOG.warning("step %d: goes on after %.0f s without headway", self._step + 1, self._still_s)
                    if self._courier is not None:
                        self._courier.look_away()
                seen, is_warned, self._still_s = self._headway, False, 0.0
                continue
            self._still_s += min(now - before, 4 * tick_s)
            limit = self._limits.of(self._phase)
            if not is_warned and self._still_s > limit / 2:
                is_warned = True
                self._warn(limit)
                self._still_s, now = self._still_s + time.monotonic() - now, time.monotonic()
            # A little early: the launcher needs its time too to end a process that is stopped.
            if self._still_s > limit - 2 * self._limits.beat_s:
                self._end_if_hung(limit)

    def _check_parent(self) -> None:
        if self._world.launcher == "torchrun" and os.getppid() != self._parent and not self._stop.requested:
            _LOG.warning("torchrun, which started rank %d, is gone: stopping after this step", self._world.rank)
            self._stop.ask("launcher gone")

    def _ends_runs(self) -> bool:
        # Alone, only data can keep a process waiting; anything else may just take long.
        return self._courier is not None or self._phase == "data"

    def _warn(self, limit: float) -> None:
        if not self._ends_runs():
            return
        found = self._judge() if self._courier is not None else None
        path = write_stacks(self._folder, self._world.rank, f"no headway for {self._still_s:.0f} s ({self._phase})")
        if found is not None and found.speaker != self._world.rank:
            return
        who = self._describe_silent_store() if self._courier is not None else "no batch comes"
        if found is not None:
            who = found.describe()
        stacks = "" if path is None else f" Stacks of all processes are in {path.parent}."
        _LOG.warning("no headway for %.0f s of %.0f: %s.%s", self._still_s, limit, who.rstrip("."), stacks)

    def _end_if_hung(self, limit: float) -> None:
        if not self._ends_runs():
            return
        if self._courier is None:
            self._end((self._world.rank,), f"no batch came for {self._still_s:.0f} s", DataError.exit_status, True)
        found = self._judge()
        if found is None:
            self._end((), self._describe_silent_store().rstrip("."), DeviceError.exit_status, True)
        if found.is_busy and self._still_s < self._limits.long_s:
            return
        _wake(found.frozen)
        speaks = found.speaker == self._world.rank
        self._end(found.ranks, f"no headway for {limit:.0f} s: {found.describe()}", found.status, speaks)

    def _end(self, ranks: tuple[int, ...], message: str, status: int, speaks: bool) -> NoReturn:
        """End this process, whose main thread may never return from where it is."""
        stacks = write_stacks(self._folder, self._world.rank, message, self._trace())
        where = "" if stacks is None else f" Stacks of all processes are in {stacks.parent}."
        text = (
            f"{message}.{where} {self._advice()} If a step or a batch may take so long, raise --dist-timeout-s (now "
            f"{self._limits.running_s:g})."
        )
        _LOG.log(logging.ERROR if speaks else logging.INFO, "%s", text)
        # A record on a disk that hangs must not keep the process.
        record = threading.Thread(target=self.on_hang, args=(ranks, text), daemon=True)
        record.start()
        self._leave(message, status, follows=True)
        record.join(_LAST_WORDS_S)
        leave_status(status)
        # A data worker that hangs, too, would outlive this process and hold its output open.
        for child in multiprocessing.active_children():
            child.kill()
        logging.shutdown()
        os._exit(status)

    def _trace(self) -> str | None:
        # The record is read from a library that hangs: any failure of it is no reason to stay.
        try:
            return self._read_trace()
        except Exception as error:
            _LOG.debug("no record of the collectives: %s", error)
            return None


def _wake(frozen: tuple[tuple[str, int], ...]) -> None:
    """Let stopped processes of this machine go on, so that they see that the run is over and end too."""
    for host, pid in frozen:
        if host == socket.gethostname():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)


class LostProcesses(DeviceError):
    """Other processes of the run ended or fell silent; carries the status of the one that caused it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.exit_status = status
