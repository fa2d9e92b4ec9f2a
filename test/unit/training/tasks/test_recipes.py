import pytest
import torch

from draws import Draws, join_draws, make_random
from open_clip.loss import ClipLoss, CoCaLoss
from recipes import (
    PIXELS,
    RECIPES,
    assert_same_step,
    cut,
    losses_and_gradients,
    make_batch,
    make_task,
    random_step,
)
from tiny_models import tiny_clip
from training.tasks import ClipTask, DistillTask, SigLipTask


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("sizes", [(4, 4, 4), (8, 4)])
def test_a_step_of_several_batches_equals_one_large_batch(recipe, sizes):
    task, batch = make_task(recipe), make_batch(recipe=recipe)
    whole = losses_and_gradients(task, [batch])
    assert_same_step(losses_and_gradients(task, cut(batch, sizes)), whole)


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe != "coca captions only"])
@pytest.mark.parametrize("recomputes", [False, True])
def test_a_random_model_draws_once_a_batch_and_equals_one_large_batch_of_the_same_draws(recipe, recomputes):
    task, batch = make_task(recipe), make_batch(recipe=recipe)
    make_random(task.model)
    if recomputes:
        task.model.set_grad_checkpointing()
    first, cached, drawn = random_step(task, cut(batch, (4, 4, 4)))
    for before, after in zip(cached, drawn, strict=True):
        assert len(before) >= 2
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=False))
    assert not any(torch.equal(one, other) for one, other in zip(drawn[0], drawn[1], strict=True))
    task.model.set_grad_checkpointing(False)
    with Draws(join_draws(drawn)):
        whole = losses_and_gradients(task, [batch])
    assert_same_step(first, whole)


def test_captions_weigh_each_token_of_the_step_alike():
    task, batch = make_task("coca"), make_batch(recipe="coca")
    # Rows of other lengths in each part: the mean of the parts' means would be another figure.
    parts = cut(batch, (1, 11))
    losses, _ = losses_and_gradients(task, parts)
    loss = CoCaLoss(2.0, 1.0)
    outputs = task.model(batch.images, batch.texts)
    expected = loss(**outputs, output_dict=True)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name].double(), value, rtol=2e-6, atol=0)
    counts = [(part.texts.ids[:, 1:] != 0).double().mean() for part in parts]
    assert counts[0] != counts[1]


def test_no_scores_of_words_are_cached():
    task = make_task("coca")
    assert "logits" not in task.row_outputs()
    assert task.encode_rows(make_batch(4, "coca")).keys() == {"image_features", "text_features"}
    assert make_task("coca captions only").row_outputs() == ()


def test_the_validation_figure_of_captions_is_upstreams():
    task, batch = make_task("coca"), make_batch(recipe="coca")
    outputs = task.forward(batch)
    expected = torch.nn.functional.cross_entropy(outputs["logits"].permute(0, 2, 1), outputs["labels"])
    figure = task.row_metrics(outputs)["val_generative_loss"].mean()
    assert figure.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_teacher_runs_once_a_batch_in_eval_mode_and_gets_no_gradient():
    task, batch = make_task("distill"), make_batch()
    calls = []
    task.teacher.register_forward_hook(lambda module, *_: calls.append((module.training, torch.is_grad_enabled())))
    losses_and_gradients(task, cut(batch, (4, 4, 4)))
    assert calls == [(False, False)] * 3
    assert all(p.grad is None and not p.requires_grad for p in task.teacher.parameters())


def test_a_teachers_bias_changes_nothing():
    batch, plain = make_batch(), make_task("distill")
    biased = make_task("distill")
    biased.teacher.logit_bias = torch.nn.Parameter(torch.tensor(-10.0))
    assert_same_step(losses_and_gradients(plain, [batch]), losses_and_gradients(biased, [batch]))


def test_siglip_needs_a_bias_and_distillation_refuses_one():
    assert "no logit bias" in SigLipTask.why_not(tiny_clip())
    assert SigLipTask.why_not(tiny_clip(init_logit_bias=-10.0)) is None
    assert "logit bias" in DistillTask.why_not(tiny_clip(init_logit_bias=-10.0))
    assert DistillTask.why_not(tiny_clip()) is None


def test_siglip_starts_at_scale_10_and_bias_minus_10():
    model = tiny_clip(**SigLipTask.model_options(None))
    assert model.logit_scale.exp().item() == pytest.approx(10.0)
    assert model.logit_bias.item() == -10.0


@pytest.mark.parametrize("recipe", ["siglip", "coca"])
def test_a_locked_tower_gets_no_gradient_in_an_accumulated_step(recipe):
    task, batch = make_task(recipe), make_batch(recipe=recipe)
    task.model.lock_image_tower()
    whole = losses_and_gradients(task, [batch])
    assert not any(name.startswith("visual.") for name in whole[1])
    assert_same_step(losses_and_gradients(task, cut(batch, (4, 8))), whole)


@pytest.mark.parametrize("freeze", [False, True])
def test_a_locked_towers_batch_norms_keep_their_statistics_when_asked(freeze):
    model = tiny_clip(output_dict=True, vision={"layers": [1, 1, 1, 1], "width": 8}).double().train()
    model.lock_image_tower(freeze_bn_stats=freeze)
    task = ClipTask(model, ClipLoss(), **PIXELS)
    before = model.visual.bn1.running_mean.clone()
    losses_and_gradients(task, cut(make_batch(8), (4, 4)))
    assert torch.equal(model.visual.bn1.running_mean, before) == freeze
