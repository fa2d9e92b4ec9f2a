"""The one-to-one retrieval metrics are upstream's own figures."""

import pytest
import torch

import peer
from training.evaluate import retrieval_metrics

pytestmark = peer.needs_peer


@pytest.mark.parametrize("rows, noise", [(7, 1.0), (500, 3.0), (1501, 6.0)])
def test_every_metric_of_upstream_has_the_same_value(tmp_path, rows, noise):
    request = {"seed": rows, "rows": rows, "width": 48, "noise": noise, "captions_each": 1}
    expected = peer.run_peer("retrieval", request, tmp_path)
    generator = torch.Generator().manual_seed(rows)
    images = torch.randn(rows, 48, generator=generator)
    texts = images + noise * torch.randn(rows, 48, generator=generator)
    images, texts = (torch.nn.functional.normalize(one, dim=-1) for one in (images, texts))
    metrics = retrieval_metrics(images, texts, range(rows), tile=64)
    assert len(expected) == 10
    for name, value in expected.items():
        # A pair of scores that differ in their last bit may swap places between matrix products of other shapes.
        assert metrics[name] == pytest.approx(float(value), abs=0 if "median" in name else 2 / rows), name


@pytest.mark.parametrize("rows, captions_each", [(100, 5), (1000, 5)])
def test_rows_of_the_same_image_have_upstreams_ranks(tmp_path, rows, captions_each):
    # Whole numbers score exactly, so that equal rows tie to the last bit; the peer sorts stably, as its HEAD does.
    request = {"seed": rows, "rows": rows, "width": 12, "noise": 0.0, "captions_each": captions_each}
    expected = peer.run_peer("retrieval", request, tmp_path)
    generator = torch.Generator().manual_seed(rows)
    images = torch.randint(-2, 3, (rows // captions_each, 12), generator=generator).float()
    ids = torch.arange(len(images)).repeat_interleave(captions_each)
    texts = torch.randint(-2, 3, (rows, 12), generator=generator).float() + images[ids]
    metrics = retrieval_metrics(images[ids], texts, ids, tile=64)
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(float(value), abs=1e-9), name
