"""Published weights by tag: the table of tags, and downloads that are whole, verified and made once. No logic here."""

# Callers replace `open_clip.pretrained.urllib` to answer downloads themselves; `download` looks it up here.
import urllib
import urllib.request

from open_clip.constants import (
    HF_SAFE_WEIGHTS_NAME,
    HF_WEIGHTS_NAME,
    IMAGENET_MEAN,
    IMAGENET_STD,
    INCEPTION_MEAN,
    INCEPTION_STD,
    OPENAI_DATASET_MEAN,
    OPENAI_DATASET_STD,
)
from open_clip.pretrained.choose import download_pretrained
from open_clip.pretrained.download import download_pretrained_from_url
from open_clip.pretrained.hub import download_pretrained_from_hf, has_hf_hub
from open_clip.pretrained.presets import _apcfg, _mc2cfg, _mccfg, _pcfg, _pecfg, _slpcfg
from open_clip.pretrained.table import (
    _PRETRAINED,
    get_pretrained_cfg,
    get_pretrained_url,
    is_pretrained_cfg,
    list_pretrained,
    list_pretrained_models_by_tag,
    list_pretrained_tags_by_model,
)

__all__ = [
    "HF_SAFE_WEIGHTS_NAME",
    "HF_WEIGHTS_NAME",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "INCEPTION_MEAN",
    "INCEPTION_STD",
    "OPENAI_DATASET_MEAN",
    "OPENAI_DATASET_STD",
    "_PRETRAINED",
    "_apcfg",
    "_mc2cfg",
    "_mccfg",
    "_pcfg",
    "_pecfg",
    "_slpcfg",
    "download_pretrained",
    "download_pretrained_from_hf",
    "download_pretrained_from_url",
    "get_pretrained_cfg",
    "get_pretrained_url",
    "has_hf_hub",
    "is_pretrained_cfg",
    "list_pretrained",
    "list_pretrained_models_by_tag",
    "list_pretrained_tags_by_model",
    "urllib",
]
