"""Door: models of other libraries and ours, by their weights; the layouts are in ``open_clip.checkpoint``. No logic."""

from open_clip.checkpoint.keys import convert_state_dict as convert_state_dict
from open_clip.checkpoint.load import load_big_vision_weights as load_big_vision_weights
from open_clip.checkpoint.mobileclip import convert_mobile_clip_state_dict as convert_mobile_clip_state_dict
from open_clip.checkpoint.transformers import from_transformers as from_transformers
from open_clip.checkpoint.transformers import to_transformers as to_transformers
