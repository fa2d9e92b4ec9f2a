from types import SimpleNamespace

from open_clip import ClipLoss, CoCaLoss, DistillClipLoss, create_loss
from open_clip.loss import SigLipLoss


def _args(**changes):
    flags = {"distill": False, "model": "ViT-B-32", "siglip": False, "local_loss": True, "gather_with_grad": True}
    return SimpleNamespace(**(flags | {"rank": 1, "world_size": 4} | changes))


def test_flags_reach_the_loss():
    loss = create_loss(_args())
    assert type(loss) is ClipLoss
    assert (loss.local_loss, loss.gather_with_grad, loss.cache_labels) == (True, True, True)
    assert (loss.rank, loss.world_size) == (1, 4)


def test_the_rows_of_a_tile_reach_every_loss_with_scores():
    for changes in ({}, {"distill": True}, {"model": "coca", "coca_caption_loss_weight": 1.0}):
        flags = {"coca_contrastive_loss_weight": 1.0, **changes}
        assert create_loss(_args(**flags)).tile_rows is None
        assert create_loss(_args(**flags, loss_tile_rows=64)).tile_rows == 64
    assert create_loss(_args(siglip=True)).chunk_size is None
    assert create_loss(_args(siglip=True, loss_tile_rows=64)).chunk_size == 64


def test_a_teacher_asks_for_the_distillation_loss():
    assert isinstance(create_loss(_args(distill=True)), DistillClipLoss)


def test_a_coca_model_asks_for_its_loss_with_the_weights_of_the_flags():
    loss = create_loss(_args(model="coca_ViT-B-32", coca_caption_loss_weight=3.0, coca_contrastive_loss_weight=0.5))
    assert type(loss) is CoCaLoss
    assert (loss.caption_loss_weight, loss.clip_loss_weight, loss.pad_id) == (3.0, 0.5, 0)
    assert (loss.local_loss, loss.gather_with_grad, loss.rank, loss.world_size) == (True, True, 1, 4)


def test_siglip_asks_for_the_sigmoid_loss_and_its_exchange():
    loss = create_loss(_args(siglip=True, loss_dist_impl="gather"))
    assert type(loss) is SigLipLoss
    assert (loss.dist_impl, loss.rank, loss.world_size) == ("gather", 1, 4)
    assert create_loss(_args(siglip=True)).dist_impl == "bidir"
