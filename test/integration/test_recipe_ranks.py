"""One step of each recipe on several processes against one process with all rows."""

import pytest
import torch

from draws import Draws, join_draws, make_random
from ranks import on_ranks
from recipes import RECIPES, assert_same_step, lock, losses_and_gradients, make_batch, make_task, step_of_rank

ROWS = 8


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def ranks(tmp_path_factory, request):
    return on_ranks(step_of_rank, request.param, tmp_path_factory.mktemp("ranks"), ROWS)


def over_processes(answers):
    """Average the losses as the trainer's log does; the gradients are averaged already."""
    names = answers[0][0]
    return {
        name: torch.stack([losses[name].double() for losses, _ in answers]).mean() for name in names
    }, without_zeros(answers[0][1])


def without_zeros(gradients):
    """Leave out parameters that no loss moves: processes give them a gradient of 0 where one gives none."""
    return {name: gradient for name, gradient in gradients.items() if gradient.any()}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("way", ["whole", "parts"])
def test_processes_give_the_losses_and_gradients_of_one(ranks, recipe, way):
    losses, gradients = losses_and_gradients(make_task(recipe), [make_batch(ROWS, recipe)])
    together = over_processes([answers[recipe, way] for answers in ranks])
    assert_same_step(together, (losses, without_zeros(gradients)))


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe != "coca captions only"])
def test_random_models_on_processes_equal_one_large_batch_of_the_same_draws(ranks, recipe):
    answers, cached, drawn = zip(*(one[recipe, "random"] for one in ranks), strict=True)
    for before, after in zip(sum(cached, []), sum(drawn, []), strict=True):
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=False))
    task = make_task(recipe)
    make_random(task.model)
    # A part is a run of neighbouring rows over all ranks.
    parts = [drawn[rank][part] for part in range(2) for rank in range(len(ranks))]
    with Draws(join_draws(parts)):
        losses, gradients = losses_and_gradients(task, [make_batch(ROWS, recipe)])
    assert_same_step(over_processes(answers), (losses, without_zeros(gradients)))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_locked_tower_is_left_out_of_what_processes_exchange(ranks, recipe):
    locked = make_task(recipe)
    lock(locked.model)
    losses, gradients = losses_and_gradients(locked, [make_batch(ROWS, recipe)])
    assert not any(name.startswith("visual.") for name in gradients)
    together = over_processes([answers[recipe, "locked"] for answers in ranks])
    assert_same_step(together, (losses, without_zeros(gradients)))
    exchanged, trainable = ranks[0][recipe, "bytes"]
    assert exchanged == trainable
