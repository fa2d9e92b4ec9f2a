"""CoCa under the module name that programs import it from. No logic."""

from open_clip.model.coca import CoCa
from open_clip.model.config import MultimodalCfg

__all__ = ["CoCa", "MultimodalCfg"]
