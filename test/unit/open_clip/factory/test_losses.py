from types import SimpleNamespace

import pytest

from open_clip import ClipLoss, DistillClipLoss, create_loss
from open_clip.errors import ConfigError


def _args(**changes):
    flags = {"distill": False, "model": "ViT-B-32", "siglip": False, "local_loss": True, "gather_with_grad": True}
    return SimpleNamespace(**(flags | {"rank": 1, "world_size": 4} | changes))


def test_flags_reach_the_loss():
    loss = create_loss(_args())
    assert type(loss) is ClipLoss
    assert (loss.local_loss, loss.gather_with_grad, loss.cache_labels) == (True, True, True)
    assert (loss.rank, loss.world_size) == (1, 4)


def test_a_teacher_asks_for_the_distillation_loss():
    assert isinstance(create_loss(_args(distill=True)), DistillClipLoss)


@pytest.mark.parametrize("changes", [{"siglip": True}, {"model": "coca_ViT-B-32"}])
def test_losses_that_are_not_there_are_refused(changes):
    with pytest.raises(ConfigError, match="not supported yet"):
        create_loss(_args(**changes))
