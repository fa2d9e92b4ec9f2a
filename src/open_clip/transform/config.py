"""How pictures are prepared: the settings a model asks for and those of training augmentation.

Holds plain data and its merging; what the settings do to a picture is in `image`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.errors import ConfigError


@dataclass
class PreprocessCfg:
    """What a model expects of its pictures.

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
            raise ConfigError(f"Preprocess mode {self.mode!r} is not supported: pictures are always turned into 'RGB'.")

    @property
    def num_channels(self) -> int:
        """Channels of a prepared picture."""
        return 3

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Shape of a prepared picture: (channels, height, width)."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return self.num_channels, height, width


@dataclass
class AugmentationCfg:
    """What training does to pictures.

    Attributes:
        scale: Smallest and largest share of the area that a random crop keeps.
        ratio: Smallest and largest width / height of a crop; only with `use_timm`.
        color_jitter: Brightness, contrast, saturation and hue; used when `color_jitter_prob` is set, or by timm.
        re_prob: Chance of erasing a rectangle; only with `use_timm`.
        re_count: Number of rectangles to erase; only with `use_timm`.
        use_timm: Let timm build the transform.
        color_jitter_prob: Chance that the colour jitter applies.
        gray_scale_prob: Chance that the picture turns grey.

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


_PREPROCESS_KEYS = frozenset(field.name for field in fields(PreprocessCfg))


def merge_preprocess_dict(base: PreprocessCfg | Mapping[str, Any], overlay: Mapping[str, Any] | None) -> dict[str, Any]:
    """Lay the preprocess settings of `overlay` over those of `base`.

    Keys that `PreprocessCfg` does not have are left out, and so is a None in the overlay.

    Source: `merge_preprocess_dict` of open_clip_torch 3.3.0.
    """
    settings: Mapping[str, Any] = asdict(base) if isinstance(base, PreprocessCfg) else base
    merged = {key: value for key, value in settings.items() if key in _PREPROCESS_KEYS}
    merged.update(
        {key: value for key, value in (overlay or {}).items() if key in _PREPROCESS_KEYS and value is not None}
    )
    return merged


def merge_preprocess_kwargs(base: PreprocessCfg | Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Lay keyword arguments over the preprocess settings of `base`, as `merge_preprocess_dict` does."""
    return merge_preprocess_dict(base, kwargs)
