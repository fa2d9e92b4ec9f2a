"""Flags that choose device, precision and the process group."""

from dataclasses import dataclass

from training.params.flags import flag
from training.params.precisions import PRECISIONS
from training.params.values import SECONDS, loss_scale, number, whole


@dataclass(frozen=True)
class HardwareParams:
    """Device and precision."""

    device: str = flag(
        "auto", "auto, cpu, cuda or npu, with an index such as cuda:1 if wanted; auto takes the best one"
    )
    precision: str = flag(
        "amp",
        "amp: fp16 autocast with a loss scaler (fp32 on a CPU); amp_bf16: bfloat16 autocast; fp16, bf16: converted"
        " weights; apex_o1, apex_o2 (npu_amp): NVIDIA's or Ascend's apex",
        choices=tuple(PRECISIONS),
    )
    loss_scale: str | None = flag(
        None, "loss scale: a number for a static one, or `dynamic` (default: dynamic; apex_o2: 512)", type=loss_scale
    )
    deterministic: bool = flag(
        False, "ask the device for deterministic kernels: needed for exact resume off the CPU, slower"
    )
    seed: int = flag(0, "seed of the weights, of the sample order and of the crops", type=whole(0, 2**32 - 1))


@dataclass(frozen=True)
class DistributedParams:
    """Processes."""

    dist_url: str | None = flag(None, "where processes meet (default: env://, which torchrun sets)")
    dist_backend: str | None = flag(None, "collective backend (default: the device's own)")
    dist_timeout_s: float = flag(
        600.0,
        "seconds a process of a running training may make no headway before the run ends, with all stacks in the run"
        " folder from half of it on; 0 waits for ever",
        type=SECONDS,
    )
    dist_startup_timeout_s: float = flag(
        1800.0,
        "the same for start-up, first step, evaluations and saves, and the limit of the collective library",
        type=number(above=0.0, most=SECONDS.most),
    )
    local_loss: bool = flag(
        False,
        "each process logs the loss of its own rows, with the same gradients; with --loss-tile-rows 0 it also scores "
        "only these and needs less memory",
    )
    gather_with_grad: bool = flag(
        False, "accepted for upstream's scripts: gathered features always carry their gradient here"
    )
    ddp_static_graph: bool = flag(False, "tell DDP that every step uses the same parameters: fewer checks")
    ddp_find_unused: bool = flag(
        False, "let DDP look for parameters a step did not use: slower; locked towers do not need it"
    )
    ddp_bucket_mb: int | None = flag(
        None, "megabytes of gradients that DDP sends together (default: torch's 25)", type=whole(1)
    )
    ddp_comm_dtype: str | None = flag(
        None,
        "send gradients in half precision: half the traffic, sums rounded to it (default: their own)",
        choices=("bf16", "fp16"),
    )
    no_set_device_rank: bool = flag(False, "use device 0 in every process (when the launcher shows each only one)")
