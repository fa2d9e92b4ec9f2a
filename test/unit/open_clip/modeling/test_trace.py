import warnings

import pytest
import torch

from open_clip import trace_model
from tiny_models import tiny_batch, tiny_clip

RESNET = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64}


@pytest.mark.parametrize("options", [{}, {"vision": RESNET}, {"custom_text": True}], ids=["vit", "resnet", "custom"])
def test_a_traced_model_answers_as_the_model_does_whatever_the_batch_size(options, tmp_path):
    model = tiny_clip(seed=3, **options).train()
    size = model.visual.image_size
    image, text = tiny_batch(count=3, image_size=(size, size) if isinstance(size, int) else size)
    with warnings.catch_warnings():
        # torch warns that TorchScript has no future; these files are for programs that still take them.
        warnings.simplefilter("ignore")
        traced = trace_model(model, batch_size=2)
        torch.jit.save(traced, tmp_path / "traced.pt")
        loaded = torch.jit.load(tmp_path / "traced.pt")
    assert not model.training
    assert traced.visual.image_size == size
    for found, expected in zip(loaded(image, text), model(image, text), strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(loaded.encode_image(image), model.encode_image(image))
    torch.testing.assert_close(loaded.encode_text(text), model.encode_text(text))
