"""A checkpoint whose entries do not fit the run, or anything, ends a start with a status and the entry's name."""

import pytest
import torch

import open_clip
from killed_trainer import NANO
from pairs import make_pairs, micro_flags
from runs import load_payload
from tiny_models import write_config
from training.main import main

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch: (its flags, its checkpoint)."""
    folder = tmp_path_factory.mktemp("states")
    open_clip.add_model_config(write_config(folder, "ViT-nano", NANO))
    flags = micro_flags(make_pairs(folder, 16, 1), None, model="ViT-nano", ema_decay=0.9)
    assert main([*flags, "--logs-dir", str(folder), "--name", "run", "--epochs", "1"]) == 0
    return flags, folder / "run" / "checkpoints" / "epoch_1.pt"


def resume(run, path, tmp_path, capfd, *more):
    words = [*run[0], "--logs-dir", str(tmp_path), "--name", "again", "--resume", str(path), *more]
    status = main(words)
    captured = capfd.readouterr()
    return status, captured.out + captured.err


@pytest.mark.parametrize(
    "flag,value,name,shapes",
    [
        ("--force-image-size", "64", "visual.positional_embedding", "(17, 16) in the file and (65, 16) in the model"),
        ("--force-context-length", "8", "positional_embedding", "(16, 8) in the file and (8, 8) in the model"),
    ],
)
def test_a_resume_with_another_size_names_both_shapes_and_the_way_out(run, tmp_path, capfd, flag, value, name, shapes):
    status, log = resume(run, run[1], tmp_path, capfd, flag, value)
    assert status == 2, log
    assert f"({flag})" in log
    # A file of upstream's or of an older version does not say which model it holds.
    payload = torch.load(run[1], weights_only=False)
    del payload["open_clip_config"]
    torch.save(payload, tmp_path / "epoch_1.pt")
    status, log = resume(run, tmp_path / "epoch_1.pt", tmp_path, capfd, flag, value)
    assert status == 4, log
    assert f"{name}: exp_avg is {shapes}" in log
    assert "--pretrained instead of --resume" in log


FORGED = "\x1b[31mX\n2026-01-01 | ERROR | forged"


def set_moment(payload, value):
    payload["optimizer"]["state"][3]["exp_avg"] = value


CHANGES = {
    "a moment of one value": (lambda payload: set_moment(payload, torch.zeros(1)), "exp_avg"),
    "a claim of terabytes": (lambda payload: payload["optimizer"].update(x=torch.zeros(1).expand(1 << 40)), "x"),
    "no averages": (lambda payload: payload.update(state_dict_ema=5), "state_dict_ema"),
    "averages of whole numbers": (
        lambda payload: payload["state_dict_ema"].update(logit_scale=torch.tensor(3)),
        "logit_scale",
    ),
    "averages that are not finite": (
        lambda payload: payload["state_dict_ema"].update(logit_scale=torch.tensor(float("inf"))),
        "logit_scale",
    ),
    "random state of zeros": (
        lambda payload: payload["training_state"]["rng"][0].update(torch=torch.zeros(5056, dtype=torch.uint8)),
        "training_state.rng[0]",
    ),
    "more batches than an epoch has": (lambda payload: payload["training_state"]["progress"].update(batch=99), "99"),
    "a name that forges a line": (lambda payload: payload["state_dict"].update({FORGED: torch.zeros(1)}), "X\\n2026"),
    "an order that forges a line": (
        lambda payload: (
            payload["training_state"]["progress"].update(batch=1),
            payload["training_state"]["order"].update(arrangement=FORGED),
        ),
        "X\\n2026",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_does_not_fit_is_refused_by_its_name(run, tmp_path, capfd, kind):
    payload = load_payload(run[1])
    change, name = CHANGES[kind]
    change(payload)
    torch.save(payload, tmp_path / "changed.pt")
    status, log = resume(run, tmp_path / "changed.pt", tmp_path, capfd)
    assert status == (2 if "order" in kind else 4), log
    assert "changed.pt" in log
    assert name in log
    assert "Traceback" not in log
    assert "\x1b[31m" not in log
    assert "\n2026-01-01 | ERROR" not in log


def test_upstreams_checkpoint_goes_on(run, tmp_path, capfd):
    payload = load_payload(run[1])
    theirs = {key: payload[key] for key in ("epoch", "name", "state_dict", "optimizer")}
    for group in theirs["optimizer"]["param_groups"]:
        # Of an older torch, and with what a scheduler adds.
        group.pop("decoupled_weight_decay", None)
        group.update(foreach=None, fused=None, initial_lr=1e-3)
    torch.save(theirs, tmp_path / "epoch_1.pt")
    status, log = resume(run, tmp_path / "epoch_1.pt", tmp_path, capfd)
    assert status == 0, log
    assert "(epoch 1, step 2)" in log
