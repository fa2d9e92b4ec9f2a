"""How images are prepared: the settings a model asks for and those of training augmentation.

Holds plain data and its merging; what the settings do to an image is in `image`.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

from open_clip.checked_json import JsonObject
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.errors import ConfigError, printable, suggest_nearest

INTERPOLATIONS = ("bicubic", "bilinear", "random")
RESIZE_MODES = ("shortest", "longest", "squash")


@dataclass
class PreprocessCfg:
    """What a model expects of its images.

    Attributes:
        size: Side in pixels, or (height, width).
        mode: Colour mode; only RGB.
        mean: Subtracted from each channel after scaling to [0, 1].
        std: Divides each channel after that.
        interpolation: `bicubic`, `bilinear` or `random` (bicubic at validation).
        resize_mode: `shortest` (cover, then crop), `longest` (fit, then pad) or `squash` (ignore the ratio).
        fill_color: Value of padded pixels, 0 to 255.

    Raises:
        ConfigError: The mode is not RGB.

    Source: field order and defaults of open_clip_torch 3.3.0.
    """

    size: int | tuple[int, int] = 224
    mode: str = "RGB"
    mean: tuple[float, ...] = OPENAI_DATASET_MEAN
    std: tuple[float, ...] = OPENAI_DATASET_STD
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0

    def __post_init__(self) -> None:
        if self.mode != "RGB":
            raise ConfigError(f"Preprocess mode {self.mode!r} is not supported: images are always turned into 'RGB'.")

    @property
    def num_channels(self) -> int:
        """Channels of a prepared image."""
        return 3

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Shape of a prepared image: (channels, height, width)."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return self.num_channels, height, width


@dataclass
class AugmentationCfg:
    """What training does to images.

    Attributes:
        scale: Smallest and largest share of the area that a random crop keeps.
        ratio: Smallest and largest width / height of a crop; only with `use_timm`.
        color_jitter: Brightness, contrast, saturation and hue; used when `color_jitter_prob` is set, or by timm.
        re_prob: Chance of erasing a rectangle; only with `use_timm`.
        re_count: Number of rectangles to erase; only with `use_timm`.
        use_timm: Let timm build the transform.
        color_jitter_prob: Chance that the colour jitter applies.
        gray_scale_prob: Chance that the image turns grey.

    Source: field order and defaults of open_clip_torch 3.3.0.
    """

    scale: tuple[float, float] = (0.9, 1.0)
    ratio: tuple[float, float] | None = None
    color_jitter: float | tuple[float, ...] | None = None
    re_prob: float | None = None
    re_count: int | None = None
    use_timm: bool = False
    color_jitter_prob: float | None = None
    gray_scale_prob: float | None = None


def read_augmentation(aug_cfg: AugmentationCfg | JsonObject | None) -> AugmentationCfg:
    """Bring augmentation settings to their class and check each value.

    Raises:
        ConfigError: A setting is not known, or its value makes no sense; says what it can be.
    """
    if isinstance(aug_cfg, AugmentationCfg):
        settings = {name: getattr(aug_cfg, name) for name in _AUGMENTATION}
    else:
        settings = dict(aug_cfg or {})
    for name, value in settings.items():
        if name not in _AUGMENTATION:
            shown, known = printable(name, 60), ", ".join(_AUGMENTATION)
            raise ConfigError(
                f"Augmentation setting '{shown}' is not known.{suggest_nearest(str(name)[:60], _AUGMENTATION)} "
                f"Known: {known}."
            )
        fits, meaning = _AUGMENTATION[name]
        if not fits(value):
            raise ConfigError(f"Augmentation setting {name}={printable(repr(value), 80)}: it must be {meaning}.")
    return aug_cfg if isinstance(aug_cfg, AugmentationCfg) else AugmentationCfg(**settings)


def _is_number(value: object, least: float = -math.inf, most: float = math.inf) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and least <= value <= most


def _is_range(value: object, most_low: float = math.inf) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(map(_is_number, value)):
        return False
    low, high = value
    return bool(0 <= low <= high and low <= most_low and high > 0)


def _is_ratio(value: object) -> bool:
    return isinstance(value, list | tuple) and _is_range(value) and value[0] > 0


def _is_jitter(value: object) -> bool:
    if not isinstance(value, list | tuple):
        return _is_number(value, 0)
    parts = [part if isinstance(part, list | tuple) else (part, part) for part in value]
    return len(parts) in (3, 4) and all(len(part) == 2 and all(map(_is_number, part)) for part in parts)


def _or_none(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or fits(value)


_PROBABILITY = (_or_none(lambda value: _is_number(value, 0, 1)), "a probability, 0 to 1")
# A part drawn larger than the image does not fit and is drawn anew; one that is always larger leaves no choice.
_AUGMENTATION: dict[str, tuple[Callable[[object], bool], str]] = {
    "scale": (lambda value: _is_range(value, 1), "two shares of the area, the smaller first, as in (0.9, 1.0)"),
    "ratio": (
        _or_none(_is_ratio),
        "two ratios of width to height, the smaller first, as in (0.75, 1.33)",
    ),
    "color_jitter": (_or_none(_is_jitter), "a number of at least 0, or four: brightness, contrast, saturation and hue"),
    "re_prob": _PROBABILITY,
    "re_count": (_or_none(lambda value: isinstance(value, int) and _is_number(value, 1, 1_000)), "a number from 1 up"),
    "use_timm": (lambda value: isinstance(value, bool) or value is None, "True or False"),
    "color_jitter_prob": _PROBABILITY,
    "gray_scale_prob": _PROBABILITY,
}
_PREPROCESS_KEYS = frozenset(field.name for field in fields(PreprocessCfg))


def merge_preprocess_dict(base: PreprocessCfg | JsonObject, overlay: JsonObject | None) -> JsonObject:
    """Lay the preprocess settings of `overlay` over those of `base`.

    Keys that `PreprocessCfg` does not have are left out, and so is a None in the overlay.

    Source: `merge_preprocess_dict` of open_clip_torch 3.3.0.
    """
    settings: JsonObject = asdict(base) if isinstance(base, PreprocessCfg) else base
    merged = {key: value for key, value in settings.items() if key in _PREPROCESS_KEYS}
    merged.update(
        {key: value for key, value in (overlay or {}).items() if key in _PREPROCESS_KEYS and value is not None}
    )
    return merged


def merge_preprocess_kwargs(base: PreprocessCfg | JsonObject, **kwargs: object) -> JsonObject:
    """Lay keyword arguments over the preprocess settings of `base`, as `merge_preprocess_dict` does."""
    return merge_preprocess_dict(base, kwargs)
