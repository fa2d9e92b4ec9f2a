import warnings

import pytest
import torch

import open_clip
from open_clip.errors import CheckpointError, ConfigError, ModelNotFound
from tiny_models import tiny_batch, tiny_clip

RESNET = {"layers": [1, 1, 2, 1], "width": 8, "head_width": 64, "image_size": 64}
VIT = {"width": 128, "head_width": 64}
SIZES = {"input_resolution": 32, "context_length": 16, "vocab_size": 600}


@pytest.fixture(params=[VIT, RESNET], ids=["vit", "resnet"])
def model(request):
    return tiny_clip(seed=4, quick_gelu=True, vision=request.param, text={"width": 128, "heads": 2})


def _features(model):
    size = model.visual.image_size
    image, text = tiny_batch(image_size=(size, size) if isinstance(size, int) else size)
    with torch.no_grad():
        return model(image, text)


@pytest.fixture
def file(model, tmp_path):
    path = tmp_path / "model.pt"
    torch.save(model.state_dict() | {key: torch.tensor(value) for key, value in SIZES.items()}, path)
    return path


def test_a_plain_file_gives_the_model_in_eval_mode_and_fp32_on_a_cpu(model, file):
    loaded = open_clip.load_openai_model(str(file), device="cpu")
    assert not loaded.training
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    for found, expected in zip(_features(loaded), _features(model), strict=True):
        assert torch.equal(found, expected)
    assert open_clip.get_model_preprocess_cfg(loaded)["size"] == model.visual.image_size
    assert loaded.visual.image_mean == open_clip.OPENAI_DATASET_MEAN


def test_a_script_archive_gives_the_same_without_running_its_code(model, tmp_path):
    path = tmp_path / "archive.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(open_clip.trace_model(model, batch_size=2), path)
    loaded = open_clip.load_openai_model(str(path), device="cpu")
    for found, expected in zip(_features(loaded), _features(model), strict=True):
        assert torch.equal(found, expected)


def test_a_precision_casts_the_weights_as_create_model_does(file):
    half = open_clip.load_openai_model(str(file), precision="bf16", device="cpu")
    pure = open_clip.load_openai_model(str(file), precision="pure_bf16", device="cpu")
    assert half.visual.conv1.weight.dtype == torch.bfloat16
    assert half.ln_final.weight.dtype == torch.float32
    assert {parameter.dtype for parameter in pure.parameters()} == {torch.bfloat16}


def test_what_cannot_be_loaded_is_said(file, tmp_path):
    with pytest.raises(ModelNotFound, match="ViT-L-14"):
        open_clip.load_openai_model("ViT-L-41")
    with pytest.raises(ConfigError, match="fp16"):
        open_clip.load_openai_model(str(file), precision="fp61", device="cpu")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not an OpenAI CLIP state dict"):
        open_clip.load_openai_model(str(tmp_path / "other.pt"), device="cpu")


def test_every_model_of_openai_is_listed_with_its_quickgelu_twin():
    listed = open_clip.list_openai_models()
    assert len(listed) == 18
    assert {f"{name}-quickgelu" for name in listed[:9]} == set(listed[9:])
