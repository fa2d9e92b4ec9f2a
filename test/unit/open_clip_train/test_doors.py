import argparse
import importlib
from types import SimpleNamespace

import pytest
import torch

import training.main
from open_clip import IMAGENET_CLASSNAMES
from open_clip.errors import ConfigError
from open_clip_train import main as door
from open_clip_train.distributed import (
    all_gather_object,
    init_distributed_device,
    is_device_available,
    is_using_horovod,
    set_device,
)
from open_clip_train.file_utils import check_exists, pt_load, pt_save
from open_clip_train.main import get_latest_checkpoint, natural_key
from open_clip_train.params import ParseKwargs, get_default_params
from open_clip_train.precision import get_autocast
from open_clip_train.train import (
    AverageMeter,
    backward,
    get_clip_metrics,
    maybe_compute_generative_loss,
    postprocess_clip_output,
)
from open_clip_train.zero_shot import accuracy, run, zero_shot_eval
from tiny_models import tiny_clip

MODULES = [
    "params",
    "data",
    "train",
    "zero_shot",
    "distributed",
    "precision",
    "scheduler",
    "logger",
    "file_utils",
    "profiler",
]


@pytest.mark.parametrize("name", MODULES)
def test_every_name_of_a_door_is_the_one_behind_it(name):
    opened, behind = (importlib.import_module(f"{package}.{name}") for package in ("open_clip_train", "training"))
    names = getattr(opened, "__all__", None) or [key for key in vars(opened) if not key.startswith("_")]
    assert names
    assert all(getattr(opened, key) is getattr(behind, key) for key in names)


def test_a_meter_means_over_samples():
    meter = AverageMeter()
    meter.update(1.0, n=3)
    meter.update(5.0)
    assert (meter.val, meter.sum, meter.count, meter.avg) == (5.0, 8.0, 4, 2.0)
    meter.reset()
    assert meter.count == 0


def test_the_backward_pass_goes_through_the_scaler_when_there_is_one():
    weight = torch.ones((), requires_grad=True)
    backward(3 * weight, None)
    backward(3 * weight, torch.amp.GradScaler("cpu", init_scale=8.0))
    assert weight.grad == 3 + 24


def test_outputs_of_a_tuple_are_named_and_captions_are_scored():
    named = postprocess_clip_output(tiny_clip()(torch.randn(2, 3, 32, 32), torch.ones(2, 16, dtype=torch.int64)))
    assert list(named) == ["image_features", "text_features", "logit_scale"]
    assert maybe_compute_generative_loss(named) is None
    logits, labels = torch.randn(2, 3, 5), torch.randint(5, (2, 3))
    loss = maybe_compute_generative_loss({"logits": logits, "labels": labels})
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels))


def test_the_newest_checkpoint_by_name_counts_numbers_as_numbers(tmp_path):
    assert get_latest_checkpoint(str(tmp_path), False) is None
    (tmp_path / "deeper").mkdir()
    for name in ("epoch_9.pt", "deeper/epoch_1.pt", "epoch_10.pt", "notes.txt"):
        (tmp_path / name).touch()
    assert get_latest_checkpoint(str(tmp_path), False) == str(tmp_path / "epoch_10.pt")
    assert sorted(["a10", "A9"], key=natural_key) == ["A9", "a10"]
    with pytest.raises(ConfigError, match="copy them here"):
        get_latest_checkpoint("s3://bucket", True)


def test_flags_of_the_form_key_value_and_defaults_of_a_model_are_upstreams():
    parser = argparse.ArgumentParser()
    parser.add_argument("--aug-cfg", nargs="*", action=ParseKwargs, default={})
    asked = parser.parse_args(["--aug-cfg", "scale=(0.5, 1)", "mode=squash"])
    assert asked.aug_cfg == {"scale": (0.5, 1), "mode": "squash"}
    assert get_default_params("ViT-B-32") == {"lr": 5e-4, "beta1": 0.9, "beta2": 0.98, "eps": 1e-6}


def test_a_single_process_starts_alone(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    args = SimpleNamespace(device="cpu", dist_backend=None, dist_url=None)
    assert init_distributed_device(args).type == "cpu"
    assert (args.rank, args.local_rank, args.world_size, args.distributed) == (0, 0, 1, False)
    assert all_gather_object(args, "mine") == ["mine"]
    assert not is_using_horovod()
    assert is_device_available("cpu")
    assert not is_device_available("cpu:77")
    set_device("cpu")


def test_the_program_is_the_same():
    assert door.main is training.main.main
    assert door.random_seed is training.main.random_seed


def test_accuracy_counts_rows_for_each_k():
    scores = torch.eye(4)
    assert accuracy(scores, torch.tensor([0, 1, 2, 0]), (1, 4)) == [3.0, 4.0]


def test_a_loader_is_classified():
    model, images = tiny_clip(), torch.randn(6, 3, 32, 32)
    classifier = model.encode_image(images[:3], normalize=True).detach().T
    loader = [(images[:2], torch.tensor([0, 1])), (images[2:3], torch.tensor([0]))]
    args = SimpleNamespace(device="cpu", precision="fp32")
    assert run(model, classifier, loader, args) == pytest.approx((2 / 3, 1.0))


def test_zero_shot_evaluation_runs_when_it_is_due():
    images = torch.randn(2, 3, 32, 32)
    data = {"imagenet-v2": SimpleNamespace(dataloader=[(images, torch.tensor([3, 4]))])}
    args = SimpleNamespace(zeroshot_frequency=2, epochs=9, device="cpu", precision="fp32")
    assert zero_shot_eval(None, data, 1, args) == {}
    assert zero_shot_eval(None, {}, 2, args) == {}

    class Names(torch.nn.Module):
        """Knows every class by its place, and sees class 3 in every image."""

        def encode_text(self, tokens, normalize=False):
            return torch.nn.functional.one_hot(tokens[:, 0], 1000).float()

        def encode_image(self, images, normalize=False):
            return torch.nn.functional.one_hot(torch.full((len(images),), 3), 1000).float()

    def tokenizer(prompts):
        places = {name: place for place, name in enumerate(IMAGENET_CLASSNAMES)}
        prompts = [prompt.removeprefix("a bad photo of a ").removesuffix(".") for prompt in prompts]
        return torch.tensor([[places.get(prompt, 999)] for prompt in prompts])

    metrics = zero_shot_eval(Names(), data, 2, args, tokenizer)
    assert metrics["imagenetv2-zeroshot-val-top1"] == 0.5


def test_autocast_casts_only_where_the_precision_says_so():
    with get_autocast("fp32", "cpu")():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with get_autocast("amp_bf16", "cpu")():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_files_are_written_and_read_back(tmp_path):
    path = tmp_path / "epoch_1.pt"
    assert not check_exists(path)
    pt_save({"epoch": 1, "state_dict": {"w": torch.ones(2)}, "optimizer": {"groups": [{"lr": 0.1}]}}, path)
    assert check_exists(path)
    loaded = pt_load(path, "cpu")
    assert torch.equal(loaded["state_dict"]["w"], torch.ones(2))
    assert loaded["optimizer"]["groups"][0]["lr"] == 0.1


def test_metrics_have_upstreams_names():
    features = torch.nn.functional.normalize(torch.randn(12, 8), dim=1)
    metrics = get_clip_metrics(features, features, torch.tensor(100.0))
    assert metrics["image_to_text_R@1"] == 1.0
    assert set(metrics) == {
        f"{way}_{name}"
        for way in ("image_to_text", "text_to_image")
        for name in ("mean_rank", "median_rank", "R@1", "R@5", "R@10")
    }
