import torch
import torch.nn.functional as F

from open_clip.loss import ClipLoss, DistillClipLoss


def _features(seed):
    return F.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_a_teacher_that_scores_as_the_student_leaves_its_entropy():
    images, texts, scale = _features(0), _features(1), torch.tensor(10.0)
    found = DistillClipLoss()(images, texts, scale, images, texts, scale, output_dict=True)
    scores = scale * images @ texts.T
    entropy = sum(-(s.softmax(1) * s.log_softmax(1)).sum(1).mean() for s in (scores, scores.T)) / 2
    torch.testing.assert_close(found["distill_loss"], entropy)
    torch.testing.assert_close(found["contrastive_loss"], ClipLoss()(images, texts, scale))


def test_without_a_dict_both_losses_come_as_a_pair():
    scale = torch.tensor(10.0)
    assert len(DistillClipLoss()(_features(0), _features(1), scale, _features(2), _features(3), scale)) == 2
