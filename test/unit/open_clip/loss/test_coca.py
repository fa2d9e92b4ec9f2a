import pytest
import torch
import torch.nn.functional as F

from open_clip.loss import ClipLoss, CoCaLoss


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    images, texts = (F.normalize(torch.randn(4, 8, generator=generator), dim=-1) for _ in range(2))
    logits = torch.randn(4, 5, 11, generator=generator)
    labels = torch.randint(1, 11, (4, 5), generator=generator)
    return images, texts, logits, labels, torch.tensor(10.0)


def test_both_parts_come_times_their_weights(batch):
    images, texts, logits, labels, scale = batch
    found = CoCaLoss(2.0, 0.5)(*batch, output_dict=True)
    torch.testing.assert_close(found["contrastive_loss"], 0.5 * ClipLoss()(images, texts, scale))
    expected = -logits.log_softmax(-1).gather(2, labels.unsqueeze(-1)).mean()
    torch.testing.assert_close(found["caption_loss"], 2 * expected)


def test_padding_is_not_predicted(batch):
    images, texts, logits, labels, scale = batch
    padded = F.pad(labels, (0, 2), value=7)
    wide = F.pad(logits, (0, 0, 0, 2), value=3.0)
    loss = CoCaLoss(1.0, 1.0, pad_id=7)
    labels[labels == 7] = 6
    padded[:, :-2] = labels
    torch.testing.assert_close(
        loss(images, texts, wide, padded, scale)[1], loss(images, texts, logits, labels, scale)[1]
    )


def test_a_weight_of_zero_leaves_the_features_alone(batch):
    contrastive, caption = CoCaLoss(1.0, 0.0)(None, None, *batch[2:])
    assert contrastive == 0
    assert caption > 0
