"""The model as the factory makes it: sizes, freezing, layer groups, other input sizes, what is refused."""

import json

import pytest
import torch

import open_clip
from extras import needs_sentencepiece
from label_words import make_label_tokenizer, tiny_label_model, write_label_tokenizer
from open_clip.errors import CheckpointError, ConfigError
from open_clip.families import check_model_cfg, family_of
from open_clip.families.nxtp.model import NextLabelModel
from open_clip.families.nxtp.sequences import build_sequences
from open_clip.protocols import GivesImageTokens, HasLayerGroups, LocksImages

TINY = "nxtp-tiny"
TOKENIZER = make_label_tokenizer("cat", "dog")


def changed(**sections):
    cfg = json.loads(json.dumps(open_clip.get_model_config(TINY)))
    for section, values in sections.items():
        cfg[section] = cfg.get(section, {}) | values if isinstance(values, dict) else values
    return cfg


def trainable(module):
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def test_the_published_model_has_1783_84_million_weights():
    with torch.device("meta"):
        model = open_clip.create_model("nxtp-ViT-L-14-7B", device="meta", load_weights=False)
    counts = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in model.named_children()}
    assert round(sum(counts.values()), 2) == 1783.84
    assert round(counts["visual"] + counts["projection"]) == 307
    block = sum(p.numel() for p in model.decoder.blocks[0].parameters()) / 1e6
    ends = sum(p.numel() for part in (model.decoder.token_embedding, model.decoder.head) for p in part.parameters())
    assert (round(block, 1), round(ends / 1e6, 1)) == (202.4, 262.2)
    assert (model.num_image_tokens, model.text_context, model.vocab_size) == (256, 256, 32002)


def test_the_factory_gives_model_transforms_and_what_programs_ask_for():
    model, train, validate = open_clip.create_model_and_transforms(TINY)
    assert type(model) is NextLabelModel
    assert family_of(model).name == "nxtp"
    assert train.transforms[0].size == validate.transforms[0].size == (32, 32) or validate.transforms[0].size == 32
    assert all(isinstance(model, kind) for kind in (GivesImageTokens, HasLayerGroups, LocksImages))
    head = model.decoder.head.weight
    assert not head[401].any(), "the padding row scores nothing"
    assert head[400].any()


def test_the_image_is_read_from_the_patches_behind_the_last_norm():
    model = open_clip.create_model(TINY).eval()
    image, seen = torch.rand(2, 3, 32, 32), []
    model.visual.ln_post.register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.no_grad():
        prefix = model.prefix(image)
    assert torch.equal(prefix, seen[-1][:, -16:] @ model.projection.weight.mT)
    assert model.visual.proj is None
    assert abs(model.projection.weight.std().item() * 8 - 1) < 0.1


def test_text_stands_behind_the_image_at_the_positions_told():
    model = tiny_label_model(TOKENIZER)
    sequences = build_sequences([TOKENIZER._cfg.prompt] * 2, [("cat",), ("dog", "toad")], TOKENIZER, model.text_context)
    image, seen = torch.rand(2, 3, 32, 32), []
    run = model.decoder.run
    model.decoder.run = lambda *args: seen.append(args) or run(*args)
    with torch.no_grad():
        logits = model(image, sequences)
        moved = model(image, sequences._replace(positions=sequences.positions + 1))
    assert logits.shape == (2, sequences.ids.shape[1], TOKENIZER.vocab_size + 2)
    embeddings, _, positions = seen[0]
    assert torch.equal(embeddings[:, :16], model.prefix(image))
    assert torch.equal(embeddings[:, 16:], model.decoder.token_embedding(sequences.ids))
    assert positions[0].tolist() == list(range(16 + sequences.ids.shape[1]))
    assert (moved - logits).abs().max() > 1e-3


def test_every_weight_that_is_not_frozen_learns():
    model = tiny_label_model(TOKENIZER).train()
    sequences = build_sequences([TOKENIZER._cfg.prompt] * 2, [("cat",), ("dog", "toad")], TOKENIZER, model.text_context)
    logits = model(torch.rand(2, 3, 32, 32), sequences)
    logits.logsumexp(dim=-1).sum().backward()
    assert [
        name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ] == []
    table = model.decoder.token_embedding.weight
    assert table.data_ptr() != model.decoder.head.weight.data_ptr(), "the head is not tied to the table"


@pytest.mark.parametrize(
    "unlocked, expected",
    [
        (0, set()),
        (1, {"transformer.resblocks.1", "ln_post"}),
        (2, {"transformer.resblocks.1", "transformer.resblocks.0", "ln_post"}),
    ],
)
def test_the_image_tower_is_locked_but_for_its_last_blocks(unlocked, expected):
    model = open_clip.create_model(TINY)
    model.lock_image_tower(unlocked)
    names = trainable(model.visual)
    assert {
        name.rsplit(".", 1)[0] if "ln_post" in name else ".".join(name.split(".")[:3]) for name in names
    } == expected
    assert trainable(model.decoder)
    assert trainable(model.projection)


def test_every_weight_but_the_projection_stands_in_one_layer_group():
    model = open_clip.create_model(TINY)
    listed = []
    for groups in model.layer_groups().values():
        for part in (part for group in groups for part in group if part is not None):
            listed += [part] if isinstance(part, torch.nn.Parameter) else list(part.parameters())
    assert len(listed) == len(set(listed))
    assert set(model.parameters()) - set(listed) == set(model.projection.parameters())
    assert [len(groups) for groups in model.layer_groups().values()] == [3, 4]


def test_another_input_size_interpolates_the_positions(tmp_path):
    model = open_clip.create_model(TINY)
    torch.save(model.state_dict(), tmp_path / "tiny.pt")
    larger = open_clip.create_model(TINY, str(tmp_path / "tiny.pt"), force_image_size=48)
    assert larger.num_image_tokens == 36
    assert torch.equal(larger.visual.positional_embedding[0], model.visual.positional_embedding[0])
    assert torch.equal(larger.decoder.head.weight, model.decoder.head.weight)
    with torch.no_grad():
        assert larger.prefix(torch.rand(1, 3, 48, 48)).shape == (1, 36, 64)


def test_the_eye_starts_from_any_clips_weights(tmp_path):
    vision = open_clip.get_model_config(TINY)["vision_cfg"]
    text = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
    clip = open_clip.CLIP(24, vision, text)
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    model = open_clip.create_model(TINY, pretrained_image_path=str(tmp_path / "clip.pt"))
    theirs = clip.visual.state_dict()
    assert theirs.pop("proj").shape == (64, 24)
    assert all(torch.equal(value, theirs[name]) for name, value in model.visual.state_dict().items())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "pure_bf16"])
def test_precisions(precision):
    model = open_clip.create_model(TINY, precision=precision).eval()
    # Ids alone, without words.
    sequences = build_sequences([TOKENIZER._cfg.prompt], [("cat",)], TOKENIZER, model.text_context)
    image = torch.rand(1, 3, 32, 32).to(torch.float32 if precision == "fp32" else torch.bfloat16)
    with torch.no_grad():
        logits = model(image, sequences)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    "cfg, message",
    [
        (changed(decodr_cfg={}), "no 'decodr_cfg'. Did you mean decoder_cfg"),
        (changed(decoder_cfg=None), "it has no decoder_cfg"),
        (changed(decoder_cfg={"wiidth": 3}), "decoder_cfg has no field 'wiidth'. Did you mean width"),
        (changed(decoder_cfg={"heads": 5}), "width is 64 and heads 5"),
        (changed(decoder_cfg={"context_length": 16}), "context_length is 16 and an image has 16 tokens"),
        (changed(decoder_cfg={"ffn_width": 10**12}), "a model of these sizes has"),
        (changed(label_cfg={"mask_mode": "open"}), "mask_mode is 'open'"),
        (changed(vision_cfg={"layers": [1, 1, 1, 1]}), "the patches of a ViT"),
        (changed(vision_cfg={"timm_model_name": "x"}), "the patches of a ViT"),
        (changed(vision_cfg={"attentional_pool": True, "attn_pooler_heads": 1}), "the patches of a ViT"),
        (changed(vision_cfg={"patch_size": 64}), "patch_size is 64, larger than image_size 32"),
    ],
)
def test_a_wrong_configuration_is_refused_before_anything_is_built(cfg, message):
    with pytest.raises(ConfigError, match=message):
        check_model_cfg(cfg, "here")


def test_options_are_written_into_the_configuration_or_refused():
    model = open_clip.create_model(TINY, force_context_length=64, force_quick_gelu=True, force_patch_dropout=0.5)
    assert (model.context_length, model.text_context) == (64, 48)
    assert type(model.visual.transformer.resblocks[0].mlp[1]).__name__ == "QuickGELU"
    # Half of the patches, and positions that follow on.
    sequences = build_sequences([TOKENIZER._cfg.prompt], [("cat",)], TOKENIZER, model.text_context)
    assert model.train()(torch.rand(1, 3, 32, 32), sequences).shape[1] == sequences.ids.shape[1]
    with pytest.raises(ConfigError, match="no text tower"):
        open_clip.create_model(TINY, force_custom_text=True)


class TestTokenizer:
    @needs_sentencepiece[1]
    @needs_sentencepiece[0]
    def test_it_is_named_or_lies_in_the_models_folder(self, tmp_path):
        path = write_label_tokenizer(tmp_path)
        tokenizer = open_clip.get_tokenizer(TINY, path=path)
        assert (tokenizer.vocab_size, tokenizer.image_id, tokenizer.context_length) == (400, 400, 128)
        assert open_clip.get_tokenizer(TINY, path=path, context_length=64).context_length == 64
        cfg = changed(label_cfg={"tokenizer": path.name})
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg}))
        assert open_clip.get_tokenizer(f"local-dir:{tmp_path}").delimiter_id == tokenizer.delimiter_id

    def test_what_is_missing_is_told(self, tmp_path):
        with pytest.raises(ConfigError, match=r"nxtp-tiny has no tokenizer of its own.*path='tokenizer.model'"):
            open_clip.get_tokenizer(TINY)
        with pytest.raises(ConfigError, match="no option 'pth'. Did you mean path"):
            open_clip.get_tokenizer(TINY, pth=3)
        with pytest.raises(CheckpointError, match=r"llama/tokenizer\.model: .*No such file"):
            open_clip.get_tokenizer(TINY, path=tmp_path / "llama/tokenizer.model")
