"""Choosing where a tag's weights come from. The fetching is done in ``hub`` and ``download``."""

import logging

from open_clip.checked_json import JsonObject
from open_clip.errors import CheckpointError
from open_clip.pretrained.download import download_pretrained_from_url
from open_clip.pretrained.hub import download_pretrained_from_hf, has_hf_hub

_logger = logging.getLogger(__name__)


def download_pretrained(cfg: JsonObject, prefer_hf_hub: bool = True, cache_dir: str | None = None) -> str:
    """Return the local path of the weights that an entry of the tag table describes; empty when it says no place.

    Args:
        cfg: as ``get_pretrained_cfg`` gives it: ``file`` (a local path), ``hf_hub`` (``org/repo/`` or
            ``org/repo/file``), ``url``.
        prefer_hf_hub: take the hub where both are there; the URL is then used when the hub fails.
        cache_dir: folder for the files; each source has its own default.

    Raises:
        CheckpointError: the weights cannot be fetched.
    """
    if file := cfg.get("file"):
        return str(file)
    hub, url = cfg.get("hf_hub") or "", cfg.get("url") or ""
    if hub and (not url or (prefer_hf_hub and has_hf_hub())):
        model_id, _, filename = hub.rpartition("/")
        try:
            return download_pretrained_from_hf(model_id, filename=filename or None, cache_dir=cache_dir)
        except CheckpointError as error:
            if not url:
                raise
            _logger.warning("%s Trying %s.", error, url)
    return download_pretrained_from_url(url, cache_dir=cache_dir) if url else ""
