"""How prompts and labels are put together, token by token, in both modes."""

import pytest
import torch

from label_words import make_label_tokenizer
from open_clip.errors import ConfigError, DataError
from open_clip.families.nxtp.sequences import build_sequences

PROMPT = "The objects in the image are"
OTHER = "The elements that appear in the picture are"


@pytest.fixture(scope="module")
def tokenizer():
    return make_label_tokenizer("cat", "dog", "bird")


def shown(tokenizer, ids):
    return "|".join(tokenizer.name(token).strip() for token in ids)


def test_a_closed_row_has_a_delimiter_behind_every_label(tokenizer):
    made = build_sequences([PROMPT], [("cat", "toad")], tokenizer, 64)
    text = "<|image|>|<s>|The|objects|in|the|image|are|cat|,|t|o|a|d|,|</s>"
    assert shown(tokenizer, made.ids[0].tolist()) == text
    assert made.segments[0].tolist() == [0] * 8 + [0, 0] + [1] * 5 + [2]
    assert [field.item() for field in made[3:]] == [7, 2, 2, 16, 0]


def test_a_public_row_has_none_behind_the_last(tokenizer):
    made = build_sequences([PROMPT], [("cat", "dog", "toad")], tokenizer, 64, "public")
    text = "<|image|>|<s>|The|objects|in|the|image|are|cat|,|dog|,|t|o|a|d|</s>"
    assert shown(tokenizer, made.ids[0].tolist()[:17]) == text
    assert made.segments[0].tolist()[:17] == [0] * 8 + [0, 0] + [1, 1] + [2] * 5
    assert (made.delimiters.item(), made.labels.item(), made.lengths.item()) == (2, 3, 17)


@pytest.mark.parametrize("mode", ["closed", "public"])
def test_rows_of_any_prompt_and_number_of_labels_are_padded_by_the_real_row(tokenizer, mode):
    made = build_sequences([PROMPT, OTHER, OTHER], [("cat",), ("dog", "toad", "cat"), ()], tokenizer, 64, mode)
    assert made.ids.shape[1] % 8 == 0
    assert made.answers.tolist() == [7, 9, 9]
    assert all(tokenizer.name(row[answer]) == " are" for row, answer in zip(made.ids, made.answers, strict=True))
    for row, length in zip(made.ids, made.lengths, strict=True):
        assert row[length - 1] == tokenizer.eos_id
        assert set(row[length:].tolist()) <= {tokenizer.vocab_size + 1}
    assert made.labels.tolist() == [1, 3, 0]
    assert made.delimiters.tolist() == ([1, 3, 0] if mode == "closed" else [0, 2, 0])


@pytest.mark.parametrize("mode", ["closed", "public"])
def test_whole_labels_that_do_not_fit_are_left_out_and_counted(tokenizer, mode):
    # 8 up to the answer, 1 for the end, and each label with what closes or opens it.
    labels = ("cat", "elephant", "dog", "bird", "cat")
    made = build_sequences([PROMPT], [labels], tokenizer, 15, mode)
    assert made.ids.shape == (1, 15)
    assert shown(tokenizer, made.ids[0].tolist()[8:14]).split("|")[:5] == ["cat", ",", "dog", ",", "bird"]
    assert (made.labels.item(), made.left_out.item()) == (3, 2)
    assert made.lengths.item() == (15 if mode == "closed" else 14)


def test_positions_count_through_or_restart_at_the_answer(tokenizer):
    rows = ([PROMPT, PROMPT], [("toad", "cat", "dog"), ("cat",)], tokenizer, 64)
    plain, restarted = build_sequences(*rows), build_sequences(*rows, restart_positions=True)
    assert plain.positions.tolist() == [list(range(24))] * 2
    assert restarted.positions[0, :17].tolist() == [*range(8), 8, 9, 10, 11, 12, 8, 9, 8, 9]
    assert restarted.positions[1, :10].tolist() == list(range(10))
    assert all(torch.equal(one, other) for one, other in zip(plain[:2], restarted[:2], strict=True))


def test_what_cannot_be_put_together_is_refused_with_the_reason(tokenizer):
    with pytest.raises(ConfigError, match="takes 9 positions with the ends of the text, and there is room for 8"):
        build_sequences([PROMPT], [()], tokenizer, 8)
    with pytest.raises(ConfigError, match="which is not one token"):
        build_sequences(["The objects consist"], [()], tokenizer, 64)
    with pytest.raises(DataError, match="holds the delimiter"):
        build_sequences([PROMPT], [("cat, dog",)], tokenizer, 64)
