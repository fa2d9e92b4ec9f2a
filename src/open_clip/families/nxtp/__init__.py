"""Object labels as the next tokens after an image: a ViT, a projection and a LLaMA decoder."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import ClassVar

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError, printable, suggest_nearest
from open_clip.families.base import Family, Forced, TokenizerRequest
from open_clip.families.nxtp.config import make_label_cfg
from open_clip.families.nxtp.decoder import make_decoder_cfg
from open_clip.families.nxtp.model import NextLabelModel
from open_clip.families.nxtp.tokenizer import LabelTokenizer
from open_clip.modeling.config import CLIPVisionCfg, make_cfg
from open_clip.modeling.schema import check_image_tower, refuse_too_large
from open_clip.tuples import to_pair


class NextLabelFamily(Family):
    """Configurations with ``vision_cfg``, as CLIP's, ``decoder_cfg`` and ``label_cfg``."""

    name = "nxtp"
    model_class = NextLabelModel
    adopted: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "": ("quick_gelu",),
        "vision_cfg": ("image_size",),
        "decoder_cfg": ("context_length",),
    }

    def check(self, model_cfg: JsonObject) -> None:
        """Check keys and sizes, and that a text has room behind an image."""
        super().check(model_cfg)
        # The tower's own projection is left out, so its width does not matter.
        check_image_tower({"embed_dim": 1, **model_cfg})
        if not isinstance(model_cfg.get("decoder_cfg"), dict):
            raise ConfigError("it has no decoder_cfg, which describes the decoder that writes labels.")
        vision, decoder = make_cfg(CLIPVisionCfg, model_cfg["vision_cfg"]), make_decoder_cfg(model_cfg["decoder_cfg"])
        label_cfg = make_label_cfg(model_cfg.get("label_cfg"))
        if vision.timm_model_name or not isinstance(vision.layers, int) or vision.attentional_pool:
            raise ConfigError(
                "vision_cfg: labels are read from the patches of a ViT without timm and attentional_pool."
            )
        assert vision.patch_size is not None
        sizes = zip(to_pair(vision.image_size), to_pair(vision.patch_size), strict=True)
        rows, columns = (side // patch for side, patch in sizes)
        if rows * columns >= decoder.context_length:
            raise ConfigError(
                f"decoder_cfg.context_length is {decoder.context_length} and an image has {rows * columns} tokens: "
                "no text has room behind it."
            )
        refuse_too_large(decoder.count_weights(len(label_cfg.added_tokens)))

    def apply_options(self, model_cfg: JsonObject, forced: Forced) -> JsonObject:
        """Return a copy of a configuration with the ``force_*`` options written into it."""
        if forced.custom_text:
            raise ConfigError("force_custom_text: models of the family nxtp have no text tower.")
        cfg = deepcopy(model_cfg)
        if forced.quick_gelu:
            cfg["quick_gelu"] = True
        for section, name, value in (
            ("vision_cfg", "patch_dropout", forced.patch_dropout),
            ("vision_cfg", "image_size", forced.image_size),
            ("decoder_cfg", "context_length", forced.context_length),
        ):
            if value is not None:
                cfg[section][name] = value
        return cfg

    def choose_tokenizer(self, model_cfg: JsonObject, request: TokenizerRequest) -> Callable[[], LabelTokenizer]:
        """Take the file that is named by ``path``, else the one of the configuration, in a model folder."""
        label_cfg, options = make_label_cfg(model_cfg.get("label_cfg")), dict(request.options)
        path = options.pop("path", None)
        if options:
            unknown = min(options)
            near = suggest_nearest(unknown, ["path"])
            raise ConfigError(f"the tokenizer of the family nxtp has no option {printable(repr(unknown), 100)}.{near}")
        if path is None and label_cfg.tokenizer is not None:
            path = (request.folder or Path()) / label_cfg.tokenizer
        if path is None:
            raise ConfigError(
                f"{printable(request.model)} has no tokenizer of its own: give the file of its decoder's, "
                "get_tokenizer(NAME, path='tokenizer.model')."
            )
        decoder = make_decoder_cfg(model_cfg["decoder_cfg"])
        length = request.context_length or decoder.context_length
        return partial(LabelTokenizer.open, path, label_cfg, decoder.vocab_size, length)


FAMILY = NextLabelFamily()
