import json
from types import SimpleNamespace

import open_clip
from open_clip import ClipLoss, CoCaLoss, DistillClipLoss, create_loss
from open_clip.loss import SigLipLoss
from tiny_models import tiny_clip, tiny_coca, tiny_coca_config, tiny_config, write_config


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


def test_a_coca_is_known_by_its_configuration_and_its_class_whatever_its_name(tmp_path):
    weights = {"coca_caption_loss_weight": 1.0, "coca_contrastive_loss_weight": 1.0}
    open_clip.add_model_config(write_config(tmp_path, "my-captioner", tiny_coca_config()))
    open_clip.add_model_config(write_config(tmp_path, "no-coca-at-all", tiny_config()))
    assert type(create_loss(_args(model="my-captioner", **weights))) is CoCaLoss
    assert type(create_loss(_args(model="no-coca-at-all", **weights))) is ClipLoss
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": tiny_coca_config()}))
    assert type(create_loss(_args(model=f"local-dir:{tmp_path}", **weights))) is CoCaLoss
    assert type(create_loss(_args(model="not-in-the-list", **weights), tiny_coca())) is CoCaLoss
    assert type(create_loss(_args(model="coca_of-somebody", **weights), tiny_clip())) is ClipLoss


def test_siglip_asks_for_the_sigmoid_loss_and_its_exchange():
    loss = create_loss(_args(siglip=True, loss_dist_impl="gather"))
    assert type(loss) is SigLipLoss
    assert (loss.dist_impl, loss.rank, loss.world_size) == ("gather", 1, 4)
    assert create_loss(_args(siglip=True)).dist_impl == "bidir"
