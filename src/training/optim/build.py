"""Build the optimizer the device runs best, or one of timm's."""

import logging
from collections.abc import Sequence

import torch

from open_clip.errors import ConfigError
from training.device import Device
from training.optim.groups import Group, State, find_undecayed, layer_scales, parameter_groups
from training.optim.rows import hold_other_rows
from training.optim.saved_groups import implementation
from training.optim.timm_optimizers import build_timm_optimizer
from training.params.optim import OptimParams
from training.run_folder import FILE_LINE

_LOG = logging.getLogger(__name__)
_TIMM = "timm/"
Named = Sequence[tuple[str, torch.nn.Parameter]]


def build_optimizer(
    model: torch.nn.Module,
    params: OptimParams,
    device: Device,
    own: torch.nn.Module | None = None,
    decay_rule: str = "openclip",
) -> torch.optim.Optimizer:
    """Make the optimizer of ``--opt`` over all trainable parameters; AdamW fused where the device has that.

    Args:
        model: The model.
        params: The optimizer's flags.
        device: Where it runs.
        own: A recipe's own parameters, which come after the model's.
        decay_rule: The recipe's, in the place of which ``--decay-rule`` is taken where it is given.

    Raises:
        ConfigError: Every parameter is frozen, or there is no such optimizer or argument.
        MissingDependency: A timm optimizer is asked for and timm is not installed.
    """
    named = [*model.named_parameters(), *(() if own is None else own.named_parameters(prefix="task"))]
    learned = {name.rpartition(".")[2] for name, parameter in named if parameter.requires_grad}
    if learned <= {"logit_scale", "logit_bias"}:
        raise ConfigError(
            "both towers are frozen, and scale and bias of their scores alone teach nothing: leave out --lock-image or "
            "--lock-text, or unlock groups or layers."
        )
    groups = _make_groups(model, own, params, decay_rule)
    if params.opt.startswith(_TIMM):
        has_own_groups = own is not None or decay_rule != "openclip" or _asks_for_groups(params)
        optimizer = _build_timm(groups if has_own_groups else model, params)
    else:
        optimizer = _build_adamw(groups, named, params, device)
    hold_other_rows(optimizer, *(part for part in (model, own) if part is not None))
    shown = ", ".join(f"{name}: {value}" for name, value in (optimizer.defaults | {"weight_decay": params.wd}).items())
    _LOG.info("Created %s (%s) optimizer: %s", type(optimizer).__name__, params.opt, shown, extra=FILE_LINE)
    return optimizer


def _make_groups(
    model: torch.nn.Module, own: torch.nn.Module | None, params: OptimParams, decay_rule: str
) -> list[Group]:
    rule = params.decay_rule or decay_rule
    spared = find_undecayed(rule, model) | (set() if own is None else find_undecayed(rule, own, "task"))
    scales = layer_scales(model, params.image_layer_decay, params.text_layer_decay)
    exclude = spared.union(params.wd_exclude or ())
    groups = parameter_groups(model.named_parameters(), params.wd, exclude=exclude, scales=scales, rule=rule)
    if own is not None:
        # Apart from the model's: with --fsdp those are spread and these whole, and no fused kernel takes both.
        of_recipe = parameter_groups(own.named_parameters(prefix="task"), params.wd, exclude=exclude, rule=rule)
        groups += [group for group in of_recipe if group["params"]]
    return groups


def _asks_for_groups(params: OptimParams) -> bool:
    """Tell whether a flag sorts parameters, which timm would sort by its own rule."""
    flags = (params.decay_rule, params.wd_exclude or None, params.image_layer_decay, params.text_layer_decay)
    return any(value is not None for value in flags)


def _build_adamw(groups: list[Group], named: Named, params: OptimParams, device: Device) -> torch.optim.Optimizer:
    if params.lr is None or params.beta1 is None or params.beta2 is None or params.eps is None:
        raise ConfigError("lr, beta1, beta2 and eps must be set; training.params.parse_args fills them in.")
    options = device.optimizer_options([parameter for _, parameter in named if parameter.requires_grad])
    known = {"lr": params.lr, "betas": (params.beta1, params.beta2), "eps": params.eps}
    try:
        return torch.optim.AdamW(groups, **{**known, **options, **params.opt_kwargs})
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"--opt-kwargs {params.opt_kwargs}: AdamW refuses them: {error}.") from error


def _build_timm(parameters: torch.nn.Module | list[Group], params: OptimParams) -> torch.optim.Optimizer:
    given: dict[str, object] = {
        "lr": params.lr,
        "weight_decay": params.wd,
        "eps": params.eps,
        "momentum": params.momentum,
    }
    if params.beta1 is not None:
        given["betas"] = (params.beta1, params.beta2)
    options = {name: value for name, value in given.items() if value is not None} | params.opt_kwargs
    return build_timm_optimizer(parameters, params.opt.removeprefix(_TIMM), options)


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: State) -> None:
    """Load a state that :func:`fit_optimizer_state` gave, keeping this device's own way to compute a step."""
    settings = [implementation(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group, times the group's own factor where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
