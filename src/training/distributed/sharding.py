"""Whether and how a model is spread over the processes; the spreading itself, slow to import, is ``fsdp``'s."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch

#: Attribute under which a spread model has its :class:`Spread`.
SPREAD = "_spread"


@dataclass(frozen=True)
class Sharding:
    """How a model is spread.

    Attributes:
        param_dtype: What parameters are gathered and computed in; None for their own type. Gradients are reduced and
            outputs given in fp32 where it is set.
        reshard_after_forward: Free a block's whole parameters between forward and backward.
        offload_to_cpu: Keep the shards and the optimizer state in host memory.
    """

    param_dtype: torch.dtype | None = None
    reshard_after_forward: bool = True
    offload_to_cpu: bool = False


class Spread(Protocol):
    """What ``fsdp`` leaves with a model that it has spread."""

    def lend(self, model: torch.nn.Module) -> AbstractContextManager[torch.nn.Module]:
        """Lend a whole copy of the model; every process must enter."""


def is_sharded(model: torch.nn.Module) -> bool:
    """Tell whether ``fsdp.shard_model`` has spread a model."""
    return hasattr(model, SPREAD)


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """Give what this process holds of a tensor that may be spread."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


@contextlib.contextmanager
def whole_model(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Lend a whole copy of a spread model, for forwards that need not be as many in every process.

    Every process must enter. A model that is not spread is lent as it is.
    """
    if not is_sharded(model):
        yield model
        return
    spread: Spread = getattr(model, SPREAD)
    with spread.lend(model) as whole:
        yield whole
