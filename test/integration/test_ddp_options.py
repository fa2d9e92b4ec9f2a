"""DDP's options in real runs of two ranks."""

import pytest

from pairs import make_pairs, micro_flags
from runs import run_trainer, train_losses
from training.data.cores import usable_cores
from training.main import main

pytestmark = pytest.mark.slow


def test_locked_towers_need_no_search_and_bfloat16_gradients_stay_near(tmp_path):
    table = make_pairs(tmp_path, 20, 2, name="train.csv")
    common = {"logs_dir": tmp_path, "lock_image": True, "lock_image_unlocked_groups": 1}
    assert main(micro_flags(table, None, name="one", **common)) == 0
    options = {"batch_size": 4, "ddp_static_graph": True, "ddp_bucket_mb": 1, "ddp_comm_dtype": "bf16"}
    status, output = run_trainer(micro_flags(table, None, name="two", **common, **options), processes=2)
    assert status == 0, output
    one, two = train_losses(tmp_path / "one"), train_losses(tmp_path / "two")
    assert one != two
    # Gradients are rounded to 8 bits in each of ten steps.
    assert two == pytest.approx(one, rel=2e-2)


def test_what_concerns_the_whole_run_is_said_once_and_torch_has_nothing_to_warn_of(tmp_path):
    table = make_pairs(tmp_path, 24, 2)
    words = micro_flags(table, table, logs_dir=tmp_path / "logs", name="run", epochs=1, workers=usable_cores() + 6)
    status, output = run_trainer(words, processes=2)
    assert status == 0, output
    assert output.count("loader processes are started") == 1
    assert "Warning" not in output
