"""Building a CLIP from an OpenAI state dict alone. Reading the file is ``open_clip.checkpoint``'s job."""

import torch
from torch import Tensor, nn

from open_clip.checkpoint.keys import drop_openai_extras
from open_clip.errors import CheckpointError
from open_clip.families.clip.model import CLIP
from open_clip.modeling.cast import convert_weights_to_lp
from open_clip.modeling.config import CLIPTextCfg, CLIPVisionCfg

_HEAD_WIDTH = 64
_RESNET_STRIDE = 32


def _count_blocks(state_dict: dict[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in state_dict if key.startswith(prefix)})


def _grid_side(position_table: Tensor) -> int:
    """Return the side of the square grid of a table that begins with one row for the pooled token."""
    return int(round((position_table.shape[0] - 1) ** 0.5))


def _read_vision_cfg(state_dict: dict[str, Tensor]) -> CLIPVisionCfg:
    if "visual.proj" in state_dict:
        patches = state_dict["visual.conv1.weight"].shape
        return CLIPVisionCfg(
            layers=_count_blocks(state_dict, "visual.transformer.resblocks."),
            width=patches[0],
            patch_size=patches[-1],
            image_size=patches[-1] * _grid_side(state_dict["visual.positional_embedding"]),
        )
    first, second, third, fourth = (_count_blocks(state_dict, f"visual.layer{index}.") for index in range(1, 5))
    return CLIPVisionCfg(
        layers=(first, second, third, fourth),
        width=state_dict["visual.layer1.0.conv1.weight"].shape[0],
        image_size=_RESNET_STRIDE * _grid_side(state_dict["visual.attnpool.positional_embedding"]),
    )


def _read_text_cfg(state_dict: dict[str, Tensor]) -> CLIPTextCfg:
    width = state_dict["ln_final.weight"].shape[0]
    return CLIPTextCfg(
        context_length=state_dict["positional_embedding"].shape[0],
        vocab_size=state_dict["token_embedding.weight"].shape[0],
        width=width,
        heads=width // _HEAD_WIDTH,
        layers=_count_blocks(state_dict, "transformer.resblocks."),
    )


def build_model_from_openai_state_dict(
    state_dict: dict[str, Tensor], quick_gelu: bool = True, cast_dtype: torch.dtype = torch.float16
) -> nn.Module:
    """Build the CLIP, ViT or ResNet, whose shapes a state dict shows, load it and return it in eval mode.

    The matrices get ``cast_dtype``; fp32 keeps everything in fp32.

    Raises:
        CheckpointError: a tensor that shows the shape is missing.
    """
    try:
        vision_cfg, text_cfg = _read_vision_cfg(state_dict), _read_text_cfg(state_dict)
        embed_dim = state_dict["text_projection"].shape[1]
    except KeyError as error:
        raise CheckpointError(f"not an OpenAI CLIP state dict: it has no {error.args[0]}.") from error
    model = CLIP(embed_dim, vision_cfg, text_cfg, quick_gelu=quick_gelu, cast_dtype=cast_dtype)
    if cast_dtype != torch.float32:
        convert_weights_to_lp(model, cast_dtype)
    model.load_state_dict(drop_openai_extras(state_dict))
    return model.eval()
