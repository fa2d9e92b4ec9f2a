import pytest
import torch
import torch.nn.functional as F

from open_clip.errors import ConfigError
from open_clip.loss import SigLipLoss


def _leaves(rows=6, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    images, texts = (F.normalize(torch.randn(rows, 8, generator=generator, dtype=dtype), dim=-1) for _ in range(2))
    return [x.requires_grad_() for x in (images, texts, torch.tensor(10.0, dtype=dtype), torch.tensor(-3.0).to(dtype))]


def test_it_is_the_cross_entropy_of_yes_for_pairs_and_no_for_others():
    images, texts, scale, bias = _leaves()
    logits = scale * images @ texts.T + bias
    expected = F.binary_cross_entropy_with_logits(logits, torch.eye(6, dtype=torch.float64), reduction="sum") / 6
    torch.testing.assert_close(SigLipLoss()(images, texts, scale, bias, output_dict=True)["contrastive_loss"], expected)


def test_the_bias_may_be_missing():
    images, texts, scale, _ = _leaves()
    zero = torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close(SigLipLoss()(images, texts, scale), SigLipLoss()(images, texts, scale, zero))


@pytest.mark.parametrize("chunk_size", [1, 4, 6, 100])
def test_chunks_change_neither_loss_nor_gradients(chunk_size):
    answers = []
    for loss in (SigLipLoss(), SigLipLoss(chunk_size=chunk_size)):
        leaves = _leaves()
        value = loss(*leaves)
        value.backward()
        answers.append([value.detach(), *(leaf.grad for leaf in leaves)])
    for whole, chunked in zip(*answers, strict=True):
        torch.testing.assert_close(chunked, whole, atol=1e-12, rtol=0)


def test_answers_are_one_for_pairs_only():
    loss = SigLipLoss()
    own = loss.get_ground_truth(torch.device("cpu"), torch.float32, 3)
    assert own.tolist() == [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
    assert loss.get_ground_truth(torch.device("cpu"), torch.float32, 3, negative_only=True).max() == -1


def test_unknown_exchanges_and_chunks_are_refused():
    with pytest.raises(ConfigError, match="bidir"):
        SigLipLoss(dist_impl="bidirectional")
    with pytest.raises(ConfigError, match="chunk_size is -1"):
        SigLipLoss(chunk_size=-1)
