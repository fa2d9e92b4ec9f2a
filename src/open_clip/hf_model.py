"""Text towers made by transformers, pooled and projected. transformers itself is optional, imported when used.

Shapes: B texts, L tokens, D encoder width, E output width.
"""

import contextlib
import logging
import os
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError, MissingDependency, cut_list, printable, suggest_nearest
from open_clip.extras import install_advice, run_no_foreign_code, tell_of_hub
from open_clip.hf_configs import ENCODERS, arch_dict
from open_clip.transformer.freezing import LayerGroup
from open_clip.transformer.types import Intermediates

_logger = logging.getLogger(__name__)

_REMEDY = (
    "Without a network, put its config.json, and model.safetensors for base weights, into a folder and name that as "
    "hf_model_name in a model JSON of your own (open_clip.add_model_config); pretrained_text=False needs no weights."
)
_PROJECTIONS = ("linear", "mlp")
# What transformers brings itself; other names are kernels that it fetches from the hub.
_ATTENTIONS = (None, "eager", "sdpa")


def import_transformers() -> Any:
    """Import transformers.

    Raises:
        MissingDependency: it is not installed, or what it needs is not.
    """
    try:
        import transformers
    except (ImportError, RuntimeError) as error:
        raise MissingDependency(
            f"this needs the transformers package, which cannot be imported ({error}): {install_advice('hf')}."
        ) from error
    return transformers


class EncoderConfig(Protocol):
    """The configuration of an encoder of transformers, whose other entries are named by ``hf_configs``."""

    model_type: str
    pad_token_id: int


class EncoderOutput(Protocol):
    """What an encoder of transformers gives; some have a ``pooler_output`` besides."""

    last_hidden_state: Tensor


class MeanPooler(nn.Module):
    """Averages the last hidden states [B, L, D] over the positions that are no padding."""

    def forward(self, output: EncoderOutput, attention_mask: Tensor) -> Tensor:
        """Pool to [B, D]; ``attention_mask`` [B, L] is 1 where a token stands."""
        masked = output.last_hidden_state * attention_mask.unsqueeze(-1)
        mean: Tensor = masked.sum(dim=1) / attention_mask.sum(-1, keepdim=True)
        return mean


class MaxPooler(nn.Module):
    """Takes the largest of the last hidden states [B, L, D] over the positions that are no padding."""

    def forward(self, output: EncoderOutput, attention_mask: Tensor) -> Tensor:
        """Pool to [B, D]; ``attention_mask`` [B, L] is 1 where a token stands."""
        masked = output.last_hidden_state.masked_fill(attention_mask.unsqueeze(-1) == 0, float("-inf"))
        largest: Tensor = masked.max(1).values
        return largest


class ClsPooler(nn.Module):
    """Takes the encoder's own pooled vector where it has one, the first position's otherwise."""

    def __init__(self, use_pooler_output: bool = True) -> None:
        super().__init__()
        self.cls_token_position = 0
        self.use_pooler_output = use_pooler_output

    def forward(self, output: EncoderOutput, attention_mask: Tensor) -> Tensor:
        """Pool to [B, D]; padding never stands first, so the mask is not looked at."""
        pooled: Tensor | None = getattr(output, "pooler_output", None) if self.use_pooler_output else None
        if pooled is None:
            first: Tensor = output.last_hidden_state[:, self.cls_token_position]
            return first
        return pooled


class ClsLastHiddenStatePooler(ClsPooler):
    """Takes the first position of the last hidden states, whatever pooling the encoder has."""

    def __init__(self) -> None:
        super().__init__(use_pooler_output=False)


_POOLERS: dict[str, type[nn.Module]] = {
    "mean_pooler": MeanPooler,
    "max_pooler": MaxPooler,
    "cls_pooler": ClsPooler,
    "cls_last_hidden_state_pooler": ClsLastHiddenStatePooler,
}


class HFTextEncoder(nn.Module):
    """A Hugging Face encoder ``transformer``, a pooler and a projection ``proj``; encoder-decoders lose the decoder.

    ``model_name_or_path`` is a hub name or a folder with a config.json; ``pretrained`` loads the weights found there,
    otherwise they are random, and the encoders of the shipped models need no config.json. A ``config`` object is used
    instead of both. Positions that hold the configuration's ``pad_token_id`` are padding.

    Source: open_clip.hf_model.HFTextEncoder (3.3.0): arguments, names and order of the initial draws.

    Raises:
        ConfigError: the architecture, pooler or projection is not known, or the name cannot be read.
        MissingDependency: transformers is not installed.
    """

    def __init__(
        self,
        model_name_or_path: str,
        output_dim: int,
        config: EncoderConfig | None = None,
        pooler_type: str | None = None,
        proj_type: str | None = None,
        pretrained: bool = True,
        output_tokens: bool = False,
    ) -> None:
        super().__init__()
        self.output_tokens = output_tokens
        self.output_dim = output_dim
        self.config = config if config is not None else _read_config(model_name_or_path, pretrained)
        architecture = _find_architecture(self.config)
        self._names: dict[str, str] = architecture["config_names"]
        pooler_type = pooler_type or architecture["pooler"]
        if pooler_type not in _POOLERS:
            raise ConfigError(
                f"hf_pooler_type {pooler_type!r} is not known.{suggest_nearest(pooler_type, _POOLERS)} "
                f"It can be {', '.join(_POOLERS)}."
            )
        self.transformer: Any
        if config is not None:
            auto_model = import_transformers().AutoModel
            with run_no_foreign_code("the text tower's config", "Check the sizes in it."):
                self.transformer = _keep_encoder(auto_model.from_config(config, trust_remote_code=False), config)
        else:
            self.transformer = _make_encoder(model_name_or_path, self.config, pretrained, pooler_type == "cls_pooler")
        self.vocab_size: int = getattr(self.config, "vocab_size", 0)
        self.context_length: int = getattr(self.config, "max_position_embeddings", 0)
        self.pooler = _POOLERS[pooler_type]()
        self.proj = _make_projection(getattr(self.config, self._names["width"]), output_dim, proj_type)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Encode token ids [B, L] as [B, E], with ``output_tokens`` as a pair with the hidden states [B, L, D].

        A pooler that reads the first position takes it out of those hidden states. A tower whose matrices alone are
        in half precision computes in it as autocast does, for its encoder expects one type throughout.
        """
        half = _half_of_mixed(self)
        with contextlib.nullcontext() if half is None else torch.autocast(x.device.type, dtype=half):
            attention_mask = (x != self.config.pad_token_id).long()
            output = self.transformer(input_ids=x, attention_mask=attention_mask)
            projected: Tensor = self.proj(self.pooler(output, attention_mask))
            projected = projected if half is None else projected.to(half)
        if not self.output_tokens:
            return projected
        tokens: Tensor = output.last_hidden_state
        return projected, tokens[:, 1:] if type(self.pooler) is ClsPooler else tokens

    def forward_intermediates(self, text: Tensor, *_: object, **__: object) -> Intermediates:
        """Refuse: these encoders do not hand out what is between their blocks.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("a Hugging Face text tower gives no intermediates; call encode_text instead.")

    def lock(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze the encoder but for its last ``unlocked_layers`` layers; the projection stays as it is.

        With ``freeze_layer_norm=False`` the layer norms of what is frozen stay trainable, which upstream knows by
        their name in BERT's family; the other encoders' are frozen either way. Groups from the end: each layer, then
        the embeddings.
        """
        if not unlocked_layers:
            _freeze(self.transformer, freeze_layer_norm)
            return
        for module in self._embeddings_and_layers()[:-unlocked_layers]:
            _freeze(module, freeze_layer_norm)

    def layer_groups(self) -> list[LayerGroup]:
        """List the tower's parts from the input to the output, for learning rates by depth."""
        return [*([module] for module in self._embeddings_and_layers()), [self.pooler, self.proj]]

    def _embeddings_and_layers(self) -> list[nn.Module]:
        encoder = getattr(self.transformer, "encoder", self.transformer)
        embeddings = getattr(self.transformer, self._names["token_embeddings_attr"])
        return [embeddings, *getattr(encoder, self._names["layer_attr"])]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: recompute each layer in the backward pass."""
        verb = "enable" if enable else "disable"
        # transformers 5 renames gradient checkpointing, 4 has only the older name.
        switch = getattr(self.transformer, f"activation_checkpointing_{verb}", None)
        (switch or getattr(self.transformer, f"gradient_checkpointing_{verb}"))()

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay should leave alone: none by name."""
        return set()

    def init_parameters(self) -> None:
        """Leave the weights as transformers drew or loaded them."""


def _read_config(model_name_or_path: str, pretrained: bool) -> EncoderConfig:
    transformers = import_transformers()
    what = f"text_cfg's hf_model_name {printable(model_name_or_path)!r}"
    if not os.path.isdir(model_name_or_path):
        if not pretrained and model_name_or_path in ENCODERS:
            known: EncoderConfig = transformers.AutoConfig.for_model(**ENCODERS[model_name_or_path])
            return known
        parts = "config.json and the base weights" if pretrained else "config.json"
        tell_of_hub(f"the text tower's {parts}", model_name_or_path)
    with run_no_foreign_code(what, _REMEDY):
        config: EncoderConfig = transformers.AutoConfig.from_pretrained(model_name_or_path, trust_remote_code=False)
    _refuse_kernels(config, what)
    return config


def _refuse_kernels(config: object, what: str) -> None:
    """Refuse a configuration that has transformers fetch compiled attention, or rebuild the layers for a quantiser."""
    attention = getattr(config, "_attn_implementation", None)
    if attention not in _ATTENTIONS:
        raise ConfigError(
            f"{what} asks for the attention {printable(attention, 80)!r}, which is code from elsewhere and not fetched "
            f"here. Take attn_implementation out of its config.json, or set {' or '.join(filter(None, _ATTENTIONS))}."
        )
    if getattr(config, "quantization_config", None):
        raise ConfigError(f"{what} has a quantization_config; only encoders in plain floating point are read.")


def _find_architecture(config: EncoderConfig) -> JsonObject:
    kind = config.model_type
    if kind not in arch_dict:
        raise ConfigError(f"text towers of type {kind!r} are not known; hf_configs has {cut_list(arch_dict)}.")
    return arch_dict[kind]


def _make_encoder(name: str, config: EncoderConfig, pretrained: bool, uses_own_pooler: bool) -> Any:
    auto_model = import_transformers().AutoModel
    # Only the BERT family can be asked to leave its pooler out.
    options = {} if getattr(config, "is_encoder_decoder", False) else {"add_pooling_layer": uses_own_pooler}
    if pretrained:
        what = f"the base weights of the text tower {printable(name)!r}"
        with run_no_foreign_code(what, "pretrained_text=False does without them."):
            model = auto_model.from_pretrained(name, trust_remote_code=False, weights_only=True, **options)
    else:
        with run_no_foreign_code(f"the text tower {printable(name)!r}", "Check the sizes in its config.json."):
            model = auto_model.from_config(config, trust_remote_code=False, **options)
    return _keep_encoder(model, config)


def _keep_encoder(model: Any, config: EncoderConfig) -> Any:
    return model.encoder if getattr(config, "is_encoder_decoder", False) else model


def _make_projection(width: int, output_dim: int, proj_type: str | None) -> nn.Module:
    if proj_type == "linear":
        return nn.Linear(width, output_dim, bias=False)
    if proj_type == "mlp":
        hidden = (width + output_dim) // 2
        return nn.Sequential(nn.Linear(width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, output_dim, bias=False))
    if proj_type:
        raise ConfigError(f"hf_proj_type is {proj_type!r}; it can be {', '.join(_PROJECTIONS)} or nothing.")
    if width != output_dim:
        raise ConfigError(
            f"hf_proj_type is empty, but the encoder's width {width} is not embed_dim {output_dim}; name a projection."
        )
    return nn.Identity()


def _freeze(module: nn.Module, freeze_layer_norm: bool) -> None:
    for name, parameter in module.named_parameters():
        parameter.requires_grad = not freeze_layer_norm and "LayerNorm" in name.split(".")


def _half_of_mixed(tower: nn.Module) -> torch.dtype | None:
    """Name the half precision that some of a tower's weights have and others have not."""
    kinds = {parameter.dtype for parameter in tower.parameters()} - {torch.float32}
    return kinds.pop() if kinds and any(p.dtype == torch.float32 for p in tower.parameters()) else None
