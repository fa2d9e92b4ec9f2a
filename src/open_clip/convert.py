"""Door: models of other libraries and ours, by their weights; the layouts are in ``open_clip.checkpoint``. No logic."""

from open_clip.checkpoint.transformers import from_transformers as from_transformers
from open_clip.checkpoint.transformers import to_transformers as to_transformers
