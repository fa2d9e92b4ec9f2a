import pytest
import torch

from open_clip.errors import CheckpointError
from open_clip.model import build_model_from_openai_state_dict
from tiny_models import tiny_batch, tiny_clip


def _openai_weights():
    model = tiny_clip(seed=4, quick_gelu=True, vision={"width": 128, "head_width": 64}, text={"width": 128, "heads": 2})
    sizes = {"input_resolution": 32, "context_length": 16, "vocab_size": 600}
    return model, model.state_dict() | {key: torch.tensor(value) for key, value in sizes.items()}


def test_the_architecture_is_read_off_the_shapes():
    model, weights = _openai_weights()
    built = build_model_from_openai_state_dict(weights, cast_dtype=torch.float32)
    image, text = tiny_batch()
    assert not built.training
    assert torch.equal(built.encode_image(image), model.encode_image(image))
    assert torch.equal(built.encode_text(text), model.encode_text(text))


def test_half_precision_is_the_default():
    built = build_model_from_openai_state_dict(_openai_weights()[1])
    assert built.visual.conv1.weight.dtype == torch.float16
    assert built.ln_final.weight.dtype == torch.float32


def test_a_resnet_is_read_off_the_shapes_too():
    vision = {"layers": [1, 2, 1, 1], "width": 8, "head_width": 64, "image_size": 64}
    model = tiny_clip(seed=4, quick_gelu=True, vision=vision, text={"width": 128, "heads": 2})
    built = build_model_from_openai_state_dict(model.state_dict(), cast_dtype=torch.float32)
    image, _ = tiny_batch(image_size=(64, 64))
    assert built.visual.image_size == 64
    assert torch.equal(built.encode_image(image), model.encode_image(image))


def test_what_a_broken_file_lacks_is_named():
    weights = _openai_weights()[1]
    with pytest.raises(CheckpointError, match=r"no ln_final.weight"):
        build_model_from_openai_state_dict({key: value for key, value in weights.items() if key != "ln_final.weight"})
    with pytest.raises(CheckpointError, match="attnpool"):
        build_model_from_openai_state_dict({"visual.layer1.0.conv1.weight": torch.zeros(1)})
