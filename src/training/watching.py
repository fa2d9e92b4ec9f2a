"""Tie a run to what watches it: the watchdog that ends a hang and the comparison that names a slow process."""

import contextlib
import logging

from torch.distributed.distributed_c10d import Store

from training.assembly import Place
from training.device import Device
from training.distributed import Limits, StopRequest, Stragglers, Watchdog, World
from training.journal import Journal
from training.loop import Hook, Wants
from training.params import DistributedParams, ReportParams
from training.run_folder import RunFolder

_LOG = logging.getLogger(__name__)


def make_watchdog(
    params: DistributedParams, device: Device, world: World, store: Store | None, stop: StopRequest, folder: RunFolder
) -> Watchdog:
    """Make the watchdog of a process; it watches once it is entered."""
    return Watchdog(
        world,
        store,
        stop,
        Limits(params.dist_timeout_s, params.dist_startup_timeout_s),
        folder=folder.stacks,
        read_trace=device.collective_trace,
    )


def make_stragglers(report: ReportParams, place: Place, journal: Journal) -> Stragglers:
    """Make the comparison of a process's speed with the others', as often as figures are recorded."""

    def tell(is_slow: bool, ranks: list[int], message: str) -> None:
        if place.world.is_master:
            _LOG.log(logging.WARNING if is_slow else logging.INFO, "%s", message)
            journal.event("slow_rank" if is_slow else "slow_rank_recovered", ranks=ranks, reason=message)

    every = min(report.log_every_n_steps, report.log_metric_every_n_steps)
    return Stragglers(place.world, place.torch_device, every, tell)


class Watching(Hook):
    """Lets the watchdog and the comparison of processes hear how a run gets on."""

    def __init__(self, watchdog: Watchdog, stragglers: Stragglers) -> None:
        self._watchdog = watchdog
        self._stragglers = stragglers

    def batch_arrived(self) -> None:
        """Tell both that the wait for data is over."""
        self._watchdog.batch_arrived()
        self._stragglers.batch_arrived()

    def step_done(self, step: int) -> Wants:
        """Tell both; the comparison is a collective, so the watchdog must not think that data is waited for yet."""
        self._stragglers.step_done(step)
        self._watchdog.step_done(step)
        return Wants.NOTHING

    def during(self, phase: str) -> contextlib.AbstractContextManager[object]:
        """Let the watchdog wait longer."""
        return self._watchdog.during(phase)
