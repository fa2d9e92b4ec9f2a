"""What create_model does for models whose towers come from timm and transformers."""

import pytest
import torch

import open_clip
from extras import needs_hf, needs_timm, needs_towers
from open_clip.errors import ConfigError
from open_clip.families import find_family
from open_clip.hf_model import HFTextEncoder
from tiny_encoders import write_encoder
from tiny_models import tiny_config, write_config

VISION = {"timm_model_name": "test_vit", "image_size": 160, "timm_pool": "avg"}


@pytest.fixture
def timm_name(tmp_path):
    config = tiny_config()
    open_clip.add_model_config(write_config(tmp_path, "tiny-timm", config | {"vision_cfg": VISION}))
    return "tiny-timm"


@pytest.fixture
def hf_name(tmp_path):
    folder = write_encoder(tmp_path, "roberta")
    HFTextEncoder(folder, 64, proj_type="mlp", pretrained=False).transformer.save_pretrained(folder)
    config = tiny_config() | {"text_cfg": {"hf_model_name": folder}}
    open_clip.add_model_config(write_config(tmp_path, "tiny-hf", config))
    return "tiny-hf"


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("configured", [True, False])
def test_base_weights_follow_the_arguments_and_not_the_configuration(asked, configured):
    config = {
        "vision_cfg": VISION | {"timm_model_pretrained": configured},
        "text_cfg": {"hf_model_name": "x", "hf_model_pretrained": configured},
    }
    find_family(config).ask_base_weights(config, image=asked, text=asked)
    assert config["vision_cfg"]["timm_model_pretrained"] is asked
    assert config["text_cfg"]["hf_model_pretrained"] is asked


class TestTimm:
    pytestmark = needs_timm

    def test_a_forced_image_size_reaches_the_network_after_its_weights(self, timm_name, tmp_path):
        first = open_clip.create_model(timm_name)
        torch.save(first.state_dict(), tmp_path / "weights.pt")
        forced = open_clip.create_model(timm_name, str(tmp_path / "weights.pt"), force_image_size=(96, 128))
        assert forced.visual.image_size == forced.visual.preprocess_cfg["size"] == (96, 128)
        assert forced.encode_image(torch.zeros(1, 3, 96, 128)).shape == (1, 64)
        assert torch.equal(forced.visual.head.proj.weight, first.visual.head.proj.weight)

    @pytest.mark.parametrize("precision", ["bf16", "pure_bf16"])
    @pytest.mark.parametrize("custom", [False, True])
    def test_half_precision_casts_the_whole_tower_and_runs(self, timm_name, precision, custom):
        model = open_clip.create_model(timm_name, precision=precision, force_custom_text=custom).eval()
        assert {parameter.dtype for parameter in model.visual.parameters()} == {torch.bfloat16}
        images, texts = torch.zeros(1, 3, 160, 160, dtype=torch.bfloat16), torch.ones(1, 16, dtype=torch.long)
        assert model.encode_image(images).dtype == model.encode_text(texts).dtype == torch.bfloat16
        assert (
            model.ln_final.weight.dtype == (torch.bfloat16 if precision[0] == "p" else torch.float32)
            if not custom
            else True
        )

    @pytest.mark.parametrize("network", ["test_vit", "test_vit_relpos", "test_vit.nonsense"])
    def test_base_weights_that_cannot_be_fetched_are_an_error_that_names_ways_out(
        self, timm_name, tmp_path, monkeypatch, network
    ):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        config = tiny_config() | {"vision_cfg": VISION | {"timm_model_name": network}}
        open_clip.add_model_config(write_config(tmp_path, "tiny-timm-pretrained", config))
        with pytest.raises(ConfigError, match=f"{network}.*pretrained_image=False.*pretrained_image_path.*local-dir"):
            open_clip.create_model("tiny-timm-pretrained", pretrained_image=True)

    def test_base_weights_come_from_a_folder_that_timm_saved(self, tmp_path):
        import timm

        network = timm.create_model("test_vit")
        timm.models.save_for_hf(network, tmp_path / "saved", model_config={})
        for folder in ("saved", "missing"):
            config = tiny_config() | {"vision_cfg": VISION | {"timm_model_name": f"local-dir:{tmp_path / folder}"}}
            open_clip.add_model_config(write_config(tmp_path, f"tiny-timm-{folder}", config))
        model = open_clip.create_model("tiny-timm-saved", pretrained_image=True)
        assert torch.equal(model.visual.trunk.patch_embed.proj.weight, network.patch_embed.proj.weight)
        with pytest.raises(ConfigError, match=r"(?s)missing.*cannot be read.*config\.json"):
            open_clip.create_model("tiny-timm-missing", pretrained_image=True)


class TestHuggingFace:
    pytestmark = needs_hf

    def test_the_text_tower_starts_from_its_base_weights_unless_told_otherwise(self, hf_name, tmp_path):
        first, second = (open_clip.create_model(hf_name).state_dict() for _ in range(2))
        random = open_clip.create_model(hf_name, pretrained_text=False).state_dict()
        old_name = open_clip.create_model(hf_name, pretrained_hf=False).state_dict()
        key = "text.transformer.embeddings.word_embeddings.weight"
        assert torch.equal(first[key], second[key])
        assert not torch.equal(first[key], random[key])
        assert not torch.equal(first[key], old_name[key])

    def test_a_full_checkpoint_needs_no_base_weights(self, hf_name, tmp_path):
        model = open_clip.create_model(hf_name)
        torch.save(model.state_dict(), tmp_path / "weights.pt")
        (tmp_path / "tiny-roberta" / "model.safetensors").unlink()
        with pytest.raises(ConfigError, match="base weights of the text tower"):
            open_clip.create_model(hf_name)
        loaded = open_clip.create_model(hf_name, str(tmp_path / "weights.pt"))
        assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())

    def test_old_files_that_hold_position_ids_load_whole_and_as_a_tower(self, hf_name, tmp_path):
        ids = {"text.transformer.embeddings.position_ids": torch.arange(40)[None]}
        weights = open_clip.create_model(hf_name).state_dict() | ids
        torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, tmp_path / "whole.pt")
        tower = {name.removeprefix("text."): value for name, value in weights.items() if name.startswith("text.")}
        torch.save(tower, tmp_path / "tower.pt")
        key = "text.transformer.embeddings.word_embeddings.weight"
        for options in ({"pretrained": str(tmp_path / "whole.pt")}, {"pretrained_text_path": tmp_path / "tower.pt"}):
            loaded = open_clip.create_model(hf_name, **options).state_dict()
            assert torch.equal(loaded[key], weights[key])


@pytest.mark.parametrize("marks", [pytest.param(None, marks=needs_towers)])
def test_both_towers_train_together(timm_name, hf_name, marks):
    config = open_clip.get_model_config(hf_name)
    model = open_clip.CustomTextCLIP(embed_dim=64, vision_cfg=VISION, text_cfg=config["text_cfg"])
    image_features, text_features, scale = model(torch.randn(2, 3, 160, 160), torch.tensor([[5, 6, 1], [7, 8, 9]]))
    open_clip.ClipLoss()(image_features, text_features, scale).backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "pooler" not in name)
    model.lock_text_tower()
    model.lock_image_tower()
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        "logit_scale",
        "visual.head.proj.weight",
        "text.proj.0.weight",
        "text.proj.2.weight",
    }
