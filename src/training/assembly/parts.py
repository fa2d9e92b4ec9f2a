"""Everything of a run that is made before training starts."""

import logging
from dataclasses import dataclass
from functools import cache, partial

import torch

from open_clip.transform import normalization_of
from training.assembly.compiled import compile_model, refuse_without_compiler
from training.assembly.data import build_train_data
from training.assembly.evaluations import build_evaluation_kit, choose_evaluations
from training.assembly.model import build_model, fit_text_length, refuse_untrained, share_batch_norms
from training.assembly.place import Place
from training.assembly.spread import spread_model
from training.assembly.task import build_task, choose_recipe
from training.assembly.texts import make_text_planner
from training.data import Quarantine, Source, TrainLoader
from training.device import MixedPrecision, make_mixed_precision, resolve_precision, seed_all
from training.distributed import DdpOptions, is_sharded, unwrap_model, wrap_model
from training.evaluate import Evaluation
from training.optim import Length, WeightAverage, build_optimizer, make_length
from training.params import DistributedParams, RunParams
from training.tasks import Setup, Task

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """Everything of a run that is made before training starts."""

    task: Task
    mixed: MixedPrecision
    optimizer: torch.optim.Optimizer | None
    train_loader: TrainLoader | None
    length: Length | None
    eval_table: Source | None
    train_quarantine: Quarantine | None
    evaluations: tuple[Evaluation, ...]

    def close(self) -> None:
        """Stop the processes that read data."""
        for reader in (self.train_loader, *self.evaluations):
            if reader is not None:
                reader.close()


def build_parts(params: RunParams, place: Place) -> Parts:
    """Make model, task, optimizer and loaders, each from what stands before it.

    1. The precision, then the model, alike in all processes, then the recipe made for it.
    2. Loaders and evaluations, which need the recipe's fields.
    3. Of a model that is trained: shared batch norms, compilation, sharding, the optimizer of what is left of it, the
       precision's own wrapper, the wrapper of several processes. Each sees what the one before it has made.
    4. Averages of the weights, which start from the weights as they now are.

    Raises:
        OpenClipError: One of its kinds, naming the flag or file that is wrong.
    """
    hardware = params.hardware
    precision = resolve_precision(hardware.precision, place.device, params.data.trains)
    if precision.note:
        _LOG.info("%s", precision.note)
    if params.model.torchcompile and params.data.trains:
        refuse_without_compiler(place.device)
    place.device.set_deterministic(hardware.deterministic)
    mixed = make_mixed_precision(precision, place.device, place.torch_device, hardware.loss_scale)
    # The same weights in every process; what differs between them (dropout) is seeded after.
    seed_all(hardware.seed, place.device)
    wanted = choose_recipe(params, writes_captions=False).model_options(params)
    model, preprocess_train, preprocess_val = build_model(params, precision.model, place.torch_device, wanted)
    if not params.data.trains and params.checkpoint.resume is None:
        refuse_untrained(model)
    params = fit_text_length(params, model)
    mean, std = normalization_of(preprocess_val)
    task = build_task(Setup(model, params, place.world, place.torch_device, precision, mean, std))
    if task.own is not None:
        task.own.to(place.torch_device)
    seed_all(hardware.seed + place.world.rank, place.device)
    make_planner = cache(partial(make_text_planner, params, place, model))
    train_loader, train_quarantine = build_train_data(params, place, preprocess_train, make_planner, task)
    kit = build_evaluation_kit(params, place, mixed, preprocess_val, task)
    optimizer, model = None, task.model
    if train_loader is not None:
        if params.model.use_bn_sync:
            model = share_batch_norms(model, place)
        if params.model.torchcompile:
            compile_model(model, params.model.torchcompile_mode)
        model = spread_model(model, params.fsdp, place, precision)
        # apex must see the bare model and its optimizer before they are wrapped.
        optimizer = build_optimizer(model, params.optim, place.device, task.own, task.decay_rule)
        model, optimizer = mixed.prepare(model, optimizer)
        if not is_sharded(model):
            model = wrap_model(model, place.torch_device, place.world, _ddp_options(params.distributed))
    task.model = model
    if params.optim.ema_decay is not None:
        task.average = WeightAverage(unwrap_model(model), params.optim.ema_decay)
        task.own_average = None if task.own is None else WeightAverage(task.own, params.optim.ema_decay)
    num_batches = None if train_loader is None else train_loader.num_batches
    return Parts(
        task,
        mixed,
        optimizer,
        train_loader,
        None if num_batches is None else make_length(params.schedule, num_batches, params.optim.accum_freq),
        None if kit.rows is None else kit.rows.source,
        train_quarantine,
        choose_evaluations(task.evaluations(kit), params.evaluate.evaluate),
    )


def count_parameters(parts: Parts) -> int:
    """Count the model's parameters."""
    return sum(parameter.numel() for parameter in unwrap_model(parts.task.model).parameters())


def _ddp_options(params: DistributedParams) -> DdpOptions:
    return DdpOptions(
        static_graph=params.ddp_static_graph,
        find_unused=params.ddp_find_unused,
        bucket_mb=params.ddp_bucket_mb,
        comm_dtype=params.ddp_comm_dtype,
    )
