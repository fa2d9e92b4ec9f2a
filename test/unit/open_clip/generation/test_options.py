import pytest
import torch

from open_clip.errors import ConfigError
from open_clip.generation import GenerationOptions
from open_clip.generation.options import penalise_repetition


def _options(**changes):
    settings = {"seq_len": 5, "min_seq_len": 3, "pad_token_id": 0, "eos_token_ids": torch.tensor([2])}
    return GenerationOptions(**(settings | changes))


def test_a_penalty_makes_written_words_less_likely_whatever_their_sign():
    scores = torch.tensor([[2.0, -2.0, 1.0, -1.0]])
    found = penalise_repetition(scores, torch.tensor([[0, 1, 0]]), 2.0)
    assert found.tolist() == [[1.0, -4.0, 1.0, -1.0]]
    assert scores[0, 0] == 2.0


def test_a_text_cannot_end_before_its_least_length():
    scores = torch.zeros(1, 4)
    assert _options().process(torch.ones(1, 2, dtype=torch.long), scores)[0, 2] == -torch.inf
    assert _options().process(torch.ones(1, 3, dtype=torch.long), scores)[0, 2] == 0


def test_it_stops_at_the_length_or_where_a_criterion_says_so_for_every_row():
    ids = torch.tensor([[1, 3], [1, 4]])
    assert not _options().must_stop(ids)
    assert _options().must_stop(torch.ones(2, 5))
    some = _options(stopping_criteria=[lambda ids, _: ids[:, -1] == 3])
    assert not some.must_stop(ids)
    both = _options(stopping_criteria=[lambda ids, _: ids[:, -1] == 3, lambda ids, _: ids[:, -1] == 4])
    assert both.must_stop(ids)
    assert _options(stopping_criteria=[lambda ids, _: True]).must_stop(ids)


def test_both_ends_and_filling_count_as_ended():
    assert _options().has_ended(torch.tensor([[1, 2], [1, 0], [1, 3]])).tolist() == [True, True, False]


@pytest.mark.parametrize(
    "changes, said",
    [({"seq_len": 3}, "must be above min_seq_len"), ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0")],
)
def test_impossible_settings_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        _options(**changes)
