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
from training.params.recipe import RecipeParams
from training.params.run import CheckpointParams, EvaluateParams, ReportParams


@dataclass(frozen=True)
class RunParams:
    """Every flag of a run, by group; each room is given its own group or the few values it needs."""

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

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> "RunParams":
        """Sort a parsed namespace into groups."""
        return cls(**{item.name: read_group(item.type, namespace) for item in fields(cls)})  # type: ignore[arg-type]
