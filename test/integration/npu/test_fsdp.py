"""A model spread over two simulated npus, against DDP there."""

import pytest

from npu_session import simulator_env
from pairs import make_pairs, micro_flags
from runs import run_trainer, train_losses

pytestmark = pytest.mark.npu


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return make_pairs(folder, 16, 2, name="train.csv"), make_pairs(folder, 5, 2, seed=1, name="val.csv")


def run_on_npu(data, logs, name, *words, **flags):
    chosen = {"device": "npu", "batch_size": 4, "epochs": 1, "grad_clip_norm": 0.5, **flags}
    return run_trainer([*micro_flags(*data, logs_dir=logs, name=name, **chosen), *words], 2, **simulator_env(devices=2))


def test_a_spread_model_gives_the_losses_of_ddp_and_saves_folders(data, tmp_path):
    for name, words in (
        ("ddp", []),
        ("fsdp", ["--fsdp", "--fsdp-checkpoint", "sharded"]),
        ("offloaded", ["--fsdp", "--fsdp-offload-cpu", "--fsdp-no-reshard-after-forward"]),
    ):
        status, output = run_on_npu(data, tmp_path, name, *words)
        assert status == 0, output
    expected = pytest.approx(train_losses(tmp_path / "ddp"), rel=2e-6)
    assert train_losses(tmp_path / "fsdp") == expected
    assert train_losses(tmp_path / "offloaded") == expected
    assert (tmp_path / "fsdp" / "checkpoints" / "epoch_1" / "manifest.json").is_file()
    assert (tmp_path / "offloaded" / "checkpoints" / "epoch_1.pt").is_file()


@pytest.mark.slow
def test_a_scaled_loss_gives_the_losses_of_ddp_and_is_refused_where_gradients_leave_the_device(data, tmp_path):
    for name, words in (("ddp", []), ("fsdp", ["--fsdp"])):
        status, output = run_on_npu(data, tmp_path, name, *words, precision="amp", grad_clip_norm=None)
        assert status == 0, output
    # Products in float16 turn the last bit of a weight into up to 2^-11 of a score.
    assert train_losses(tmp_path / "fsdp") == pytest.approx(train_losses(tmp_path / "ddp"), rel=5e-4)
    status, output = run_on_npu(data, tmp_path, "off", "--fsdp", "--fsdp-offload-cpu", precision="amp")
    assert status != 0
    assert "--fsdp-offload-cpu does not go with --precision amp" in output
