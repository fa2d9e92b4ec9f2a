"""Spread a model's parameters, gradients and optimizer state over all processes (FSDP2); loads and saves nothing.

Scalars such as the logit scale stay whole in every process and in full precision: they cannot be split, and half
precision would move the temperature by a hundredth. Their gradients are averaged here.
"""

import contextlib
import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from open_clip.errors import DeviceError
from open_clip.modified_resnet import ModifiedResNet
from training.distributed.env import World
from training.distributed.sharding import SPREAD, Sharding
from training.distributed.spread_tensors import shard_like, whole_tensor

_LOG = logging.getLogger(__name__)
# The parameters of one module by name, as the module itself holds them.
_Slots = dict[str, nn.Parameter | None]


def shard_model(model: nn.Module, torch_device: torch.device, world: World, sharding: Sharding) -> nn.Module:
    """Spread a model over all processes, block by block; it stays the same object with the same names.

    Args:
        model: A bare model, the same in every process.
        torch_device: Where this process computes.
        world: Place of this process; the process group is there.
        sharding: How to spread.

    Raises:
        DeviceError: When this torch cannot spread models on the device.
    """
    _check_torch(torch_device)
    spread = _Spread(_skeleton_of(model), torch_device)
    options: dict[str, Any] = {
        "mesh": init_device_mesh(torch_device.type, (world.world_size,)),
        "offload_policy": _offload_policy(sharding, torch_device),
    }
    inner, outer = _precision_policies(sharding.param_dtype)
    blocks = find_blocks(model)
    with _scalars_put_aside(model) as scalars:
        for block in blocks:
            fully_shard(block, reshard_after_forward=sharding.reshard_after_forward, mp_policy=inner, **options)
        fully_shard(model, mp_policy=outer, **options)
    reduction = _Reduction(world)
    for scalar in scalars:
        if scalar.requires_grad:
            scalar.register_post_accumulate_grad_hook(reduction.average)  # type: ignore[no-untyped-call]
    model.register_load_state_dict_pre_hook(_shard_entries)  # type: ignore[no-untyped-call]
    # What DDP calls it, so that the loop need not know which of the two it has.
    object.__setattr__(model, "no_sync", lambda: reduction.paused(model))
    # Past nn.Module's own bookkeeping: the skeleton is no part of the model.
    object.__setattr__(model, SPREAD, spread)
    _LOG.info("the model is spread over %d processes in %d blocks and the rest", world.world_size, len(blocks))
    return model


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """List the modules whose parameters travel together: outermost repeated blocks, and stages of a ResNet."""
    blocks: list[nn.Module] = []
    _collect_blocks(model, blocks)
    return blocks


def reshard(model: nn.Module) -> None:
    """Free the whole parameters that a forward may have left; the spread ones are the truth."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def share_buffers(model: nn.Module) -> None:
    """Give every process the master's buffers, such as running statistics of batch norms, as DDP does."""
    for buffer in model.buffers() if dist.is_initialized() else ():
        dist.broadcast(buffer, src=0)


@dataclass(frozen=True)
class _Spread:
    """What a spread model's whole copy is made from: a model without memory, and where it goes."""

    skeleton: nn.Module
    torch_device: torch.device

    @contextlib.contextmanager
    def lend(self, model: nn.Module) -> Iterator[nn.Module]:
        """Lend a whole copy of the model; every process must enter."""
        reshard(model)
        whole: dict[int, nn.Parameter] = {}
        hollow: list[tuple[_Slots, _Slots]] = []
        for lent, own in zip(_slots(self.skeleton), _slots(model), strict=True):
            hollow.append((lent, dict(lent)))
            for name, parameter in own.items():
                if parameter is None:
                    continue
                # One parameter may stand in two places.
                if id(parameter) not in whole:
                    value = whole_tensor(parameter.detach()).to(self.torch_device)
                    whole[id(parameter)] = nn.Parameter(value, requires_grad=parameter.requires_grad)
                lent[name] = whole[id(parameter)]
        share_buffers(model)
        self.skeleton.train(model.training)
        try:
            yield self.skeleton
        finally:
            for lent, before in hollow:
                lent.update(before)


class _Reduction:
    """Averages the gradients of scalars, which nobody else does, except while that is paused."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_paused = False

    def average(self, parameter: Tensor) -> None:
        """Average a gradient that was just added to."""
        if not self._is_paused and parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= self._world.world_size

    @contextlib.contextmanager
    def paused(self, model: nn.Module) -> Iterator[None]:
        """Let gradients add up in each process."""
        assert isinstance(model, FSDPModule)
        self._is_paused = True
        model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self._is_paused = False
            model.set_requires_gradient_sync(True)


def _check_torch(torch_device: torch.device) -> None:
    # torch 2.6 takes the host for a device with streams there.
    if torch_device.type == "cpu" and not hasattr(FSDPModule, "set_reshard_after_forward"):
        raise DeviceError(
            f"torch {torch.__version__} spreads models (--fsdp) on accelerators only. Install a newer torch, or leave "
            "out --fsdp on the CPU."
        )


def _precision_policies(param_dtype: torch.dtype | None) -> tuple[MixedPrecisionPolicy, MixedPrecisionPolicy]:
    """Give the policy of blocks and that of the whole: what goes from block to block stays in the parameters' type."""
    if param_dtype is None:
        return MixedPrecisionPolicy(), MixedPrecisionPolicy()
    inner = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=torch.float32)
    return inner, replace(inner, output_dtype=torch.float32)


def _offload_policy(sharding: Sharding, torch_device: torch.device) -> OffloadPolicy:
    if not sharding.offload_to_cpu:
        return OffloadPolicy()
    if torch_device.type == "cpu":
        _LOG.warning("--fsdp-offload-cpu has no effect on the CPU.")
        return OffloadPolicy()
    return CPUOffloadPolicy()


def _collect_blocks(module: nn.Module, blocks: list[nn.Module]) -> None:
    if isinstance(module, ModifiedResNet):
        blocks.extend(getattr(module, f"layer{number}") for number in range(1, 5))
        return
    children = list(module.children())
    if isinstance(module, nn.ModuleList | nn.Sequential) and _are_alike(children):
        blocks.extend(children)
        return
    for child in children:
        _collect_blocks(child, blocks)


def _are_alike(children: list[nn.Module]) -> bool:
    # A list of lists has no forward of its own to gather the parameters for.
    is_container = isinstance(children[0], nn.ModuleList | nn.ModuleDict) if children else True
    has_parameters = all(any(True for _ in child.parameters()) for child in children)
    return len(children) > 1 and not is_container and has_parameters and len({type(child) for child in children}) == 1


def _slots(model: nn.Module) -> list[_Slots]:
    """List the dicts in which modules hold their parameters."""
    return [module._parameters for module in model.modules() if module._parameters]


@contextlib.contextmanager
def _scalars_put_aside(model: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Hide parameters of one value while the model is spread, and put them back into their places."""
    aside: list[tuple[_Slots, _Slots]] = []
    scalars: list[nn.Parameter] = []
    for slots in _slots(model):
        here = {name: value for name, value in slots.items() if value is not None and value.numel() == 1}
        if here:
            aside.append((slots, dict(slots)))
            scalars.extend(here.values())
            for name in here:
                del slots[name]
    try:
        yield scalars
    finally:
        for slots, before in aside:
            now = dict(slots)
            slots.clear()
            # In the order of before: names of parameters are counted off against saved optimizer states.
            slots.update({name: now.get(name, value) for name, value in before.items()})


def _skeleton_of(model: nn.Module) -> nn.Module:
    """Copy a model without the memory of its parameters; its buffers are shared."""
    memo: dict[int, Tensor] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)
        for parameter in model.parameters()
    }
    memo |= {id(buffer): buffer for buffer in model.buffers()}
    return copy.deepcopy(model, memo)


def _shard_entries(module: nn.Module, state: dict[str, Tensor], *_: object) -> None:
    """Replace whole tensors of a state dict that is being loaded by this process's parts."""
    reshard(module)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if name in state:
            state[name] = shard_like(state[name], parameter)
