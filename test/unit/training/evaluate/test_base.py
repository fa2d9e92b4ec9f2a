import contextlib

import pytest
import torch

from loop_runs import ALONE, make_task
from open_clip.errors import ConfigError
from training.assembly.evaluations import choose_evaluations
from training.evaluate import Evaluation, EvaluationKit, Measured, Occasion, Pace, ready_to_measure
from training.evaluate.pairs import Retrieval, SetRetrieval, pair_evaluations

KIT = EvaluationKit(ALONE, contextlib.nullcontext, make_tokenizer=lambda: lambda texts: torch.zeros(len(texts), 4))


def at(epoch=0, step=0, ends_epoch=False, is_last=False):
    return Occasion(epoch, step, ends_epoch, is_last)


@pytest.mark.parametrize(
    "pace, occasion, is_due",
    [
        (Pace(2), at(2, 20, ends_epoch=True), True),
        (Pace(2), at(3, 30, ends_epoch=True), False),
        (Pace(2), at(3, 30, ends_epoch=True, is_last=True), True),
        # Inside an epoch the completed ones are no reason.
        (Pace(2), at(2, 24), False),
        (Pace(0), at(3, 30, ends_epoch=True, is_last=True), False),
        (Pace(0, 4), at(1, 12), True),
        (Pace(0, 4), at(1, 13), False),
        (Pace(0, 4), at(3, 12, ends_epoch=True), True),
        (Pace(0, 4), at(3, 30, ends_epoch=True, is_last=True), True),
    ],
)
def test_an_evaluation_is_due_by_epochs_by_steps_and_at_the_end(pace, occasion, is_due):
    class Some(Evaluation):
        name = "some"

        def measure(self, task):
            return Measured({})

    some = Some(KIT)
    some.pace = pace
    assert some.is_due(occasion) == is_due


def test_names_choose_among_what_the_recipe_offers():
    class Another(Retrieval):
        name = "another"

    offered = (Retrieval(KIT), Another(KIT))
    assert choose_evaluations(offered, None) == offered
    assert choose_evaluations(offered, ["another"]) == offered[1:]
    with pytest.raises(ConfigError, match=r"--evaluate retrievl.*Did you mean retrieval\? It has: retrieval, another"):
        choose_evaluations(offered, ["retrievl"])


def test_what_is_made_on_request_is_made_only_where_it_is_named():
    offered = (Retrieval(KIT), SetRetrieval(KIT))
    assert choose_evaluations(offered, None) == offered[:1]
    assert choose_evaluations(offered, ["set-retrieval"]) == offered[1:]


def test_two_evaluations_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="two evaluations named retrieval"):
        choose_evaluations((Retrieval(KIT), Retrieval(KIT)), None)


def test_a_run_without_data_offers_no_evaluation_of_it():
    assert pair_evaluations(KIT) == ()
    with pytest.raises(ConfigError, match="give --val-data"):
        list(KIT.outputs(make_task()))


def test_a_task_measures_in_evaluation_mode_without_gradients_and_goes_on_as_it_was():
    task = make_task()
    model, task.own = task.model.train(), torch.nn.Dropout(0.5).train()

    def fail():
        with ready_to_measure(task):
            seen.append((task.model is model, model.training or task.own.training, torch.is_grad_enabled()))
            raise KeyError

    seen = []
    with pytest.raises(KeyError):
        fail()
    assert seen == [(True, False, False)]
    assert model.training
    assert task.own.training
    assert torch.is_grad_enabled()
