import pytest
import torch

from open_clip.generation import GenerationOptions, beam_search
from word_table import END, START, WordTable, best_text

# More than there are texts of that length: nothing is ever cut off.
ALL = 60


def _options(**changes):
    settings = {"seq_len": 4, "min_seq_len": 0, "pad_token_id": 9, "eos_token_ids": torch.tensor([END])}
    return GenerationOptions(**(settings | changes))


def _table(seed, words=4):
    return torch.randn(words, words, generator=torch.Generator().manual_seed(seed)) * 2


def _start(count=1):
    return torch.full((count, 1), START)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("min_length", [0, 3])
def test_with_room_for_all_it_finds_the_best_of_all_texts(seed, min_length):
    table = _table(seed)
    found = beam_search(WordTable(table), _start(), ALL, _options(min_seq_len=min_length), max_length=4)
    text = [word for word in found[0].tolist() if word != 9]
    assert text == best_text(table, 4, min_length)


def test_more_beams_find_what_a_greedy_step_misses():
    table = torch.full((4, 4), -50.0)
    table[START, 2], table[START, 3] = 0.0, -1.0
    table[2, END], table[3, END] = -9.0, 0.0
    one, two = (
        beam_search(WordTable(table), _start(), beams, _options(seq_len=3), max_length=3).tolist() for beams in (1, 2)
    )
    assert one == [[START, 2, END]]
    assert two == [[START, 3, END]]


def test_images_are_searched_apart_and_filled_up():
    table = torch.full((10, 10), -50.0)
    # From 2 the end follows at once, from 3 after a detour.
    for word, after in ((2, END), (3, 4), (4, 5), (5, END)):
        table[word, after] = 5.0
    found = beam_search(WordTable(table), torch.tensor([[2], [3]]), 2, _options(seq_len=6), max_length=6)
    assert found.tolist() == [[2, END, 9, 9], [3, 4, 5, END]]


def test_any_of_several_ends_ends_a_text_and_the_first_is_written():
    table = torch.full((4, 4), -50.0)
    table[START, 2] = 5.0
    table[2, 3] = 5.0
    found = beam_search(WordTable(table), _start(), 2, _options(eos_token_ids=torch.tensor([END, 3])), max_length=4)
    assert found.tolist() == [[START, 2, END]]
