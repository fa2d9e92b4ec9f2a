"""All flag groups of one run together."""

import argparse
from dataclasses import dataclass, fields

from training.params.data import DataParams, ShardParams
from training.params.flags import read_group
from training.params.fsdp import FsdpParams
from training.params.guards import GuardParams
from training.params.hardware import DistributedParams, HardwareParams
from training.params.model import ImageParams, LockParams, ModelParams
from training.params.optim import OptimParams, ScheduleParams
from training.params.plugins import find_class
from training.params.recipe import RecipeParams
from training.params.run import CheckpointParams, EvaluateParams, ReportParams


@dataclass(frozen=True)
class RunParams:
    """Every flag of a run, by group; each room is given its own group or the few values it needs.

    Attributes:
        own: The flags that the recipe of ``--task`` declares itself, an instance of its ``Flags``.
    """

    model: ModelParams
    image: ImageParams
    lock: LockParams
    recipe: RecipeParams
    data: DataParams
    shards: ShardParams
    optim: OptimParams
    schedule: ScheduleParams
    guards: GuardParams
    hardware: HardwareParams
    distributed: DistributedParams
    fsdp: FsdpParams
    checkpoint: CheckpointParams
    evaluate: EvaluateParams
    report: ReportParams
    own: object = None

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> "RunParams":
        """Sort a parsed namespace into groups."""
        groups = {item.name: read_group(item.type, namespace) for item in fields(cls) if item.name != "own"}  # type: ignore[arg-type]
        own = flags_of(namespace.task)
        return cls(**groups, own=None if own is None else read_group(own, namespace))


def flags_of(task: str | None) -> type | None:
    """Find the flags that a recipe declares; None for none.

    Raises:
        ConfigError: There is no such recipe.
    """
    if task is None:
        return None
    found: type | None = getattr(find_class(task, "--task", "training.tasks"), "Flags", None)
    return found
