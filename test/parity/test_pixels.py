"""Pixels equal those of open_clip_torch 3.3.0 bit for bit: validation always, training for the same seeds."""

import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import open_clip.transform
from open_clip.transform import image_transform, normalization_of, normalize_images, to_direct, to_uint8
from peer import needs_peer, run_peer
from sample_images import write_images
from training.data import ImageFile

pytestmark = needs_peer

JITTER = [0.4, 0.4, 0.3, 0.1]


def _case(name, is_train, image_size, seed=0, **options):
    return {"name": name, "seed": seed, "options": {"is_train": is_train, "image_size": image_size, **options}}


def _cases():
    cases = [
        _case(f"val_{mode}_{filter_}_{size}", False, size, resize_mode=mode, interpolation=filter_)
        for mode, filter_, size in product(
            ("shortest", "longest", "squash"), ("bicubic", "bilinear"), (32, [32, 32], [24, 40], [48, 32])
        )
    ]
    cases += [
        _case("val_default", False, 224),
        _case("val_random", False, 32, interpolation="random"),
        _case("val_filled", False, 48, resize_mode="longest", fill_color=117),
        _case("val_half", False, 32, mean=0.5, std=0.5),
        _case("val_own_mean", False, 32, mean=[0.1, 0.2, 0.3], std=[0.9, 0.8, 0.7]),
        _case("train_224", True, 224, seed=1),
        _case("train_bilinear_is_ignored", True, 32, seed=2, interpolation="bilinear"),
        _case("train_not_square", True, [24, 40], seed=3),
        # A large share of the area at up to 4:3 rarely fits into a long image: the middle part is taken.
        _case("train_whole", True, 32, seed=4, aug_cfg={"scale": [1.0, 1.0]}),
        _case("train_small_crops", True, 32, seed=5, aug_cfg={"scale": [0.01, 0.5]}),
        _case("train_gray", True, 32, seed=6, aug_cfg={"gray_scale_prob": 0.5}),
        _case("train_jitter", True, 32, seed=7, aug_cfg={"color_jitter": JITTER, "color_jitter_prob": 1.0}),
        _case("train_hue", True, 32, seed=8, aug_cfg={"color_jitter": [0, 0, 0, 0.5], "color_jitter_prob": 1.0}),
        _case(
            "train_all",
            True,
            32,
            seed=9,
            aug_cfg={"color_jitter": JITTER, "color_jitter_prob": 0.8, "gray_scale_prob": 0.2, "scale": [0.3, 1.0]},
        ),
    ]
    return cases


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def answers(files, tmp_path_factory):
    request = {"files": [str(file) for file in files], "cases": _cases()}
    return run_peer("pixels", request, tmp_path_factory.mktemp("pixels"))


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case["name"])
def test_pixels_and_draws_equal_the_peers(case, files, answers):
    transform = image_transform(**case["options"])
    random.seed(case["seed"])
    torch.manual_seed(case["seed"])
    for number, file in enumerate(files):
        theirs = answers[f"{case['name']}/{number}"]
        with Image.open(file) as image:
            if theirs.dtype.kind == "U":
                # The peer rounds the short side of a very long image to nothing and fails; ours keeps a pixel.
                assert transform(image).shape[0] == 3
                continue
            ours = transform(image).numpy()
        assert ours.dtype == theirs.dtype, file
        if file.name.startswith("I_16"):
            # 16 bits of grey are nearly white there; the draws below are still the peer's.
            assert ours.mean() < theirs.mean()
            continue
        assert np.array_equal(ours, theirs), (file, np.abs(ours - theirs).max())
    assert [random.random(), torch.rand(1).item()] == answers[f"{case['name']}/draws"].tolist()


@pytest.mark.parametrize("name", ["val_default", "val_filled", "val_half", "train_224", "train_all"])
def test_uint8_batches_normalised_later_equal_the_peers(name, files, answers):
    case = next(case for case in _cases() if case["name"] == name)
    transform = image_transform(**case["options"])
    mean, std = normalization_of(transform)
    keep_bytes = to_uint8(transform)
    random.seed(case["seed"])
    torch.manual_seed(case["seed"])
    for number, file in enumerate(files):
        theirs = answers[f"{name}/{number}"]
        with Image.open(file) as image:
            if theirs.dtype.kind == "U":
                assert keep_bytes(image).shape[0] == 3
                continue
            pixels = keep_bytes(image)
        assert pixels.dtype == torch.uint8
        if not file.name.startswith("I_16"):
            assert np.array_equal(normalize_images(pixels[None], mean, std)[0].numpy(), theirs), file


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case["name"])
def test_images_written_into_a_batch_equal_the_peers(case, files, answers):
    transform = image_transform(**case["options"])
    mean, std = normalization_of(transform)
    direct = to_direct(to_uint8(transform))
    batch = torch.empty(1, 3, *direct.size, dtype=torch.uint8)
    random.seed(case["seed"])
    torch.manual_seed(case["seed"])
    for number, file in enumerate(files):
        direct(ImageFile(str(file)).open_pixels(), batch[0].numpy())
        theirs = answers[f"{case['name']}/{number}"]
        if theirs.dtype.kind != "U" and not file.name.startswith("I_16"):
            assert np.array_equal(normalize_images(batch, mean, std)[0].numpy(), theirs), file
    assert [random.random(), torch.rand(1).item()] == answers[f"{case['name']}/draws"].tolist()


def test_timms_training_transform_equals_the_peers(files, tmp_path):
    # timm lies beside the peer and not here, so both sides run in processes that find it there.
    augmentation = {"use_timm": True, "re_prob": 0.5, "color_jitter": 0.4, "ratio": [0.7, 1.4], "scale": [0.5, 1.0]}
    rgb_files = [str(file) for file in files if file.name.startswith("rgb_")]
    request = {"files": rgb_files, "cases": [_case("timm", True, 32, seed=2, aug_cfg=augmentation)]}
    theirs = run_peer("pixels", request, tmp_path)
    ours = run_peer("pixels", request, tmp_path, instead_of_peer=Path(open_clip.transform.__file__).parents[2])
    assert ours.pop("source") != theirs.pop("source")
    assert ours.keys() == theirs.keys()
    for name, pixels in theirs.items():
        assert np.array_equal(ours[name], pixels), name
