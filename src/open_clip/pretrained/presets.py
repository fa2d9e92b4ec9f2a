"""The settings that groups of published weights share, under the names programs build their own entries with.

Source: open_clip.pretrained (3.3.0), its functions of these names.
"""

from functools import partial

from open_clip.checked_json import JsonObject
from open_clip.pretrained.table import PREPROCESS


def _tag_cfg(preset: str, url: str = "", hf_hub: str = "", **kwargs: object) -> JsonObject:
    return {"url": url, "hf_hub": hf_hub, **PREPROCESS[preset], **kwargs}


_pcfg = partial(_tag_cfg, "openai")
_slpcfg = partial(_tag_cfg, "siglip")
_apcfg = partial(_tag_cfg, "clipa")
_mccfg = partial(_tag_cfg, "mobileclip")
_mc2cfg = partial(_tag_cfg, "openai-bilinear")
_pecfg = partial(_tag_cfg, "pe-core")
