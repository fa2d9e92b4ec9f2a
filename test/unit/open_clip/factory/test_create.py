import json
import warnings

import pytest
import torch

import open_clip
from open_clip.checkpoint import CONFIG_ENTRY, write_safetensors
from open_clip.errors import CheckpointError, ConfigError, ModelNotFound
from open_clip.factory.description import describe_model
from tiny_models import tiny_clip, tiny_coca_config, tiny_config, write_config

NAME = "tiny-for-create"


@pytest.fixture(autouse=True)
def _tiny_model(tmp_path):
    open_clip.add_model_config(write_config(tmp_path, NAME, tiny_config()))
    open_clip.add_model_config(write_config(tmp_path, "tiny-coca", tiny_coca_config()))


@pytest.fixture
def weights_file(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_safetensors(tiny_clip(seed=9).state_dict(), path)
    return path


def test_forced_options_reach_the_model():
    model = open_clip.create_model(
        NAME,
        force_quick_gelu=True,
        force_custom_text=True,
        force_patch_dropout=0.25,
        force_image_size=[48],
        force_context_length=20,
        output_dict=True,
        init_logit_bias=-10,
    )
    assert isinstance(model, open_clip.CustomTextCLIP)
    assert type(model.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"
    assert model.visual.patch_dropout.prob == 0.25
    assert model.visual.image_size == (48, 48)
    assert model.context_length == 20
    assert model.output_dict
    assert model.logit_bias.item() == -10


@pytest.mark.parametrize(
    "precision, matrix, norm",
    [
        ("fp32", torch.float32, torch.float32),
        ("amp_bf16", torch.float32, torch.float32),
        ("bf16", torch.bfloat16, torch.float32),
        ("fp16", torch.float16, torch.float32),
        ("pure_bf16", torch.bfloat16, torch.bfloat16),
    ],
)
def test_precisions_give_matrices_and_norms_their_types(precision, matrix, norm):
    model = open_clip.create_model(NAME, precision=precision)
    assert model.visual.conv1.weight.dtype == matrix
    assert model.text_projection.dtype == matrix
    assert model.ln_final.weight.dtype == norm


@pytest.mark.parametrize("precision", ["bf16", "pure_bf16"])
def test_a_cast_model_runs_forward_and_backward(precision):
    model = open_clip.create_model(NAME, precision=precision)
    image = torch.randn(2, 3, 32, 32, dtype=open_clip.get_input_dtype(precision))
    features, text_features, _ = model(image, torch.ones(2, 16, dtype=torch.long))
    assert features.dtype == text_features.dtype == torch.bfloat16
    features.float().sum().backward()
    assert model.visual.conv1.weight.grad is not None


def test_weights_of_a_file_are_loaded_and_may_be_left_out(weights_file):
    loaded = open_clip.create_model(NAME, pretrained=weights_file)
    assert torch.equal(loaded.visual.proj, tiny_clip(seed=9).visual.proj)
    left_out = open_clip.create_model(NAME, pretrained=weights_file, load_weights=False)
    assert not torch.equal(left_out.visual.proj, loaded.visual.proj)


def test_one_tower_can_be_loaded_from_a_file_of_both(weights_file):
    torch.manual_seed(1)
    model = open_clip.create_model(NAME, pretrained_image_path=weights_file)
    assert torch.equal(model.visual.proj, tiny_clip(seed=9).visual.proj)
    assert not torch.equal(model.text_projection, tiny_clip(seed=9).text_projection)


@pytest.mark.parametrize("is_bare", [False, True])
def test_a_towers_positions_are_resized_as_those_of_the_whole_model(weights_file, tmp_path, is_bare):
    path = weights_file
    if is_bare:
        path = tmp_path / "tower.pt"
        tower = open_clip.create_model(NAME, weights_file).visual
        torch.save(tower.state_dict(), path)
    options = {"force_image_size": 48, "init_logit_bias": -10}
    whole = open_clip.create_model(NAME, weights_file, **options)
    model = open_clip.create_model(NAME, pretrained_image_path=path, **options)
    assert torch.equal(model.visual.positional_embedding, whole.visual.positional_embedding)
    assert not torch.equal(model.token_embedding.weight, whole.token_embedding.weight)
    assert (model.logit_bias.item(), whole.logit_bias.item()) == (-10, 0)


def test_a_text_towers_positions_are_resized_too(weights_file):
    options = {"force_context_length": 20, "force_custom_text": True}
    whole = open_clip.create_model(NAME, weights_file, **options)
    model = open_clip.create_model(NAME, pretrained_text_path=weights_file, **options)
    assert torch.equal(model.text.positional_embedding, whole.text.positional_embedding)
    assert not torch.equal(model.visual.positional_embedding, whole.visual.positional_embedding)


@pytest.mark.parametrize(
    "tower, changed, said",
    [
        ("image", {"force_quick_gelu": True}, "quick_gelu was false and is true"),
        ("text", {"force_quick_gelu": True}, "quick_gelu was false and is true"),
        ("image", {"force_image_size": 48}, "vision_cfg.image_size was 32 and is 48"),
        ("image", {"force_preprocess_cfg": {"mean": (0.1, 0.2, 0.3)}}, "mean was"),
        ("text", {"force_context_length": 20}, "text_cfg.context_length was 16 and is 20"),
        ("text", {"force_image_size": 48}, None),
        ("text", {"force_preprocess_cfg": {"mean": (0.1, 0.2, 0.3)}}, None),
        ("image", {"force_context_length": 20}, None),
        ("image", {}, None),
    ],
)
def test_a_tower_is_told_from_the_settings_it_was_trained_with(tmp_path, caplog, tower, changed, said):
    path, trained = tmp_path / "told.safetensors", open_clip.create_model(NAME)
    write_safetensors(trained.state_dict(), path, {CONFIG_ENTRY: describe_model(trained)})
    open_clip.create_model(NAME, **{f"pretrained_{tower}_path": path}, **changed)
    lines = [one.getMessage() for one in caplog.records if "trained with other settings" in one.getMessage()]
    assert len(lines) == (said is not None)
    assert said is None or said in lines[0]


def test_a_tower_of_another_width_is_refused_with_what_the_file_says(tmp_path):
    path, trained = tmp_path / "told.safetensors", open_clip.create_model("tiny-coca")
    write_safetensors(trained.state_dict(), path, {CONFIG_ENTRY: describe_model(trained)})
    wide = tiny_config()
    wide["vision_cfg"] |= {"width": 2 * wide["vision_cfg"]["width"]}
    open_clip.add_model_config(write_config(tmp_path, "tiny-wide", wide))
    with pytest.raises(CheckpointError, match=r"(?s)do not fit.*The file says.*tiny-coca.*vision_cfg\.width was"):
        open_clip.create_model("tiny-wide", pretrained_image_path=path)


def test_a_tower_file_without_its_tower_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    write_safetensors({"something": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="nothing in it belongs to the tower 'visual'"):
        open_clip.create_model(NAME, pretrained_image_path=path)


def test_a_model_folder_brings_its_config_preprocessing_and_weights(tmp_path, weights_file):
    config = {"model_cfg": tiny_config(), "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    weights_file.rename(tmp_path / "open_clip_model.safetensors")
    model = open_clip.create_model(f"local-dir:{tmp_path}")
    assert torch.equal(model.visual.proj, tiny_clip(seed=9).visual.proj)
    assert list(model.visual.image_mean) == [0.5] * 3


@pytest.mark.parametrize("size", [0, -1, 7, (8, 7), (64, -64), (8, 8, 8), 8.0, "8", True])
def test_an_image_without_a_whole_patch_is_refused_before_a_tower_is_built(size):
    with pytest.raises(ConfigError, match="force_image_size="):
        open_clip.create_model("ViT-micro-8-32", force_image_size=size)
    with pytest.raises(ConfigError, match="at least 32 x 32"):
        open_clip.create_model("RN50", force_image_size=31)


@pytest.mark.parametrize("length", [0, -3, 1.5, "77"])
def test_a_text_without_tokens_is_refused(length):
    with pytest.raises(ConfigError, match="force_context_length="):
        open_clip.create_model("ViT-micro-8-32", force_context_length=length)


@pytest.mark.parametrize(
    "folder, named",
    [
        ("", "FOLDER"),
        ("nothing", "no such folder"),
        ("here", r"here/open_clip_config\.json"),
        ("x" * 5000, "looked at"),
    ],
)
def test_a_folder_that_is_no_model_is_a_checkpoint_error_and_a_missing_file(tmp_path, monkeypatch, folder, named):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    for missing in (CheckpointError, FileNotFoundError):
        with pytest.raises(missing, match=named) as caught:
            open_clip.create_model(f"local-dir:{folder}")
        assert caught.value.exit_status == 4


@pytest.mark.parametrize("pretrained, error", [("laion2b", ModelNotFound), ("no/such.pt", CheckpointError)])
def test_weights_that_are_not_there_are_an_error(pretrained, error):
    with pytest.raises(error, match="weights"):
        open_clip.create_model(NAME, pretrained=pretrained)


def test_weights_that_are_no_name_are_refused():
    with pytest.raises(ConfigError, match="pretrained is True; it can be a tag or the path"):
        open_clip.create_model(NAME, pretrained=True)


def test_random_weights_are_an_error_where_pretrained_ones_are_required():
    with pytest.raises(CheckpointError, match="required"):
        open_clip.create_model(NAME, require_pretrained=True)
    with pytest.raises(RuntimeError, match="needs `pretrained`"):
        open_clip.create_model_from_pretrained(NAME)


@pytest.mark.parametrize(
    "name, options, said",
    [
        (NAME, {"precision": "fp61"}, "Did you mean fp16"),
        (NAME, {"init_logit_bais": 1}, "Did you mean init_logit_bias"),
        (NAME, {"pad_id": 3}, "the model configuration does not fit"),
    ],
)
def test_what_cannot_be_built_is_refused_in_a_sentence(name, options, said):
    with pytest.raises(ConfigError, match=said):
        open_clip.create_model(name, **options)


def test_older_keywords_are_taken():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        open_clip.create_model(NAME, jit=True, pretrained_hf=False)


def test_transforms_come_with_the_settings_asked_for(weights_file):
    model, train, val = open_clip.create_model_and_transforms(
        NAME, image_mean=(0.1, 0.2, 0.3), image_resize_mode="squash", aug_cfg={"scale": (0.5, 1.0)}
    )
    assert model.visual.preprocess_cfg["size"] == (32, 32)
    assert model.visual.preprocess_cfg["resize_mode"] == "squash"
    assert model.visual.image_mean == (0.1, 0.2, 0.3)
    assert tuple(train.transforms[0].scale) == (0.5, 1.0)
    assert val.transforms[0].size in (32, (32, 32))
    _, same = open_clip.create_model_from_pretrained(NAME, weights_file)
    assert len(same.transforms) >= 4
    alone = open_clip.create_model_from_pretrained(NAME, weights_file, return_transform=False)
    assert isinstance(alone, open_clip.CLIP)


def test_a_multimodal_cfg_asks_for_a_coca_and_its_options_reach_the_decoder():
    model = open_clip.create_model("tiny-coca", force_context_length=11, pad_id=3)
    assert type(model) is open_clip.CoCa
    assert (model.context_length, model.text.context_length, model.text_decoder.context_length) == (11, 11, 11)
    assert model.pad_id == 3
