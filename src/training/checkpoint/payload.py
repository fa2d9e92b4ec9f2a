"""What a checkpoint holds; ``restore`` puts it back into a run.

The layout is upstream's (``epoch, name, state_dict, optimizer, scaler``), so either trainer reads the other's files;
what upstream lacks for an exact continuation stands under ``training_state``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from open_clip.errors import NumericsError, cut_list
from training.checkpoint.schema import OWN_AVERAGE, OWN_WEIGHTS, Payload
from training.device import Device, MixedPrecision, rng_snapshot
from training.distributed import World, gather_objects, is_sharded, unwrap_model
from training.optim import WeightAverage

SCHEMA = 1
#: How names of a recipe's parameters begin where they stand beside a model's; no module's name holds a colon.
OWN = "task:"


@dataclass(frozen=True)
class Trained:
    """The parts of a run that training changes.

    Attributes:
        own: Parameters of the recipe itself, whole in every process; their optimizer is the model's.
        average: The moving average of the model's weights.
        own_average: That of the recipe's.
    """

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    mixed: MixedPrecision
    device: Device
    world: World
    own: torch.nn.Module | None = None
    average: WeightAverage | None = None
    own_average: WeightAverage | None = None

    def parameter_names(self) -> dict[int, str]:
        """Give the name of each parameter by its ``id``; those of the recipe begin with ``task:``."""
        return {id(parameter): name for name, parameter in name_parameters(unwrap_model(self.model), self.own).items()}


@dataclass(frozen=True)
class Order:
    """What the order of the samples depends on, and what they are; a continuation in mid-epoch needs the same."""

    seed: int
    global_batch: int
    num_samples: int
    accum_freq: int = 1
    arrangement: str = ""
    data: str = ""


@dataclass(frozen=True)
class RunState:
    """All that a checkpoint is made of.

    Attributes:
        trained: The live objects.
        progress: Plain numbers that say where the run is; ``epoch``, ``step`` and ``samples_seen`` among them.
        order: What the sample order depends on.
        name: Name of the run.
        extras: Further entries, of plain containers and tensors; :func:`restore` leaves them to others.
    """

    trained: Trained
    progress: Payload
    order: Order
    name: str
    extras: Mapping[str, object] = field(default_factory=dict)


def name_parameters(model: torch.nn.Module, own: torch.nn.Module | None) -> dict[str, torch.nn.Parameter]:
    """Name the parameters of a bare model and of its recipe, as a checkpoint's optimizer does."""
    of_recipe = {} if own is None else {f"{OWN}{name}": value for name, value in own.named_parameters()}
    return dict(model.named_parameters()) | of_recipe


def collect(state: RunState) -> Payload:
    """Gather the state of all processes into one payload; every process must call it.

    Raises:
        NumericsError: When a weight is not finite; such a state is never saved.
    """
    trained, model = state.trained, unwrap_model(state.trained.model)
    if is_sharded(model):
        from training.checkpoint.gathered import gather_optimizer, gather_weights

        weights, optimizer = gather_weights(model, trained.world), gather_optimizer(trained.optimizer, trained.world)
    else:
        weights, optimizer = model.state_dict(), trained.optimizer.state_dict()
        refuse_nonfinite(weights, NumericsError, "the weights to be saved are not finite")
    first = {"epoch": state.progress["epoch"], "name": state.name, "state_dict": weights, "optimizer": optimizer}
    return first | describe(state)


def describe(state: RunState) -> Payload:
    """Gather what :func:`collect` does without what may be spread; every process must call it."""
    trained, progress = state.trained, state.progress
    payload: Payload = {
        "epoch": progress["epoch"],
        "name": state.name,
        "global_step": progress["step"],
        "samples_seen": progress["samples_seen"],
        "training_state": {
            "schema": SCHEMA,
            "progress": progress,
            "order": vars(state.order),
            "rng": gather_objects(rng_snapshot(trained.device), trained.world),
        },
    }
    scaler = trained.mixed.state_dict()
    if scaler:
        payload["scaler"] = scaler
    if trained.average is not None:
        payload |= {"state_dict_ema": trained.average.state_dict(), "ema_updates": trained.average.num_updates}
    if trained.own is not None:
        payload[OWN_WEIGHTS] = trained.own.state_dict()
        refuse_nonfinite(payload[OWN_WEIGHTS], NumericsError, "the recipe's own weights to be saved are not finite")
    if trained.own_average is not None:
        payload[OWN_AVERAGE] = trained.own_average.state_dict()
    assert not payload.keys() & state.extras.keys()
    return payload | dict(state.extras)


def refuse_nonfinite(state: Mapping[str, torch.Tensor], error: type[Exception], what: str) -> None:
    """Refuse weights that are not finite, with one look at most times."""
    floating = {name: value for name, value in state.items() if value.is_floating_point()}
    # A sum in one pass and one read tells that all is well; only a sum that is not finite asks for a closer look.
    sums = [value.sum(dtype=torch.float32) for value in floating.values()]
    if not sums or torch.stack(sums).isfinite().all():
        return
    bad = [name for name, value in floating.items() if not torch.isfinite(value).all()]
    if bad:
        raise error(f"{what}: {cut_list(bad)}. Go on from an earlier checkpoint with a lower --lr or --grad-clip-norm.")
