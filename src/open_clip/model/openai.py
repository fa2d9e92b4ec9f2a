"""Building a CLIP from an OpenAI state dict alone. Reading the file is ``open_clip.checkpoint``'s job."""

import torch
from torch import Tensor, nn

from open_clip.checkpoint.keys import drop_openai_extras
from open_clip.errors import CheckpointError, ConfigError
from open_clip.model.cast import convert_weights_to_lp
from open_clip.model.clip import CLIP
from open_clip.model.config import CLIPTextCfg, CLIPVisionCfg


def _count_blocks(state_dict: dict[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in state_dict if key.startswith(prefix)})


def build_model_from_openai_state_dict(
    state_dict: dict[str, Tensor], quick_gelu: bool = True, cast_dtype: torch.dtype = torch.float16
) -> nn.Module:
    """Build the CLIP whose shapes a state dict shows, load it and return it in eval mode.

    The matrices get ``cast_dtype``; fp32 keeps everything in fp32.

    Raises:
        ConfigError: the weights are a ResNet's.
        CheckpointError: a tensor that shows the shape is missing.
    """
    if "visual.proj" not in state_dict:
        raise ConfigError("the OpenAI weights have no visual.proj: a ResNet; ResNet towers are not supported yet.")
    try:
        patches, text_width = state_dict["visual.conv1.weight"].shape, state_dict["ln_final.weight"].shape[0]
        grid = round((state_dict["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        context_length = state_dict["positional_embedding"].shape[0]
        vocab_size = state_dict["token_embedding.weight"].shape[0]
        embed_dim = state_dict["text_projection"].shape[1]
    except KeyError as error:
        raise CheckpointError(f"not an OpenAI CLIP state dict: it has no {error.args[0]}.") from error
    vision_cfg = CLIPVisionCfg(
        layers=_count_blocks(state_dict, "visual.transformer.resblocks."),
        width=patches[0],
        patch_size=patches[-1],
        image_size=patches[-1] * grid,
    )
    text_cfg = CLIPTextCfg(
        context_length=context_length,
        vocab_size=vocab_size,
        width=text_width,
        heads=text_width // 64,
        layers=_count_blocks(state_dict, "transformer.resblocks."),
    )
    model = CLIP(embed_dim, vision_cfg, text_cfg, quick_gelu=quick_gelu, cast_dtype=cast_dtype)
    if cast_dtype != torch.float32:
        convert_weights_to_lp(model, cast_dtype)
    model.load_state_dict(drop_openai_extras(state_dict))
    return model.eval()
