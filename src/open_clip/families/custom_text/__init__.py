"""CLIP with a whole text tower under ``text``: native, or one of Hugging Face's."""

from open_clip.families.custom_text.model import CustomTextCLIP
from open_clip.families.towers import TowerFamily


class CustomTextFamily(TowerFamily):
    """Models that hold each tower as a module."""

    name = "custom_text"
    model_class = CustomTextCLIP


FAMILY = CustomTextFamily()
