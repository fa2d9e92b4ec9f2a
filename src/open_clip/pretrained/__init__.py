"""Published weights by tag: the table of tags, and downloads that are whole, verified and made once. No logic here."""

# Callers replace `open_clip.pretrained.urllib` to answer downloads themselves; `download` looks it up here.
import urllib
import urllib.request

from open_clip.pretrained.choose import download_pretrained
from open_clip.pretrained.download import download_pretrained_from_url
from open_clip.pretrained.hub import download_pretrained_from_hf, has_hf_hub
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
    "_PRETRAINED",
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
