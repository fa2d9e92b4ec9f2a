import re
import sys
from types import SimpleNamespace

import pytest
import torch

import open_clip
from extras import needs_hf
from open_clip.errors import ConfigError, MissingDependency
from open_clip.hf_configs import ENCODERS as DESCRIBED
from open_clip.hf_configs import arch_dict
from open_clip.hf_model import _POOLERS, HFTextEncoder
from open_clip.model import convert_weights_to_lp
from tiny_encoders import ENCODERS, write_encoder


def test_without_transformers_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependency, match=r"pip install -e '\.\[hf\]'` in the folder of this project"):
        HFTextEncoder("roberta-base", 8)


@pytest.mark.parametrize(
    "pooler, expected",
    [("mean_pooler", 2.0), ("max_pooler", 3.0), ("cls_pooler", 1.0), ("cls_last_hidden_state_pooler", 1.0)],
)
def test_poolers_leave_padding_out(pooler, expected):
    states = torch.tensor([1.0, 3.0, 50.0]).reshape(1, 3, 1).expand(1, 3, 4)
    mask = torch.tensor([[1, 1, 0]])
    pooled = _POOLERS[pooler]()(SimpleNamespace(last_hidden_state=states), mask)
    assert pooled.tolist() == [[expected] * 4]


def test_the_encoders_own_pooled_vector_goes_first_where_it_has_one():
    output = SimpleNamespace(last_hidden_state=torch.zeros(1, 3, 4), pooler_output=torch.ones(1, 4))
    mask = torch.ones(1, 3)
    assert _POOLERS["cls_pooler"]()(output, mask).sum() == 4
    assert _POOLERS["cls_last_hidden_state_pooler"]()(output, mask).sum() == 0


def test_the_encoders_of_all_shipped_models_are_described():
    texts = (open_clip.get_model_config(name).get("text_cfg", {}) for name in open_clip.list_models())
    named = {text.get("hf_model_name") for text in texts}
    assert {name for name in named if name and not name.startswith("/")} == set(DESCRIBED)


class TestWithTransformers:
    pytestmark = needs_hf

    @pytest.fixture
    def asked(self, monkeypatch):
        """The hosts that are asked for; none answers."""
        hosts = []

        def refuse(host, *_, **__):
            hosts.append(host)
            raise OSError("no network")

        monkeypatch.setattr("socket.getaddrinfo", refuse)
        return hosts

    @pytest.mark.parametrize("name", ["roberta-base", "facebook/nllb-200-distilled-600M"])
    def test_without_base_weights_nobody_is_asked(self, asked, name, caplog):
        with torch.device("meta"):
            tower = HFTextEncoder(name, 8, proj_type="mlp", pretrained=False)
        assert tower.vocab_size == DESCRIBED[name].get("vocab_size", 50265)
        assert not asked
        assert not caplog.records

    @pytest.mark.parametrize(
        "name, millions",
        [
            # Source: the column text_mparams of upstream's docs/model_profile.csv.
            ("roberta-ViT-B-32", 124.87),
            ("xlm-roberta-base-ViT-B-32", 278.27),
            ("xlm-roberta-large-ViT-H-14", 560.94),
            ("mt5-base-ViT-B-32", 277.86),
            ("mt5-xl-ViT-H-14", 1674.68),
            ("nllb-clip-base", 414.04),
            ("nllb-clip-large", 767.14),
        ],
    )
    def test_described_encoders_have_the_published_size(self, name, millions):
        config = open_clip.get_model_config(name)
        text, width = config["text_cfg"], config["embed_dim"]
        with torch.device("meta"):
            tower = HFTextEncoder(
                text["hf_model_name"], width, proj_type=text.get("hf_proj_type", "mlp"), pretrained=False
            )
        assert round(sum(parameter.numel() for parameter in tower.parameters()) / 1e6, 2) == millions

    def test_what_is_taken_from_the_hub_is_said_before_and_in_the_error(self, monkeypatch, tmp_path, caplog):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(ConfigError, match=r"config\.json.*folder.*hf_model_name.*pretrained_text=False"):
            HFTextEncoder("roberta-base", 8)
        assert "roberta-base: the Hugging Face hub, or its cache here, is asked for the text tower's" in caplog.text

    @pytest.mark.parametrize("kind", ENCODERS)
    @pytest.mark.parametrize("proj", ["linear", "mlp"])
    def test_texts_become_vectors_whatever_padding_follows(self, tmp_path, kind, proj):
        tower = HFTextEncoder(write_encoder(tmp_path, kind), 8, proj_type=proj, pretrained=False).eval()
        text = torch.tensor([[5, 6, 7], [8, 9, 10]])
        padded = torch.nn.functional.pad(text, (0, 4), value=tower.config.pad_token_id)
        assert tower(text).shape == (2, 8)
        torch.testing.assert_close(tower(padded), tower(text), atol=1e-5, rtol=1e-4)

    def test_architectures_and_default_poolers_fit_each_other(self):
        assert set(arch_dict) == set(ENCODERS)
        assert {entry["pooler"] for entry in arch_dict.values()} <= set(_POOLERS)

    @pytest.mark.parametrize("kind", ["mt5", "m2m_100"])
    def test_of_an_encoder_decoder_the_encoder_stays(self, tmp_path, kind):
        tower = HFTextEncoder(write_encoder(tmp_path, kind), 8, proj_type="linear", pretrained=False)
        assert not [name for name in tower.state_dict() if "decoder" in name]

    def test_a_folders_weights_are_loaded_when_they_are_wanted(self, tmp_path):
        folder = write_encoder(tmp_path, "roberta")
        with pytest.raises(ConfigError, match="pretrained_text=False does without them"):
            HFTextEncoder(folder, 8, proj_type="linear", pretrained=True)
        first = HFTextEncoder(folder, 8, proj_type="linear", pretrained=False)
        first.transformer.save_pretrained(folder)
        second = HFTextEncoder(folder, 8, proj_type="linear", pretrained=True)
        for name, value in first.transformer.state_dict().items():
            assert torch.equal(second.transformer.state_dict()[name], value), name

    def test_a_config_object_needs_no_folder(self, tmp_path):
        config = HFTextEncoder(write_encoder(tmp_path, "bert"), 8, proj_type="linear", pretrained=False).config
        assert HFTextEncoder("", 8, config=config, proj_type="linear")(torch.tensor([[5, 6]])).shape == (1, 8)

    def test_tokens_come_along_without_the_one_that_is_pooled(self, tmp_path):
        folder = write_encoder(tmp_path, "bert")
        text = torch.tensor([[5, 6, 7]])
        for pooler, kept in (("cls_pooler", 2), ("mean_pooler", 3)):
            tower = HFTextEncoder(
                folder, 8, pooler_type=pooler, proj_type="linear", pretrained=False, output_tokens=True
            )
            assert tower(text)[1].shape == (1, kept, 32)

    @pytest.mark.parametrize("kind", ENCODERS)
    def test_locking_leaves_the_last_layers_the_norms_and_the_projection(self, tmp_path, kind):
        tower = HFTextEncoder(
            write_encoder(tmp_path, kind), 8, pooler_type="mean_pooler", proj_type="linear", pretrained=False
        )
        tower.lock()
        assert _trainable(tower) == {"proj.weight"}
        tower.requires_grad_(True)
        tower.lock(freeze_layer_norm=False)
        # Upstream leaves the norms of BERT's family alone and freezes the others'.
        assert (len(_trainable(tower)) > 1) == (kind in ("bert", "roberta", "xlm-roberta"))
        assert all("LayerNorm" in name or name == "proj.weight" for name in _trainable(tower))
        tower.requires_grad_(True)
        tower.lock(unlocked_layers=1)
        layers = {int(found[1]) for name in _trainable(tower) if (found := re.search(r"[rsk]\.(\d)\.", name))}
        assert layers == {1}

    @pytest.mark.parametrize("kind", ENCODERS)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_a_tower_with_matrices_in_half_precision_computes_in_it(self, tmp_path, kind, dtype):
        tower = HFTextEncoder(write_encoder(tmp_path, kind), 8, proj_type="mlp", pretrained=False).eval()
        text = torch.tensor([[5, 6, 7], [8, 9, tower.config.pad_token_id]])
        full = tower(text)
        convert_weights_to_lp(tower, dtype)
        half = tower(text)
        assert half.dtype == dtype
        torch.testing.assert_close(half.float(), full, atol=2e-2, rtol=2e-2)
        half.float().square().sum().backward()
        assert tower.proj[0].weight.grad.dtype == dtype

    def test_checkpointed_gradients_equal_plain_ones(self, tmp_path):
        tower = HFTextEncoder(write_encoder(tmp_path, "roberta"), 8, proj_type="mlp", pretrained=False).train()
        text, gradients = torch.tensor([[5, 6, 7]]), []
        for enable in (False, True):
            tower.zero_grad()
            tower.set_grad_checkpointing(enable)
            tower(text).square().sum().backward()
            gradients.append([p.grad.clone() for p in tower.parameters() if p.grad is not None])
        assert len(gradients[0]) == len(gradients[1]) > 10
        for plain, checkpointed in zip(*gradients, strict=True):
            torch.testing.assert_close(plain, checkpointed)

    def test_unknown_parts_are_refused_by_name(self, tmp_path):
        folder = write_encoder(tmp_path, "bert")
        with pytest.raises(ConfigError, match="'mean_poolr' is not known. Did you mean mean_pooler"):
            HFTextEncoder(folder, 8, pooler_type="mean_poolr", pretrained=False)
        with pytest.raises(ConfigError, match="hf_proj_type is 'conv'"):
            HFTextEncoder(folder, 8, proj_type="conv", pretrained=False)
        with pytest.raises(ConfigError, match="hf_proj_type is empty"):
            HFTextEncoder(folder, 8, pretrained=False)
        with pytest.raises(ConfigError, match="cannot be read"):
            HFTextEncoder(str(tmp_path / "nothing"), 8)
        (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
        with pytest.raises(ConfigError, match="of type 'gpt2' are not known"):
            HFTextEncoder(str(tmp_path), 8)


def _trainable(tower):
    return {name for name, parameter in tower.named_parameters() if parameter.requires_grad}
