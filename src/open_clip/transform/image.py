"""Build the transforms of training and validation from their settings.

The steps themselves are in `geometry`, `random_geometry`, `augment` and `pixels`.
"""

import warnings
from collections.abc import Sequence
from dataclasses import asdict

from open_clip.checked_json import JsonObject
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.errors import ConfigError, MissingDependency, suggest_nearest
from open_clip.extras import install_advice
from open_clip.transform.augment import ColorJitter, Grayscale
from open_clip.transform.compose import Compose, SeededCompose, Step
from open_clip.transform.config import INTERPOLATIONS, RESIZE_MODES, AugmentationCfg, PreprocessCfg, read_augmentation
from open_clip.transform.geometry import CenterCrop, CenterCropOrPad, Resize
from open_clip.transform.pixels import Channels, ConvertMode, Normalize, ToTensor
from open_clip.transform.random_geometry import RandomResizedCrop, ResizeKeepRatio
from open_clip.tuples import Size, to_pair

Steps = list[Step]
AugSettings = AugmentationCfg | JsonObject | None


def image_transform(
    image_size: Size,
    is_train: bool,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize_mode: str | bool | None = None,
    interpolation: str | None = None,
    fill_color: int | Sequence[int] = 0,
    aug_cfg: AugSettings = None,
    resize_longest_max: bool | None = None,
) -> Compose:
    """Build the transform from a Pillow image to a normalised float tensor [3, H, W].

    Training cuts a random part and resizes it bicubically, then changes colours if `aug_cfg` says so. Validation is
    deterministic and follows `resize_mode`.

    Args:
        image_size: Side in pixels, or (height, width).
        is_train: Training or validation.
        mean: One number or one a channel; OpenAI's when None.
        std: Likewise.
        resize_mode: `shortest` (default), `longest` or `squash`; validation only.
        interpolation: `bicubic` (default), `bilinear` or `random`; for training only with timm.
        fill_color: Value of the pixels that `longest` pads with.
        aug_cfg: Training augmentation; settings that have no effect here are named in a UserWarning.
        resize_longest_max: What 2.x had in the place of `resize_mode`, by place or by name: True is `longest`.

    Raises:
        ConfigError: A setting is not known or makes no sense.
        MissingDependency: `use_timm` is set and timm cannot be imported.

    Source: `image_transform` of open_clip_torch 3.3.0, argument order and pixels.
    """
    normalize = Normalize(_per_channel(mean, OPENAI_DATASET_MEAN), _per_channel(std, OPENAI_DATASET_STD))
    if isinstance(resize_mode, bool):
        resize_mode, resize_longest_max = None, resize_mode
    if resize_mode is None and resize_longest_max:
        resize_mode = "longest"
    interpolation = _require_choice("interpolation", interpolation or "bicubic", INTERPOLATIONS)
    resize_mode = _require_choice("resize_mode", resize_mode or "shortest", RESIZE_MODES)
    if is_train:
        augmentation = read_augmentation(aug_cfg)
        if augmentation.use_timm:
            return _timm_transform(image_size, normalize, interpolation, augmentation)
        steps = _training_steps(image_size, augmentation)
    else:
        steps = _validation_steps(image_size, resize_mode, interpolation, fill_color)
    return Compose([*steps, ToTensor(), normalize])


def image_transform_v2(cfg: PreprocessCfg, is_train: bool, aug_cfg: AugSettings = None) -> Compose:
    """Build the transform that a model's `PreprocessCfg` describes; see `image_transform`."""
    return image_transform(
        image_size=cfg.size,
        is_train=is_train,
        mean=cfg.mean,
        std=cfg.std,
        interpolation=cfg.interpolation,
        resize_mode=cfg.resize_mode,
        fill_color=cfg.fill_color,
        aug_cfg=aug_cfg,
    )


def _training_steps(image_size: Size, augmentation: AugmentationCfg) -> Steps:
    steps: Steps = [RandomResizedCrop(image_size, scale=augmentation.scale, interpolation="bicubic"), ConvertMode()]
    unused = {"ratio", "re_prob", "re_count"}
    if augmentation.color_jitter_prob:
        jitter = augmentation.color_jitter
        if not isinstance(jitter, Sequence) or len(jitter) != 4:
            raise ConfigError(
                f"color_jitter={jitter!r} does not fit color_jitter_prob={augmentation.color_jitter_prob}:"
                " give four values, brightness, contrast, saturation and hue."
            )
        steps.append(ColorJitter(*jitter, p=augmentation.color_jitter_prob))
    else:
        unused.add("color_jitter")
    if augmentation.gray_scale_prob:
        steps.append(Grayscale(augmentation.gray_scale_prob))
    ignored = sorted(name for name in unused if getattr(augmentation, name) is not None)
    if ignored:
        warnings.warn(
            f"Augmentation settings without effect: {', '.join(ignored)}. ratio, re_prob and re_count need"
            " use_timm=True, color_jitter needs color_jitter_prob or use_timm=True.",
            UserWarning,
            stacklevel=3,
        )
    return steps


def _validation_steps(image_size: Size, resize_mode: str, interpolation: str, fill_color: int | Sequence[int]) -> Steps:
    resample = "bilinear" if interpolation == "bilinear" else "bicubic"
    height, width = to_pair(image_size)
    if resize_mode == "longest":
        resize: Step = ResizeKeepRatio((height, width), longest=1, interpolation=resample)
        return [resize, CenterCropOrPad((height, width), fill=fill_color), ConvertMode()]
    if resize_mode == "squash":
        return [Resize((height, width), interpolation=resample), ConvertMode()]
    # 3.3.0 resizes to a size that is not square bicubically, whatever was asked for.
    square = height == width
    resize = Resize(height, interpolation=resample) if square else ResizeKeepRatio((height, width))
    # Colour comes last: Pillow resizes a palette image without blending, and models were validated that way.
    return [resize, CenterCrop((height, width)), ConvertMode()]


def _timm_transform(
    image_size: Size, normalize: Normalize, interpolation: str, augmentation: AugmentationCfg
) -> Compose:
    try:
        from timm.data import create_transform
    except (ImportError, RuntimeError) as error:
        # A torchvision that does not match torch fails with a RuntimeError in the middle of timm's import.
        raise MissingDependency(
            f"aug_cfg use_timm=True needs timm, which cannot be imported ({error}): {install_advice('timm')}."
        ) from error
    options = {name: value for name, value in asdict(augmentation).items() if value is not None}
    for own in ("use_timm", "color_jitter_prob", "gray_scale_prob"):
        options.pop(own, None)
    options.setdefault("color_jitter", None)
    built = create_transform(
        input_size=(3, *to_pair(image_size)),
        is_training=True,
        hflip=0.0,
        mean=normalize.mean,
        std=normalize.std,
        re_mode="pixel",
        interpolation=interpolation,
        **options,
    )
    return SeededCompose(built.transforms)


def _per_channel(values: float | Sequence[float] | None, default: Channels) -> Channels:
    if isinstance(values, (int, float)):
        return (float(values),) * 3
    return tuple(values) if values else default


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        nearest = suggest_nearest(str(value), choices)
        raise ConfigError(f"{name}={value!r} is not known.{nearest} Choose one of {', '.join(choices)}.")
    return value
