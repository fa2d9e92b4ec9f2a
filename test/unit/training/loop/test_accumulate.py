import contextlib

import pytest
import torch

import open_clip
from draws import make_random
from open_clip.loss import ClipLoss
from open_clip.transformer.texts import Texts
from tiny_models import tiny_clip
from training.assembly.compiled import compile_model
from training.data import Batch
from training.device.cpu import CpuDevice
from training.loop.accumulate import backward_batches
from training.loop.statistics import RunningStatistics
from training.tasks import ClipTask

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def make_task(tile_rows=None):
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-micro-8-32", output_dict=True)
    return ClipTask(model, ClipLoss(tile_rows=tile_rows), mean=MEAN, std=STD)


def make_resnet_task():
    vision, text = {"layers": [1, 1, 1, 1], "width": 8}, {"vocab_size": 49408, "context_length": 32}
    model = tiny_clip(output_dict=True, vision=vision, text=text).train()
    return ClipTask(model, ClipLoss(), mean=MEAN, std=STD)


def make_batch(rows):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (rows, 3, 32, 32), dtype=torch.uint8, generator=generator)
    texts = open_clip.get_tokenizer("ViT-micro-8-32")([f"image number {i}" for i in range(rows)])
    return Batch(images, Texts(texts))


def run_passes(task, batches, backward):
    prepared = [task.prepare(batch) for batch in batches]
    statistics = RunningStatistics(task.model)
    return backward_batches(task, prepared, contextlib.nullcontext, backward, CpuDevice(), statistics)


def gradients(task, batches):
    task.model.zero_grad()
    losses = run_passes(task, batches, lambda loss, is_last: loss.backward())
    return losses, {name: p.grad.clone() for name, p in task.model.named_parameters()}


def slices(batch, sizes):
    start, parts = 0, []
    for size in sizes:
        parts.append(Batch(batch.images[start : start + size], Texts(batch.texts.ids[start : start + size])))
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
    heard = []
    run_passes(make_task(), slices(make_batch(12), (4, 4, 4)), lambda loss, is_last: heard.append(is_last))
    assert heard == [False, False, True]


def test_batch_norms_move_once_a_batch_and_both_passes_give_the_same_features():
    batches = slices(make_batch(12), (4, 4, 4))
    task, features = make_resnet_task(), []
    task.model.register_forward_hook(lambda module, given, outputs: features.append(outputs["image_features"].detach()))
    run_passes(task, batches, lambda loss, is_last: loss.backward())
    assert len(features) == 6
    assert all(torch.equal(one, other) for one, other in zip(features[:3], features[3:], strict=True))
    expected = make_resnet_task()
    with torch.no_grad():
        for batch in batches:
            expected.forward(expected.prepare(batch))
    assert expected.model.visual.bn1.num_batches_tracked == 3
    for (name, found), wanted in zip(task.model.named_buffers(), expected.model.buffers(), strict=True):
        assert torch.equal(found, wanted), name
    # The next single batch moves them again.
    run_passes(task, batches[:1], lambda loss, is_last: loss.backward())
    assert task.model.visual.bn1.num_batches_tracked == 4


def test_a_batch_norm_in_eval_mode_reads_its_statistics_in_both_passes():
    task = make_resnet_task()
    task.model.eval()
    before = {name: value.clone() for name, value in task.model.named_buffers()}
    whole, _ = gradients(task, [make_batch(12)])
    parts, _ = gradients(task, slices(make_batch(12), (4, 8)))
    assert parts["contrastive_loss"].item() == pytest.approx(whole["contrastive_loss"].item(), rel=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in task.model.named_buffers())


def test_compiled_towers_draw_the_same_in_both_passes():
    task, features = make_task(), []
    make_random(task.model)
    compile_model(task.model, backend="aot_eager")
    task.model.register_forward_hook(lambda module, given, outputs: features.append(outputs["image_features"].detach()))
    run_passes(task, slices(make_batch(8), (4, 4)), lambda loss, is_last: loss.backward())
    assert all(torch.equal(one, other) for one, other in zip(features[:2], features[2:], strict=True))
    assert not torch.equal(features[0], features[1])


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
