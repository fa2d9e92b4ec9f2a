import pytest
import torch
import torch.nn.functional as F

from open_clip.errors import ConfigError
from open_clip.loss import ClipLoss


def _features(count=6):
    generator = torch.Generator().manual_seed(0)
    return (F.normalize(torch.randn(count, 8, generator=generator), dim=-1) for _ in range(2))


def test_the_loss_is_the_mean_cross_entropy_of_both_directions():
    images, texts = _features()
    scores = 10.0 * images @ texts.T - 2.0
    expected = (F.cross_entropy(scores, torch.arange(6)) + F.cross_entropy(scores.T, torch.arange(6))) / 2
    found = ClipLoss()(images, texts, torch.tensor(10.0), torch.tensor(-2.0))
    torch.testing.assert_close(found, expected)


def test_gradients_are_rounded_where_upstream_rounds_them():
    images, texts = (x.repeat(8, 16).requires_grad_() for x in _features(4))
    scale, labels = torch.tensor(14.3, requires_grad=True), torch.arange(32)
    per_image, per_text = scale * images @ texts.T, scale * texts @ images.T
    (F.cross_entropy(per_image, labels) + F.cross_entropy(per_text, labels)).div(2).backward()
    wanted = [x.grad for x in (images, texts, scale)]
    found = torch.autograd.grad(ClipLoss()(images, texts, scale), (images, texts, scale))
    assert all(torch.equal(ours, upstreams) for ours, upstreams in zip(found, wanted, strict=True))


def test_a_dict_names_the_loss():
    images, texts = _features()
    found = ClipLoss()(images, texts, torch.tensor(10.0), output_dict=True)
    assert list(found) == ["contrastive_loss"]


def test_labels_are_kept_while_their_number_stays():
    loss, device = ClipLoss(cache_labels=True), torch.device("cpu")
    first = loss.get_ground_truth(device, 4)
    assert loss.get_ground_truth(device, 4) is first
    assert loss.get_ground_truth(device, 5).tolist() == [0, 1, 2, 3, 4]
    assert loss.get_ground_truth(device, 4) is not first


def test_labels_of_a_local_loss_start_at_the_ranks_own_rows():
    loss = ClipLoss(local_loss=True, rank=2, world_size=4)
    assert loss.get_ground_truth(torch.device("cpu"), 3).tolist() == [6, 7, 8]


def test_horovod_is_refused_with_what_to_use_instead():
    with pytest.raises(ConfigError, match="torchrun"):
        ClipLoss(use_horovod=True)
