"""The way in: models, transforms, tokenizers and losses by name. No logic here."""

from open_clip.checkpoint import load_checkpoint
from open_clip.factory.create import create_model
from open_clip.factory.losses import create_loss
from open_clip.factory.names import add_model_config, get_model_config, list_models, parse_model_name
from open_clip.factory.tokenizers import get_tokenizer
from open_clip.factory.transforms import create_model_and_transforms, create_model_from_pretrained

__all__ = [
    "add_model_config",
    "create_loss",
    "create_model",
    "create_model_and_transforms",
    "create_model_from_pretrained",
    "get_model_config",
    "get_tokenizer",
    "list_models",
    "load_checkpoint",
    "parse_model_name",
]
