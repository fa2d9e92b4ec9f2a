"""Image towers made by timm, with CLIP's projection on top. timm itself is an optional package, imported when used.

Shapes: B images, W trunk width, E output width.
"""

import logging
from collections import OrderedDict
from typing import Any, Literal

from torch import Tensor, nn

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError, MissingDependency, first_line, printable, suggest_nearest
from open_clip.extras import install_advice
from open_clip.transformer.freezing import LayerGroup
from open_clip.transformer.patches import check_images
from open_clip.transformer.types import Intermediates
from open_clip.tuples import to_pair

_logger = logging.getLogger(__name__)

_ATTENTION_POOLS = ("abs_attn", "rot_attn")
_PROJECTIONS = ("linear", "mlp", "none")


def import_timm() -> Any:
    """Import timm.

    Raises:
        MissingDependency: it is not installed, or what it needs is not.
    """
    try:
        import timm
        import timm.layers
        import timm.models
    except (ImportError, RuntimeError) as error:
        # A torchvision that does not match torch fails with a RuntimeError in the middle of timm's import.
        raise MissingDependency(
            f"this image tower comes from timm, which cannot be imported ({error}): {install_advice('timm')}."
        ) from error
    return timm


class TimmModel(nn.Module):
    """A timm network ``trunk`` and a ``head`` that pools and projects what it gives.

    ``pool`` is one of timm's ('' = the network's own, avg, token, map, ...) or abs_attn or rot_attn, which stand in the
    head. ``proj`` is linear or mlp in the head, '' for timm's own classifier as the projection, none for no projection.

    Source: open_clip.timm_model.TimmModel (3.3.0): arguments, names and order of the initial draws.

    Raises:
        ConfigError: timm has no such network, or a pool or projection that does not exist.
        MissingDependency: timm is not installed.
    """

    def __init__(
        self,
        model_name: str,
        embed_dim: int,
        image_size: int | tuple[int, int] = 224,
        pool: str = "avg",
        proj: str | None = "linear",
        proj_bias: bool = False,
        drop: float = 0.0,
        drop_path: float | None = None,
        patch_drop: float | None = None,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if proj and proj not in _PROJECTIONS:
            raise ConfigError(f"timm_proj is {proj!r}; it can be {', '.join(_PROJECTIONS)} or nothing.")
        self.image_size = to_pair(image_size)
        self.output_dim = embed_dim
        options = {"drop_path_rate": drop_path, "patch_drop_rate": patch_drop}
        given: JsonObject = {key: value for key, value in options.items() if value is not None}
        if proj in ("linear", "mlp") or pool in _ATTENTION_POOLS:
            self.trunk = _make_trunk(model_name, pretrained, given)
            _take_classifier_off(self.trunk, pool)
        else:
            classes = 0 if proj == "none" else embed_dim
            self.trunk = _make_trunk(model_name, pretrained, given | {"num_classes": classes, "global_pool": pool})
        self.head = self._make_head(pool, proj, proj_bias, drop)

    def _make_head(self, pool: str, proj: str | None, proj_bias: bool, drop: float) -> nn.Sequential:
        layers = import_timm().layers
        width, embed_dim = self.trunk.num_features, self.output_dim
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        if pool == "abs_attn":
            grid = self.trunk.default_cfg["pool_size"]
            parts["pool"] = layers.AttentionPool2d(width, feat_size=grid, out_features=embed_dim)
        elif pool == "rot_attn":
            parts["pool"] = layers.RotAttentionPool2d(width, out_features=embed_dim)
        if pool in _ATTENTION_POOLS:
            width = embed_dim
        if proj == "linear":
            parts["drop"] = nn.Dropout(drop)
            parts["proj"] = nn.Linear(width, embed_dim, bias=proj_bias)
        elif proj == "mlp":
            parts["mlp"] = layers.Mlp(width, 2 * embed_dim, embed_dim, drop=(drop, 0), bias=(True, proj_bias))
        return nn.Sequential(parts)

    def lock(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze the trunk but for its last ``unlocked_groups`` groups of layers, as timm groups them.

        The head stays as it is. ``freeze_bn_stats`` also stops the statistics of the batch norms that are frozen.
        """
        if not unlocked_groups:
            self.trunk.requires_grad_(False)
            if freeze_bn_stats:
                self.trunk = import_timm().layers.freeze_batch_norm_2d(self.trunk)
            return
        group = import_timm().models.group_parameters
        matcher = self.trunk.group_matcher()
        groups: dict[int, list[str]] = group(self.trunk, matcher)
        last_frozen = max(groups) - unlocked_groups
        for index, names in groups.items():
            if index <= last_frozen:
                for name in names:
                    self.trunk.get_parameter(name).requires_grad = False
        if freeze_bn_stats:
            self._freeze_batch_norms(matcher, last_frozen)

    def share_batch_norms(self) -> None:
        """Let batch norms take their statistics over all processes together, in place.

        timm's hold an activation, which torch's own conversion would lose.
        """
        self.trunk = import_timm().layers.convert_sync_batchnorm(self.trunk)

    def layer_groups(self) -> list[LayerGroup]:
        """List the parts from the input to the output, as timm groups them, for learning rates by depth."""
        named = import_timm().models.group_parameters(self.trunk, self.trunk.group_matcher())
        trunk = [[self.trunk.get_parameter(name) for name in named[index]] for index in sorted(named)]
        return [*trunk, [self.head]]

    def _freeze_batch_norms(self, matcher: object, last_frozen: int) -> None:
        timm = import_timm()
        places: dict[str, int] = timm.models.group_modules(self.trunk, matcher, reverse=True)
        for name, module in list(self.trunk.named_modules()):
            is_frozen = places.get(name, last_frozen + 1) <= last_frozen
            # Not by being a leaf: timm's own batch norms hold their activation as a child.
            if is_frozen and isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
                self.trunk.set_submodule(name, timm.layers.freeze_batch_norm_2d(module))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory where the network can; a warning says so where it cannot."""
        try:
            self.trunk.set_grad_checkpointing(enable)
        except (AssertionError, AttributeError, NotImplementedError, TypeError):
            _logger.warning("This timm network cannot recompute its layers; gradient checkpointing stays off.")

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay should leave alone: none by name, as upstream has it."""
        return set()

    def set_input_size(self, image_size: int | tuple[int, int]) -> None:
        """Make the network fit images of another size; position tables are resampled.

        Networks without anything that depends on the size are left alone.
        """
        self.image_size = to_pair(image_size)
        if hasattr(self.trunk, "set_input_size"):
            self.trunk.set_input_size(self.image_size)
        else:
            _logger.info("%s takes images of any size; nothing is changed in it.", type(self.trunk).__name__)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] as [B, E]."""
        check_images(x, None, self.image_size, cells=None, num_positions=0)
        features: Tensor = self.head(self.trunk(x))
        return features

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        stop_early: bool = False,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        output_fmt: Literal["NCHW", "NLC"] = "NCHW",
        output_extra_tokens: bool = False,
    ) -> Intermediates:
        """Encode images and collect the outputs of some blocks or stages; arguments as ``VisionTransformer`` has them.

        Raises:
            ConfigError: the network does not give its intermediates, or not in this way.
        """
        if not hasattr(self.trunk, "forward_intermediates"):
            raise ConfigError(f"timm's {type(self.trunk).__name__} does not give the outputs of its blocks.")
        extra = {"return_prefix_tokens": True} if output_extra_tokens else {}
        try:
            found = self.trunk.forward_intermediates(
                x,
                indices=indices,
                norm=normalize_intermediates,
                stop_early=stop_early,
                output_fmt=output_fmt,
                intermediates_only=intermediates_only,
                **extra,
            )
        except (AssertionError, TypeError) as error:
            raise ConfigError(f"timm's {type(self.trunk).__name__} refuses these options: {error}.") from error
        last, collected = (None, found) if intermediates_only else found
        output: Intermediates = {}
        if output_extra_tokens and collected and isinstance(collected[0], tuple):
            output["image_intermediates_prefix"] = [prefix for _, prefix in collected]
            collected = [tokens for tokens, _ in collected]
        output["image_intermediates"] = collected
        if not intermediates_only:
            output["image_features"] = self.head(self.trunk.forward_head(last))
        return output


def _make_trunk(model_name: str, pretrained: bool, options: JsonObject) -> Any:
    timm = import_timm()
    try:
        return timm.create_model(model_name, pretrained=pretrained, **options)
    except (OSError, RuntimeError) as error:
        if ":" in model_name:
            raise ConfigError(
                f"the image tower {model_name!r} cannot be read: {first_line(error)}. local-dir:FOLDER takes a folder "
                "with timm's config.json, and with its weights if pretrained_image is set."
            ) from error
        if timm.is_model(model_name) and pretrained:
            raise ConfigError(
                f"the base weights of the image tower {model_name!r} cannot be fetched: {first_line(error)}. "
                "pretrained_image=False does without them; pretrained_image_path takes a file with an image tower's "
                "weights, and timm_model_name local-dir:FOLDER a folder that timm saved."
            ) from error
        if timm.is_model(model_name) and "pretrained tag" not in str(error):
            raise
        near = suggest_nearest(model_name, timm.list_models())
        raise ConfigError(
            f"timm {timm.__version__} has no model {printable(model_name)!r}.{near} A newer timm may have it."
        ) from error


def _take_classifier_off(trunk: Any, pool: str) -> None:
    if pool in _ATTENTION_POOLS:
        if not trunk.default_cfg.get("pool_size"):
            raise ConfigError(f"timm_pool {pool!r} needs a network with a map of features; this one gives tokens.")
        trunk.reset_classifier(0, global_pool="")
    else:
        trunk.reset_classifier(0, **({"global_pool": pool} if pool else {}))
