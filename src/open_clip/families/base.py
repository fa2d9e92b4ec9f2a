"""What the factory asks of a family of models; the answers here assume nothing of what a configuration holds.

What a model does itself it says by the protocols of ``open_clip.protocols``: converting foreign weights, layer groups,
freezing. Images, texts, temperature and captions are all optional; images enter by a part ``visual`` with an
``image_size``.
"""

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError, printable, suggest_nearest
from open_clip.loss import ClipLoss, SigLipLoss

#: Makes a tokenizer: what is called with texts and gives token ids [T, L].
TokenizerMaker = Callable[[], Any]
# Keys of a configuration that the constructor of a model does not get.
_NOT_ARGUMENTS = ("family", "custom_text", "output_dict")


@dataclass(frozen=True)
class Forced:
    """The ``force_*`` options of ``create_model``, by the names they have there."""

    quick_gelu: bool = False
    custom_text: bool = False
    patch_dropout: float | None = None
    image_size: int | tuple[int, int] | None = None
    context_length: int | None = None


@dataclass(frozen=True)
class TokenizerRequest:
    """What is known where a tokenizer is chosen.

    Attributes:
        model: The model's name, without a scheme.
        folder: The folder of a ``local-dir:`` model.
        is_own: Whether the model is of the registry and not of a folder or the hub.
        context_length: Tokens per text; None for the model's own.
        cache_dir: Where downloads are kept.
        options: What the caller asks of the tokenizer.
    """

    model: str
    folder: Path | None
    is_own: bool
    context_length: int | None
    cache_dir: str | None
    options: JsonObject


class Family:
    """Models that share a class and the form of their configuration.

    Attributes:
        name: What a configuration calls it.
        model_class: Makes a model of a configuration's keys.
        adopted: Settings that a weights file may bring along, because options of ``create_model`` change them; keys by
            section, the top level's under an empty name.
    """

    name: ClassVar[str]
    model_class: ClassVar[type[nn.Module]]
    adopted: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def option_names(self) -> tuple[str, ...]:
        """Name the top-level keys that ``create_model`` takes as keyword arguments."""
        return tuple(name for name in inspect.signature(self.model_class).parameters if name != "cast_dtype")

    def check(self, model_cfg: JsonObject) -> None:
        """Check a configuration before anything is built from it.

        Raises:
            ConfigError: it has a key that the model does not take.
        """
        known = (*self.option_names(), *_NOT_ARGUMENTS)
        for key in model_cfg:
            if key not in known:
                near = suggest_nearest(str(key)[:100], known)
                raise ConfigError(f"models of the family {self.name} have no {printable(repr(key), 100)}.{near}")

    def check_texts(self, model_cfg: JsonObject) -> None:
        """Check what a tokenizer is chosen by."""
        self.check(model_cfg)

    def apply_options(self, model_cfg: JsonObject, forced: Forced) -> JsonObject:
        """Return a copy of a configuration with the ``force_*`` options written into it.

        Raises:
            ConfigError: an option has no meaning for these models, or its value cannot be.
        """
        for name, value in vars(forced).items():
            if value not in (None, False):
                raise ConfigError(f"force_{name}={value!r}: models of the family {self.name} have no such option.")
        return deepcopy(model_cfg)

    def ask_base_weights(self, model_cfg: JsonObject, image: bool, text: bool) -> tuple[bool, bool]:
        """Write into a configuration whether towers of other libraries start from those libraries' weights.

        Returns:
            Whether the image tower and the text tower will.
        """
        return False, False

    def build(self, model_cfg: JsonObject, cast_dtype: torch.dtype | None) -> nn.Module:
        """Make the model with random weights.

        Args:
            model_cfg: A checked configuration.
            cast_dtype: The half precision that the caller will cast it to, for models whose layers must know.

        Raises:
            ConfigError: it does not fit the class.
        """
        arguments = {key: value for key, value in model_cfg.items() if key not in _NOT_ARGUMENTS}
        if "cast_dtype" in inspect.signature(self.model_class).parameters:
            arguments["cast_dtype"] = cast_dtype
        try:
            return self.model_class(**arguments)
        except TypeError as error:
            raise ConfigError(f"the model configuration does not fit: {error}.") from error

    def settings(self, model_cfg: JsonObject) -> dict[str, JsonObject]:
        """Give the values of a configuration by section, defaults included, to be compared with another's."""
        sections = {key: dict(value) for key, value in model_cfg.items() if isinstance(value, dict)}
        return {"": {key: value for key, value in model_cfg.items() if key not in sections}, **sections}

    def choose_tokenizer(self, model_cfg: JsonObject, request: TokenizerRequest) -> TokenizerMaker:
        """Say what makes the tokenizer, before anything of it is read.

        Raises:
            ConfigError: the models take no texts, or an option is wrong.
        """
        raise ConfigError(f"models of the family {self.name} take no texts, so they have no tokenizer.")

    def create_loss(self, args: Any, ranks: JsonObject, options: JsonObject) -> ClipLoss | SigLipLoss:
        """Make the loss that ``open_clip.create_loss`` gives for these models.

        Args:
            args: The flags of a trainer.
            ranks: What every loss takes: ``cache_labels``, ``rank``, ``world_size``.
            options: ``ranks`` and what losses over gathered features take besides.
        """
        if getattr(args, "siglip", False):
            return SigLipLoss(**ranks, dist_impl=getattr(args, "loss_dist_impl", None), chunk_size=options["tile_rows"])
        return ClipLoss(**options)
