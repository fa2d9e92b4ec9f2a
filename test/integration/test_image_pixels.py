"""Runs whose images are prepared in different ways: exact ones cannot be told apart, near ones hardly."""

import sys

import pytest

from open_clip.transform.resample import load_resampler
from pairs import make_pairs, micro_flags
from runs import train_losses
from training.data.fast_jpeg import load_jpeg_decoder
from training.main import main


def losses(tmp_path, pairs, name, **flags):
    chosen = micro_flags(pairs, logs_dir=tmp_path / "logs", name=name, epochs=1, **flags)
    assert main(chosen) == 0
    return train_losses(tmp_path / "logs" / name)


@pytest.fixture
def without_the_extra(monkeypatch):
    def hide():
        for name in ("numba", "simplejpeg"):
            monkeypatch.setitem(sys.modules, name, None)
        load_resampler.cache_clear()
        load_jpeg_decoder.cache_clear()

    yield hide
    load_resampler.cache_clear()
    load_jpeg_decoder.cache_clear()


def test_the_extra_changes_no_loss_and_near_pixels_little(tmp_path, without_the_extra):
    pairs = make_pairs(tmp_path, num_images=8)
    installed = losses(tmp_path, pairs, "installed")
    without_the_extra()
    exact = losses(tmp_path, pairs, "exact")
    near = losses(tmp_path, pairs, "near", image_pixels="near")
    assert installed == exact
    assert near != exact
    assert near == pytest.approx(exact, rel=1e-3)
