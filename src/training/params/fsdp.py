"""Flags that spread the model over the processes, and what they do not go with."""

from argparse import Namespace
from dataclasses import dataclass

from open_clip.errors import ConfigError
from training.params.flags import flag
from training.params.precisions import PRECISIONS


@dataclass(frozen=True)
class FsdpParams:
    """FSDP."""

    fsdp: bool = flag(
        False,
        "spread parameters, gradients and optimizer state over all processes (FSDP2): a W-th of their memory in each",
    )
    fsdp_no_reshard_after_forward: bool = flag(
        False, "keep a block's whole parameters between forward and backward: faster, more memory"
    )
    fsdp_offload_cpu: bool = flag(
        False, "keep parameters and optimizer state in host memory and update there: much slower"
    )
    fsdp_checkpoint: str = flag(
        "full",
        "full: one file in upstream's layout; sharded: a folder to which each process writes its own part",
        choices=("full", "sharded"),
    )


def check_fsdp(args: Namespace) -> list[str]:
    """Check the flags of FSDP against the others.

    Returns:
        Lines that tell of flags without effect.

    Raises:
        ConfigError: With the flags and what to change.
    """
    if not args.fsdp:
        given = [name for name in ("fsdp_no_reshard_after_forward", "fsdp_offload_cpu") if getattr(args, name)]
        given += ["fsdp_checkpoint"] if args.fsdp_checkpoint != "full" else []
        return [f"--{name.replace('_', '-')} has no effect without --fsdp." for name in given]
    fitting = [name for name, row in PRECISIONS.items() if row.is_spread]
    if args.precision not in fitting:
        raise ConfigError(
            f"--fsdp does not go with --precision {args.precision}, which mixes types of weights. Use --precision "
            "amp_bf16, which gathers and computes in bfloat16, or one of "
            + ", ".join(name for name, row in PRECISIONS.items() if row.is_spread)
            + "."
        )
    if args.save_most_recent and args.fsdp_checkpoint == "sharded":
        raise ConfigError(
            "--save-most-recent does not go with --fsdp-checkpoint sharded; --keep-checkpoints 2 keeps the newest two."
        )
    ddp = [name for name in vars(args) if name.startswith("ddp_") and getattr(args, name)]
    return [f"--{name.replace('_', '-')} has no effect with --fsdp." for name in ddp]
