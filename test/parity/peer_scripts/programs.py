"""Do with open_clip what public programs do: JSON {config, weights} to npz, one array a habit.

The habits are those of Stable Diffusion's text encoder, FC-CLIP, LeGrad, MaskCLIP and its kin, CLIP-LoRA, DreamSim,
clip_benchmark, OpenFlamingo, FetalCLIP, Marqo, OmiCLIP, BiomedCLIP's examples and what copies them.
"""

import copy
import json
import sys
import warnings
import zlib

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.checkpoint import checkpoint

import open_clip
from open_clip import loss
from open_clip import tokenizer as tokenizer_module
from open_clip.coca_model import prepare_inputs_for_generation
from open_clip.factory import HF_HUB_PREFIX, load_state_dict
from open_clip.model import _build_text_tower, _build_vision_tower
from open_clip.pretrained import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME, _apcfg, _pcfg, _slpcfg
from open_clip.tokenizer import _tokenizer
from open_clip.transform import _convert_to_rgb
from open_clip.transformer import _expand_token, text_global_pool

WIDTH = 32


def digest(value):
    return torch.tensor(zlib.crc32(repr(value).encode()))


def hooked(module, run, pick=lambda inputs, output: output):
    got = []
    handle = module.register_forward_hook(lambda _, inputs, output: got.append(pick(inputs, output)))
    run()
    handle.remove()
    return got[0]


class Wrapped(nn.Module):
    """What adapters put in the place of an attention layer: it knows the arguments upstream's blocks give."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, query, key, value, need_weights, attn_mask):
        return self.layer(query, key, value, need_weights=need_weights, attn_mask=attn_mask)


def text_habits(model, text, images):
    blocks = model.transformer.resblocks
    x = model.token_embedding(text) + model.positional_embedding
    penultimate = x
    for block in blocks[:-1]:
        penultimate = block(penultimate, attn_mask=model.attn_mask)
    yield "penultimate layer", model.ln_final(penultimate)
    for block in blocks:
        x = checkpoint(block, x, None, None, model.attn_mask, use_reentrant=False)
    pooled = model.ln_final(x)[torch.arange(len(x)), text.argmax(dim=-1)] @ model.text_projection
    yield "text by hand", pooled
    x = model.token_embedding(text).to(model.transformer.get_cast_dtype()) + model.positional_embedding
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask))
    yield "pooled by name", text_global_pool(x, text, model.text_pool_type)
    yield "inputs of an attention", hooked(blocks[1].attn, lambda: model.encode_text(text), lambda i, _: sum(i[:3]))
    without = copy.deepcopy(model)
    del without.visual
    yield "without image tower", without.encode_text(text)
    without = copy.deepcopy(model)
    without.transformer = None
    yield "without text tower", without.encode_image(images)


def image_habits(model, text, images):
    visual = model.visual
    x = visual.conv1(images).flatten(2).permute(0, 2, 1)
    x = torch.cat([_expand_token(visual.class_embedding, len(x)), x], dim=1) + visual.positional_embedding
    x = visual.transformer(visual.ln_pre(visual.patch_dropout(x)))
    assert visual.attn_pool is None
    assert not visual.final_ln_after_pool
    yield "image by hand", visual._global_pool(visual.ln_post(x))[0] @ visual.proj
    yield "embedded, pooled", visual._pool(visual.transformer(visual._embeds(images)))[0]
    for name in ("transformer.resblocks.1", "transformer", "ln_post", "ln_pre", "transformer.resblocks.0.mlp.gelu"):
        yield f"hook on {name}", hooked(visual.get_submodule(name), lambda: model.encode_image(images))
    attention = visual.transformer.resblocks[1].attn
    yield "hook on attention", hooked(attention, lambda: model.encode_image(images), lambda _, o: o[0])
    changed = copy.deepcopy(visual)
    changed.output_tokens, changed.proj = True, None
    yield "tokens", changed(images)[1]
    yield "traced", torch.jit.trace(visual, images)(images)
    sizes = [*visual.image_size, *visual.patch_size, *visual.grid_size, visual.output_dim, len(visual.preprocess_cfg)]
    sizes += [model.context_length, model.vocab_size, visual.transformer.width, visual.transformer.layers]
    sizes += [*visual.image_mean, *visual.image_std, visual.transformer.batch_first, visual.pool_type == "tok"]
    yield "sizes", torch.tensor(sizes)


def block_habits(model, text, images):
    block = model.visual.transformer.resblocks[0]
    attention = block.attn
    x = torch.arange(2 * 17 * WIDTH).reshape(2, 17, WIDTH) / 999.0
    yield "called with three", attention(x, x, x, need_weights=False, attn_mask=None)[0]
    yield "weights by head", attention(x, x, x, need_weights=True, average_attn_weights=False)[1]
    yield "method of a block", block.attention(q_x=x, k_x=None, v_x=None, attn_mask=None)
    x = x.transpose(0, 1)
    parts = (attention.in_proj_weight, attention.in_proj_bias, attention.bias_k, attention.bias_v)
    rest = (attention.add_zero_attn, attention.dropout, attention.out_proj.weight, attention.out_proj.bias)
    sizes = (attention.embed_dim, attention.num_heads)
    yield "torch's function", nn.functional.multi_head_attention_forward(x, x, x, *sizes, *parts, *rest)[0]
    found = [isinstance(module, nn.MultiheadAttention) for module in model.modules()]
    yield "torch's class", torch.tensor([sum(found), attention.head_dim, attention.batch_first])
    x = x + block.ls_1(attention(*[block.ln_1(x)] * 3)[0])
    yield "parts", x + block.ls_2(block.mlp.c_proj(block.mlp.gelu(block.mlp.c_fc(block.ln_2(x)))))
    wrapped = copy.deepcopy(model)
    for tower in (wrapped, wrapped.visual):
        for block in tower.transformer.resblocks:
            block.attn = Wrapped(block.attn)
    yield "wrapped attention", torch.cat([wrapped.encode_image(images), wrapped.encode_text(text)])
    locked = copy.deepcopy(model)
    locked.lock_image_tower(unlocked_groups=2)
    locked.lock_text_tower(1)
    yield "locked", torch.tensor([parameter.requires_grad for parameter in locked.parameters()])
    yield "names", digest([[name for name, _ in model.named_parameters()], [name for name, _ in model.named_modules()]])


def module_habits(config, weights):
    open_clip.factory._MODEL_CONFIGS["Mine"] = config
    yield "own model", torch.tensor([open_clip.create_model("Mine").visual.output_dim, HF_HUB_PREFIX == "hf-hub:"])
    torch.manual_seed(3)
    towers = (_build_vision_tower(24, config["vision_cfg"]), _build_text_tower(24, config["text_cfg"]))
    yield "towers alone", torch.cat([parameter.flatten() for tower in towers for parameter in tower.parameters()])
    state_dict = load_state_dict(weights, device="cpu")
    yield "weights alone", state_dict["visual.proj"]
    custom = open_clip.create_model("Mine", force_custom_text=True).eval()
    custom.load_state_dict(open_clip.model.convert_to_custom_text_state_dict(state_dict))
    yield "custom text", custom.text(open_clip.tokenize(["a cat"]))
    entries = [sorted(make(hf_hub="a/b", file="c").items()) for make in (_pcfg, _slpcfg, _apcfg)]
    yield "entries", digest([entries, HF_WEIGHTS_NAME, HF_SAFE_WEIGHTS_NAME])
    words = [*_tokenizer.encode("a photo"), _tokenizer.encoder["<end_of_text>"], _tokenizer.sot_token_id]
    yield "tokenizer", torch.tensor([*words, len(tokenizer_module.bytes_to_unicode()), _tokenizer.vocab_size])
    yield "pairs", digest(sorted(tokenizer_module.get_pairs(("a", "b", "c"))))
    yield "colours", torch.from_numpy(np.array(_convert_to_rgb(Image.new("L", (3, 2), 9))))
    inputs = prepare_inputs_for_generation(torch.tensor([[5, 6]]), None, 1, attention_mask=torch.tensor([[1, 0]]))
    yield "generation inputs", torch.cat([inputs["text"], inputs["position_ids"]], dim=1)
    yield "exchanges", digest([name for name in dir(loss) if "eighbour" in name and callable(getattr(loss, name))])


def main(asked, answered):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with open(asked) as file:
        request = json.load(file)
    open_clip.add_model_config(request["config"])
    model, _, _ = open_clip.create_model_and_transforms("tiny")
    open_clip.load_checkpoint(model, request["weights"])
    model.eval()
    with open(request["config"]) as file:
        config = json.load(file)
    text = open_clip.tokenize(["a cat", "two dogs on a road"])
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    found = {}
    with torch.no_grad():
        for habits in (text_habits, image_habits, block_habits):
            found |= dict(habits(model, text, images))
        found |= dict(module_habits(config, request["weights"]))
    np.savez(answered, **{name: value.numpy() for name, value in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
