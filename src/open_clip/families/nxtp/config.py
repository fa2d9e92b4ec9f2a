"""How labels are asked for and written: the section ``label_cfg`` of a model's configuration."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError
from open_clip.modeling.fields import check_fields, refuse_unknown, show

#: The token between an image and its text, and the one that fills up rows; every model has both.
IMAGE_TOKEN, EMPTY_TOKEN = "<|image|>", "<|empty|>"
MASK_MODES = ("closed", "public")
_PROMPTS = (
    "The objects in the image are",
    "The items present in the picture are",
    "The elements depicted in the photograph are",
    "The objects shown in the picture are",
    "The items visible in the image are",
    "The elements that appear in the picture are",
    "The objects captured in the photograph are",
    "The items featured in the image are",
    "The elements seen in the photograph are",
    "The objects represented in the picture are",
)
_CAPTION_PROMPTS = (
    "What the image shows is that",
    "What can be seen in the picture is that",
    "The story of the photograph is that",
    "The scene in the image is that",
    "The content of the picture is that",
    "What the photograph depicts is that",
    "What happens in the image is that",
    "The view in the photograph is that",
    "What the picture presents is that",
    "The meaning of the image is that",
)


@dataclass
class LabelCfg:
    """How labels are asked for and written.

    Attributes:
        added_tokens: Tokens behind those of the tokenizer, in the order of their rows.
        prompt: What stands before the labels in inference; its last word is one token.
        prompts: What stands there in training, one of them for each row, drawn.
        caption_prompts: What stands before a whole caption.
        delimiter: What closes a label, one token.
        mask_mode: ``closed`` closes every label by the delimiter, ``public`` all but the last, as NXTP publicly does.
        bidirectional_image: Image tokens see each other, not only those before them.
        separate_labels: A label's tokens see no other label.
        tokenizer: Name of the tokenizer's file in a model folder; None where it is named from outside.
    """

    added_tokens: Sequence[str] = (IMAGE_TOKEN, EMPTY_TOKEN)
    prompt: str = _PROMPTS[0]
    prompts: Sequence[str] = _PROMPTS
    caption_prompts: Sequence[str] = _CAPTION_PROMPTS
    delimiter: str = ","
    mask_mode: str = "closed"
    bidirectional_image: bool = True
    separate_labels: bool = True
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no sequence can be made of.

        Raises:
            ConfigError: names the field.
        """
        for name in ("added_tokens", "prompts", "caption_prompts"):
            texts = getattr(self, name)
            if isinstance(texts, str) or not texts or not all(_is_text(one) for one in texts):
                raise ConfigError(f"label_cfg.{name} is {show(texts)}; it must be a list of texts.")
            if len(set(texts)) < len(texts):
                raise ConfigError(f"label_cfg.{name} holds a text twice.")
        if missing := {IMAGE_TOKEN, EMPTY_TOKEN} - set(self.added_tokens):
            raise ConfigError(f"label_cfg.added_tokens has no {min(missing)}, which every sequence needs.")
        for name in ("prompt", "delimiter"):
            if not _is_text(getattr(self, name)):
                raise ConfigError(f"label_cfg.{name} is empty.")
        if self.mask_mode not in MASK_MODES:
            raise ConfigError(f"label_cfg.mask_mode is {show(self.mask_mode)}; it can be {' or '.join(MASK_MODES)}.")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def make_label_cfg(values: LabelCfg | JsonObject | None) -> LabelCfg:
    """Make the section of a dict of a JSON file; an instance passes through, nothing gives the defaults.

    Raises:
        ConfigError: a key is not known, or a value is of another kind or cannot be.
    """
    if isinstance(values, LabelCfg):
        return values
    values = values or {}
    refuse_unknown("label_cfg", values, {field.name for field in fields(LabelCfg)})
    check_fields("label_cfg", LabelCfg, values)
    return LabelCfg(**values)
