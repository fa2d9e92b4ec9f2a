import pytest
import torch

from open_clip.errors import ConfigError
from open_clip.transformer import MultimodalTransformer


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return MultimodalTransformer(width=32, layers=2, heads=2, context_length=8, output_dim=50)


@pytest.fixture
def embeddings():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 5, 32, generator=generator), torch.randn(3, 8, 32, generator=generator)


def test_scores_depend_on_the_image_and_on_earlier_tokens_only(decoder, embeddings):
    images, tokens = embeddings
    scores = decoder(images, tokens)
    assert scores.shape == (3, 8, 50)
    torch.testing.assert_close(decoder(images, tokens[:, :3]), scores[:, :3])
    assert not torch.allclose(decoder(images.flip(0), tokens)[:, 0], scores[:, 0])


def test_checkpointing_changes_no_gradient(decoder, embeddings):
    answers = []
    for enable in (False, True):
        decoder.zero_grad()
        decoder.set_grad_checkpointing(enable)
        decoder(*embeddings).square().mean().backward()
        answers.append([parameter.grad.clone() for parameter in decoder.parameters()])
    for plain, checkpointed in zip(*answers, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_every_weight_is_drawn(decoder):
    assert decoder.text_projection.std().item() == pytest.approx(32**-0.5, rel=0.1)


def test_what_it_cannot_do_is_refused(decoder, embeddings):
    images, tokens = embeddings
    with pytest.raises(ConfigError, match="16 tokens, but the decoder takes 8"):
        decoder(images, torch.cat([tokens, tokens], dim=1))
    with pytest.raises(ConfigError, match="no forward_intermediates"):
        decoder.forward_intermediates(tokens)
    with pytest.raises(ConfigError, match="batch_first"):
        MultimodalTransformer(32, 1, 2, batch_first=False)
