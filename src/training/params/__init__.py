"""The trainer's flags: one dataclass a group, one place that collects them."""

from training.params.cli import default_optimizer_settings, make_parser, parse_args
from training.params.cli import default_optimizer_settings as get_default_params
from training.params.data import DataParams, ShardParams
from training.params.file import flags_with_secrets, look_into_settings, write_settings
from training.params.flags import KeyValueAction as ParseKwargs
from training.params.fsdp import FsdpParams
from training.params.groups import RunParams
from training.params.guards import GuardParams
from training.params.hardware import DistributedParams, HardwareParams
from training.params.model import ImageParams, LockParams, ModelParams
from training.params.optim import OptimParams, ScheduleParams
from training.params.recipe import RecipeParams
from training.params.rules import check_rules
from training.params.run import CheckpointParams, EvaluateParams, ReportParams

__all__ = [
    "CheckpointParams",
    "DataParams",
    "DistributedParams",
    "EvaluateParams",
    "FsdpParams",
    "GuardParams",
    "HardwareParams",
    "ImageParams",
    "LockParams",
    "ModelParams",
    "OptimParams",
    "ParseKwargs",
    "RecipeParams",
    "ReportParams",
    "RunParams",
    "ScheduleParams",
    "ShardParams",
    "check_rules",
    "default_optimizer_settings",
    "flags_with_secrets",
    "get_default_params",
    "make_parser",
    "parse_args",
    "look_into_settings",
    "write_settings",
]
