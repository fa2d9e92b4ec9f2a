import contextlib

import pytest
import torch

import open_clip
from open_clip.loss import ClipLoss
from training.data import Batch
from training.loop.accumulate import backward_batches
from training.tasks import ClipTask

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def make_task(tile_rows=None):
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-micro-8-32", output_dict=True)
    return ClipTask(model, ClipLoss(tile_rows=tile_rows), mean=MEAN, std=STD)


def make_batch(rows):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (rows, 3, 32, 32), dtype=torch.uint8, generator=generator)
    texts = open_clip.get_tokenizer("ViT-micro-8-32")([f"image number {i}" for i in range(rows)])
    return Batch(images, texts)


def gradients(task, batches):
    task.model.zero_grad()
    prepared = [task.prepare(batch) for batch in batches]
    losses = backward_batches(task, prepared, contextlib.nullcontext, lambda loss, is_last: loss.backward())
    return losses, {name: p.grad.clone() for name, p in task.model.named_parameters()}


def slices(batch, sizes):
    start, parts = 0, []
    for size in sizes:
        parts.append(Batch(batch.images[start : start + size], batch.texts[start : start + size]))
        start += size
    return parts


@pytest.mark.parametrize("sizes", [(4, 4, 4), (6, 6), (8, 4)])
@pytest.mark.parametrize("tile_rows", [None, 5])
def test_accumulated_gradients_equal_those_of_the_large_batch(sizes, tile_rows):
    batch = make_batch(12)
    whole_losses, whole = gradients(make_task(), [batch])
    task = make_task(tile_rows)
    losses, accumulated = gradients(task, slices(batch, sizes))
    assert losses["contrastive_loss"].item() == pytest.approx(whole_losses["contrastive_loss"].item(), rel=1e-6)
    for name, gradient in whole.items():
        # fp32 sums in another order: 5e-6 of each tensor's largest entry.
        tolerance = 5e-6 * gradient.abs().max().item() + 1e-10
        assert (accumulated[name] - gradient).abs().max().item() <= tolerance, name


def test_the_logit_scales_gradient_is_counted_once():
    task, batch = make_task(), make_batch(12)
    _, whole = gradients(task, [batch])
    _, accumulated = gradients(task, slices(batch, (4, 4, 4)))
    ratio = accumulated["logit_scale"].item() / whole["logit_scale"].item()
    assert ratio == pytest.approx(1.0, rel=1e-5)


def test_only_the_last_pass_of_a_step_is_told_to_be_the_last():
    task, batches, heard = make_task(), slices(make_batch(12), (4, 4, 4)), []
    prepared = [task.prepare(batch) for batch in batches]
    backward_batches(task, prepared, contextlib.nullcontext, lambda loss, is_last: heard.append(is_last))
    assert heard == [False, False, True]


def test_prepare_normalises_as_the_peers_transform_does():
    task, batch = make_task(), make_batch(2)
    expected = (batch.images.float() / 255 - 0.5) / 0.5
    assert torch.equal(task.prepare(batch).images, expected)


def test_the_logit_scale_stays_within_its_bounds():
    task = make_task()
    with torch.no_grad():
        task.model.logit_scale.fill_(9.0)
    task.after_step()
    assert task.figures()["logit_scale"].item() == pytest.approx(100.0)
    with torch.no_grad():
        task.model.logit_scale.fill_(-1.0)
    task.after_step()
    assert task.figures()["logit_scale"].item() == 1.0
