"""Reading, fitting, loading and writing weights. No logic here."""

from open_clip.checkpoint.archive import is_openai_archive
from open_clip.checkpoint.keys import convert_state_dict, convert_to_custom_text_state_dict, normalise_state_dict
from open_clip.checkpoint.load import WeightsMismatch, list_mismatches, load_checkpoint, load_weights
from open_clip.checkpoint.metadata import CONFIG_ENTRY, read_metadata
from open_clip.checkpoint.pickles import read_plain_pickle
from open_clip.checkpoint.positions import resize_pos_embed, resize_text_pos_embed
from open_clip.checkpoint.read import (
    list_entries,
    read_checkpoint,
    read_described,
    read_entries,
    read_state_dict,
    read_text_entries,
)
from open_clip.checkpoint.write import write_safetensors

__all__ = [
    "CONFIG_ENTRY",
    "WeightsMismatch",
    "convert_state_dict",
    "convert_to_custom_text_state_dict",
    "is_openai_archive",
    "list_entries",
    "list_mismatches",
    "load_checkpoint",
    "load_weights",
    "normalise_state_dict",
    "read_checkpoint",
    "read_described",
    "read_entries",
    "read_metadata",
    "read_plain_pickle",
    "read_state_dict",
    "read_text_entries",
    "resize_pos_embed",
    "resize_text_pos_embed",
    "write_safetensors",
]
