"""Training without the padding of captions gives what training with it gives."""

import random

import pytest
import torch

import open_clip
from loop_runs import MEAN, STD, SmallRun, make_batches, make_task
from open_clip.loss import DistillClipLoss
from training.data import ReadingRule, TextPlanner
from training.tasks import DistillTask

SHAPES = ["packed", "bucketed"]
LONG = 77


def make_long_task():
    """Make the contrastive task of a small model that reads captions of CLIP's usual length."""
    return make_task(force_context_length=LONG)


def with_captions(batches, shapes, seed=0):
    """Give batches captions of 3 to 77 tokens and a plan of how they are computed."""
    tokenizer = open_clip.get_tokenizer("ViT-micro-8-32", context_length=LONG)
    planner = TextPlanner(shapes, ReadingRule("argmax", 2))
    rng = random.Random(seed)
    planned = []
    for batch in batches:
        captions = [
            " ".join(rng.choices(["red", "dog", "tree", "house"], k=int(rng.choice((8, 20, 80)) * rng.random())))
            for _ in range(len(batch.texts))
        ]
        planned.append(batch._replace(texts=planner(tokenizer(captions))))
    return planned


def losses(shapes, steps, make=make_long_task, **options):
    batches = with_captions(make_batches(steps, rows=12), shapes)
    return list(SmallRun(batches, task=make(), **options).train().events.losses.values())


def distilling():
    """Make a task whose teacher is a model of the same kind."""
    torch.manual_seed(1)
    teacher = open_clip.create_model("ViT-micro-8-32", output_dict=True, force_context_length=LONG)
    student = make_long_task().model
    return DistillTask(student, DistillClipLoss(), teacher=teacher, to_teacher=lambda x: x, mean=MEAN, std=STD)


@pytest.mark.parametrize("shapes", SHAPES)
def test_fifty_steps_have_the_losses_of_the_padded_ones(shapes):
    assert losses(shapes, 50) == pytest.approx(losses("padded", 50), rel=1e-4)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("make,options", [(make_long_task, {"accum_freq": 2, "clip": 1.0}), (distilling, {})])
def test_steps_of_several_batches_and_distillation_do_too(shapes, make, options):
    assert losses(shapes, 6, make, **options) == pytest.approx(losses("padded", 6, make, **options), rel=1e-4)


def test_a_teacher_that_reads_another_token_computes_all_positions():
    task = distilling()
    teacher = task.teacher
    student = make_long_task().model
    [batch] = with_captions(make_batches(1), "bucketed")
    expected = task.fixed_outputs(batch)
    teacher.text_pool_type, teacher.text_eos_id = "eos", int(batch.texts.ids.max())
    other = DistillTask(student, DistillClipLoss(), teacher=teacher, to_teacher=lambda x: x, mean=MEAN, std=STD)
    assert not other._teacher_takes_layout
    for name, value in other.fixed_outputs(batch).items():
        torch.testing.assert_close(value, expected[name], atol=5e-7, rtol=1e-5)


@pytest.mark.parametrize("shapes", SHAPES)
def test_positions_no_caption_reaches_have_a_gradient_of_zero(shapes):
    run = SmallRun(with_captions(make_batches(1), shapes, seed=3), task=make_long_task())
    run.train()
    table = run.task.model.positional_embedding
    assert table.grad is not None
    assert run.optimizer.state[table]["step"] == 1


def test_bucketed_texts_meet_four_shapes_at_most():
    run = SmallRun(with_captions(make_batches(30, rows=24), "bucketed"), task=make_long_task()).train()
    assert len(run.task.text_shapes) == 4
    assert (
        SmallRun(with_captions(make_batches(3), "packed"), task=make_long_task()).train().task.text_shapes
        == frozenset()
    )


def test_the_tower_is_run_on_nothing_but_the_planned_shapes():
    seen = set()
    task = make_long_task()
    handle = task.model.transformer.register_forward_pre_hook(lambda module, args: seen.add(tuple(args[0].shape[:2])))
    SmallRun(with_captions(make_batches(4, rows=12), "bucketed"), task=task).train()
    handle.remove()
    assert seen == task.text_shapes
