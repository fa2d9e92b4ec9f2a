"""Image classifiers: the image tower of any model here with a linear head, and the names of its classes."""

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError, printable
from open_clip.families.base import Family
from open_clip.families.image_classifier.model import ImageClassifier
from open_clip.modeling.schema import check_image_tower

# The largest public label sets have some ten thousand.
_MOST_CLASSES = 1_000_000


class ImageClassifierFamily(Family):
    """Configurations with ``vision_cfg``, as CLIP's, and ``classes``, the names in the order of the head's rows."""

    name = "image_classifier"
    model_class = ImageClassifier

    def check(self, model_cfg: JsonObject) -> None:
        """Check keys, the image tower's sizes, and that classes are names."""
        super().check(model_cfg)
        check_image_tower(model_cfg)
        classes = model_cfg.get("classes")
        if not isinstance(classes, list | tuple) or not 0 < len(classes) <= _MOST_CLASSES:
            raise ConfigError(f"classes must be a list of 1 to {_MOST_CLASSES:,} names.")
        wrong = [name for name in classes if not isinstance(name, str) or not name.strip()]
        if wrong:
            raise ConfigError(f"classes holds {printable(repr(wrong[0]), 100)}, which is no name.")


FAMILY = ImageClassifierFamily()
