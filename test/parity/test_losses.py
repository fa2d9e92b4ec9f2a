"""The losses by tiles against upstream's on the same features: values and gradients."""

import numpy as np
import pytest
import torch

import peer
from open_clip.loss import ClipLoss, DistillClipLoss, SigLipLoss

pytestmark = peer.needs_peer

KINDS = {"clip": ClipLoss, "distill": DistillClipLoss, "siglip": SigLipLoss}
ROWS, WIDTH = 1500, 64


@pytest.fixture(scope="module")
def features():
    draw = np.random.default_rng(5)
    found = {name: draw.standard_normal((ROWS, WIDTH)) for name in ("images", "images_2", "noise")}
    # Pairs that are half learnt.
    found["texts"] = found["images"] + 2 * found.pop("noise")
    found["texts_2"] = found["images_2"] + found["texts"]
    found = {name: value / np.linalg.norm(value, axis=1, keepdims=True) for name, value in found.items()}
    found |= {"scale": np.array(60.0), "bias": np.array(-12.0)}
    return {name: value.astype(np.float32) for name, value in found.items()}


@pytest.fixture(scope="module")
def answers(features, tmp_path_factory):
    folder = tmp_path_factory.mktemp("losses")
    np.savez(folder / "features.npz", **features)
    return peer.run_peer("losses", {"features": str(folder / "features.npz")}, folder)


@pytest.mark.parametrize("tile_rows", [0, 1024, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_are_upstreams(features, answers, kind, tile_rows):
    given = {name: torch.from_numpy(value) for name, value in features.items()}
    names = ["images", "texts", "scale", *(["bias"] if kind == "siglip" else [])]
    leaves = [given[name].clone().requires_grad_() for name in names]
    teacher = [given[name] for name in ("images_2", "texts_2", "scale")] if kind == "distill" else []
    loss = SigLipLoss(chunk_size=tile_rows) if kind == "siglip" else KINDS[kind](tile_rows=tile_rows)
    values = loss(*leaves, *teacher)
    values = values if isinstance(values, tuple) else (values,)
    sum(values).backward()
    for number, value in enumerate(values):
        assert value.item() == pytest.approx(float(answers[f"{kind}_{number}"]), rel=2e-6)
    for name, leaf in zip(names, leaves, strict=True):
        expected = answers[f"{kind}_{name}"]
        assert np.abs(leaf.grad.numpy() - expected).max() <= 5e-6 * np.abs(expected).max(), name
