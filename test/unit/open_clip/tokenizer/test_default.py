import pytest
import torch

import open_clip.tokenizer
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, decode, default_tokenizer, tokenize


def test_tokenize_uses_clips_vocabulary_and_length():
    ids = tokenize(["a diagram", "a dog", "a cat"])
    assert ids.shape == (3, DEFAULT_CONTEXT_LENGTH) == (3, 77)
    assert ids[0, :4].tolist() == [49406, 320, 22697, 49407]
    assert tokenize("a dog", context_length=20).shape == (1, 20)


def test_decode_takes_a_row_of_ids():
    assert decode(torch.tensor([49406, 320, 22697, 49407])) == "<start_of_text>a diagram <end_of_text>"


def test_one_tokenizer_is_shared_and_answers_to_upstreams_name():
    assert default_tokenizer() is default_tokenizer()
    assert open_clip.tokenizer._tokenizer is default_tokenizer()


def test_other_names_are_unknown():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = open_clip.tokenizer.nothing
