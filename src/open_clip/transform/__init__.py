"""Turn images into tensors, to the pixel as open_clip_torch 3.3.0, with Pillow and torch alone.

Holds no logic: `image` builds transforms from the settings in `config`; the other modules hold the steps.
"""

from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.transform.augment import ColorJitter, Grayscale, shift_hue
from open_clip.transform.compose import Compose, RandomTransform, SeededCompose
from open_clip.transform.config import (
    AugmentationCfg,
    PreprocessCfg,
    merge_preprocess_dict,
    merge_preprocess_kwargs,
)
from open_clip.transform.direct import DirectTransform, to_direct
from open_clip.transform.geometry import CenterCrop, CenterCropOrPad, Resize, center_crop_or_pad
from open_clip.transform.image import image_transform, image_transform_v2
from open_clip.transform.pixels import (
    ConvertMode,
    Normalize,
    ToTensor,
    ToUint8Tensor,
    normalization_of,
    normalize_images,
    to_uint8,
)
from open_clip.transform.random_geometry import RandomResizedCrop, ResizeKeepRatio
from open_clip.tuples import to_2tuple

# The names these steps have in open_clip_torch.
MaybeConvertMode = ConvertMode
MaybeToTensor = ToTensor
color_jitter = ColorJitter
gray_scale = Grayscale
_convert_to_rgb = ConvertMode("RGB")

__all__ = [
    "AugmentationCfg",
    "CenterCrop",
    "CenterCropOrPad",
    "ColorJitter",
    "Compose",
    "ConvertMode",
    "DirectTransform",
    "Grayscale",
    "MaybeConvertMode",
    "MaybeToTensor",
    "Normalize",
    "OPENAI_DATASET_MEAN",
    "OPENAI_DATASET_STD",
    "PreprocessCfg",
    "RandomResizedCrop",
    "RandomTransform",
    "Resize",
    "ResizeKeepRatio",
    "SeededCompose",
    "ToTensor",
    "ToUint8Tensor",
    "_convert_to_rgb",
    "center_crop_or_pad",
    "color_jitter",
    "gray_scale",
    "image_transform",
    "image_transform_v2",
    "merge_preprocess_dict",
    "merge_preprocess_kwargs",
    "normalization_of",
    "normalize_images",
    "shift_hue",
    "to_2tuple",
    "to_direct",
    "to_uint8",
]
