"""Tie a run to what watches it: the watchdog that ends a hang and the comparison that names a slow process."""

import dataclasses
import logging
from collections.abc import Callable

from torch.distributed.distributed_c10d import Store

from training.assembly import Place
from training.data import Batch
from training.device import Device
from training.distributed import Limits, StopRequest, Stragglers, Watchdog, World
from training.journal import Journal
from training.loop import Actions, Progress
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


def watched(actions: Actions, watchdog: Watchdog, stragglers: Stragglers) -> Actions:
    """Let what watches a run hear what the loop does."""

    def receive(batch: Batch) -> Batch:
        watchdog.batch_arrived()
        stragglers.batch_arrived()
        return actions.receive(batch)

    def after_step(step: int) -> bool:
        stragglers.step_done(step)
        wants_save = actions.after_step(step)
        watchdog.step_done(step)
        return wants_save

    def save_epoch(in_any_case: bool) -> None:
        with watchdog.during("save"):
            actions.save_epoch(in_any_case)

    def roll_back() -> tuple[Progress, str] | None:
        with watchdog.during("save"):
            return actions.roll_back()

    return dataclasses.replace(
        actions,
        receive=receive,
        after_step=after_step,
        save_step=_during("save", actions.save_step, watchdog),
        save_epoch=save_epoch,
        roll_back=roll_back,
        evaluate=_during("evaluation", actions.evaluate, watchdog),
    )


def _during(phase: str, act: Callable[[], None], watchdog: Watchdog) -> Callable[[], None]:
    def acting() -> None:
        with watchdog.during(phase):
            act()

    return acting
