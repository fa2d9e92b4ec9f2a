"""CLIP: an image tower, and a native text tower whose parts stand at the top level."""

from open_clip.families.clip.model import CLIP
from open_clip.families.towers import TowerFamily


class ClipFamily(TowerFamily):
    """Models as OpenAI laid them out."""

    name = "clip"
    model_class = CLIP


FAMILY = ClipFamily()
