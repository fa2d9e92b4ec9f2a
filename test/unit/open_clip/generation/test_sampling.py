from functools import partial

import pytest
import torch

from open_clip.generation import GenerationOptions, sample
from open_clip.generation.options import keep_top_k, keep_top_p
from word_table import END, START, WordTable

SCORES = torch.tensor([0.0, -1.0, 1.5, 0.5, 1.0, -2.0])


def _options(**changes):
    settings = {"seq_len": 3, "min_seq_len": 0, "pad_token_id": 7, "eos_token_ids": torch.tensor([END])}
    return GenerationOptions(**(settings | changes))


def _frequencies(keep, temperature, count=20000):
    torch.manual_seed(5)
    table = SCORES.expand(6, 6)
    texts = sample(WordTable(table), torch.full((count, 1), START), _options(), keep, temperature)
    return texts, torch.bincount(texts[:, 1], minlength=6) / count


def _cut(places):
    kept = torch.full_like(SCORES, -torch.inf)
    kept[places] = SCORES[places]
    return kept


@pytest.mark.parametrize(
    "keep, places",
    [
        (partial(keep_top_k, top_k=3), [2, 4, 3]),
        (partial(keep_top_k, top_k=100), range(6)),
        # The first two have .66 of the whole, the third comes in because its share crosses .7.
        (partial(keep_top_p, top_p=0.7), [2, 4, 3]),
        (partial(keep_top_p, top_p=0.0), [2]),
        (partial(keep_top_p, top_p=1.0), range(6)),
    ],
)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_words_come_as_often_as_the_cut_distribution_says(keep, places, temperature):
    expected = (_cut(list(places)) / temperature).softmax(dim=-1)
    _, found = _frequencies(keep, temperature)
    deviation = (expected * (1 - expected) / 20000).sqrt()
    assert ((found - expected).abs() <= 4 * deviation + 1e-6).all()


def test_the_last_place_is_the_end_and_ended_texts_are_filled_up():
    texts, _ = _frequencies(partial(keep_top_k, top_k=6), 1.0)
    ended = texts[:, 1] == END
    assert ended.any()
    assert (texts[ended, 2] == 7).all()
    assert (texts[~ended, 2] == END).all()


def test_it_stops_when_all_have_ended_unless_the_length_is_fixed():
    table = torch.full((3, 3), -50.0)
    table[:, END] = 0.0
    start, keep = torch.full((2, 1), START), partial(keep_top_k, top_k=1)
    assert sample(WordTable(table), start, _options(seq_len=6), keep).tolist() == [[START, END]] * 2
    fixed = _options(seq_len=6, fixed_output_length=True)
    assert sample(WordTable(table), start, fixed, keep).tolist() == [[START, END, 7, 7, 7, 7]] * 2
