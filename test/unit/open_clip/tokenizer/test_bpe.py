import gzip
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from open_clip.errors import ConfigError, DataError
from open_clip.tokenizer import SimpleTokenizer, bpe, default_bpe

GOLDEN_IDS = {
    "a diagram": [320, 22697],
    "a photo of a cat.": [320, 1125, 539, 320, 2368, 269],
    "Hello, World! it's 2024": [3306, 267, 1002, 256, 585, 568, 273, 271, 273, 275],
    "naïve café ☕ 日本語": [1097, 35689, 563, 15304, 26561, 39121, 44353, 34002, 508],
    "&amp;amp; <b>": [261, 283, 321, 285],
    "": [],
    "don't we'll they've I'm": [847, 713, 649, 1342, 889, 1200, 328, 880],
    " <start_of_text> hi": [49406, 1883],
}


@pytest.fixture(scope="module")
def tokenizer():
    return SimpleTokenizer()


@pytest.mark.parametrize("text, ids", GOLDEN_IDS.items())
def test_encode_gives_the_ids_of_openai_clip(tokenizer, text, ids):
    assert tokenizer.encode(text) == ids


def test_calling_gives_start_ids_end_and_zeros(tokenizer):
    ids = tokenizer(["a diagram", ""])
    assert ids.dtype == torch.int64
    assert ids.shape == (2, 77)
    assert ids[0, :5].tolist() == [49406, 320, 22697, 49407, 0]
    assert ids[1, :3].tolist() == [49406, 49407, 0]


def test_one_string_is_one_row(tokenizer):
    assert torch.equal(tokenizer("a diagram"), tokenizer(["a diagram"]))


@pytest.mark.parametrize(
    "texts", [("a", "b"), np.array(["a", "b"]), iter(["a", "b"])], ids=["tuple", "array", "iterator"]
)
def test_any_iterable_of_strings_will_do(tokenizer, texts):
    assert torch.equal(tokenizer(texts), tokenizer(["a", "b"]))


def test_no_captions_give_no_rows(tokenizer):
    assert tokenizer([]).shape == (0, 77)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_caption_that_is_too_long_is_cut_and_keeps_its_end_token(tokenizer, length):
    row = tokenizer("a photo of a cat and a dog", context_length=length)[0].tolist()
    assert row == [49406, 320, 1125, 539][: length - 1] + [49407]


def test_context_length_comes_from_the_call_then_from_the_tokenizer():
    tokenizer = SimpleTokenizer(context_length=16)
    assert tokenizer("a").shape == (1, 16)
    assert tokenizer("a", context_length=8).shape == (1, 8)


@pytest.mark.parametrize("length", [None, -3])
def test_a_missing_context_length_is_explained(length):
    with pytest.raises(ConfigError, match="context_length=77"):
        SimpleTokenizer(context_length=length)("a")


@pytest.mark.parametrize("bad", [float("nan"), None, b"bytes", 7])
def test_a_caption_that_is_no_string_is_named(tokenizer, bad):
    with pytest.raises(DataError, match=f"Caption 1 of 2 .*{type(bad).__name__}"):
        tokenizer(["fine", bad])


def test_the_result_can_be_written_to(tokenizer):
    ids = tokenizer("a")
    ids[0, 0] = 1
    assert ids[0, 0] == 1


def test_attributes_describe_the_vocabulary(tokenizer):
    assert tokenizer.vocab_size == len(tokenizer.encoder) == len(tokenizer.decoder) == 49408
    assert len(tokenizer.bpe_ranks) == 48894
    assert tokenizer.all_special_ids == [49406, 49407]
    assert (tokenizer.sot_token_id, tokenizer.eot_token_id) == (49406, 49407)
    assert tokenizer.context_length == 77
    assert tokenizer.cache["<start_of_text>"] == "<start_of_text>"
    assert tokenizer.byte_decoder[tokenizer.byte_encoder[0]] == 0


def test_bpe_splits_a_word_into_pieces_of_the_vocabulary(tokenizer):
    assert tokenizer.bpe("diagram") == "diagram</w>"
    assert tokenizer.bpe("q") == "q</w>"
    assert all(piece in tokenizer.encoder for piece in tokenizer.bpe("xqzxqz").split(" "))


def test_decode_gives_back_lowered_and_spaced_text(tokenizer):
    assert tokenizer.decode(tokenizer.encode("Hello, World!")) == "hello , world ! "
    assert tokenizer.decode(tokenizer("Café 日本")[0][:6]) == "<start_of_text>café 日本 <end_of_text>"
    assert tokenizer.decode(np.array([320, 22697])) == "a diagram "


def test_decode_names_an_id_outside_the_vocabulary(tokenizer):
    with pytest.raises(ConfigError, match="60000 .*49408"):
        tokenizer.decode([320, 60000])


def test_special_tokens_are_found_where_words_begin():
    tokenizer = SimpleTokenizer(additional_special_tokens=["dog", "at!"])
    dog, at = tokenizer.all_special_ids[2:]
    assert tokenizer.encode("dogs, dog.") == [dog, *tokenizer.encode("s ,"), dog, *tokenizer.encode(".")]
    assert tokenizer.encode("at! hotdog") == [at, *SimpleTokenizer().encode("hotdog")]


def test_special_tokens_come_after_the_vocabulary_and_stay_whole():
    tokenizer = SimpleTokenizer(additional_special_tokens=["<mask>", "<|pad|>", "two words"])
    assert tokenizer.all_special_ids == [49406, 49407, 49408, 49409, 49410]
    assert tokenizer.vocab_size == 49411
    assert tokenizer.encode("a<mask> cat <|pad|>") == [320, 49408, 2368, 49409]
    assert tokenizer.decode([49408, 320]) == "<mask>a "


@pytest.mark.parametrize(
    "clean, text, same_as", [("whitespace", "A  Cat", "A Cat"), ("canonicalize", "A_cat, (big)!", "a cat big")]
)
def test_cleaning_mode_prepares_the_text(clean, text, same_as):
    tokenizer = SimpleTokenizer(clean=clean)
    assert tokenizer.encode(text) == tokenizer.encode(same_as)


def test_whitespace_cleaning_keeps_capitals():
    assert SimpleTokenizer(clean="whitespace").encode("Cat") != SimpleTokenizer().encode("Cat")


def test_an_unknown_cleaning_mode_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean lower"):
        SimpleTokenizer(clean="lowr")


def test_reduction_mask_shortens_instead_of_cutting():
    text = "one two three four five six seven eight nine ten"
    torch.manual_seed(0)
    shortened = SimpleTokenizer(context_length=6, reduction_mask="random")(text)
    assert shortened.shape == (1, 6)
    assert shortened[0, 5] == 49407
    assert not torch.equal(shortened, SimpleTokenizer(context_length=6)(text))


def test_a_tokenizer_travels_to_a_worker_without_its_memory(tokenizer):
    tokenizer("fill the memory of words")
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert not copy._word_ids
    assert torch.equal(copy("a photo"), tokenizer("a photo"))


def test_the_memory_of_words_is_bounded(monkeypatch):
    monkeypatch.setattr(bpe, "_MAX_WORDS", 10)
    tokenizer = SimpleTokenizer()
    captions = [f"word {place} x{place}y" for place in range(200)]
    first = tokenizer(captions)
    assert len(tokenizer._word_ids) <= 10
    assert torch.equal(tokenizer(captions), first)


def test_words_that_come_again_and_again_stay_in_memory(monkeypatch):
    monkeypatch.setattr(bpe, "_MAX_WORDS", 10)
    tokenizer = SimpleTokenizer()
    asked = []
    encode_word = tokenizer._word_ids._encode_word
    tokenizer._word_ids._encode_word = lambda word: asked.append(word) or encode_word(word)
    for place in range(200):
        tokenizer(f"often x{place}y")
    assert asked.count("often") == 1
    assert len(tokenizer._word_ids._older) <= 10


def test_merging_leads_every_whole_word_of_the_vocabulary_to_itself(tokenizer):
    words = [piece[:-4] for piece in tokenizer.encoder if piece.endswith("</w>")]
    assert len(words) > 30_000
    assert all(tokenizer.bpe(word) == word + "</w>" for word in words)


def test_a_vocabulary_of_the_users_own_is_merged_word_by_word(tmp_path):
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")
    # The first merge now comes last, so that words which need it early are not reached any more.
    lines = [lines[0], *lines[2:48895], lines[1], ""]
    own = tmp_path / "own.txt.gz"
    own.write_bytes(gzip.compress("\n".join(lines).encode()))
    tokenizer = SimpleTokenizer(own)
    words = [piece[:-4] for piece in tokenizer.encoder if piece.endswith("</w>") and piece.isascii()][:20_000]
    lost = [word for word in words if tokenizer.bpe(word) != word + "</w>" and word.isalpha()]
    assert lost
    for word in lost[:50]:
        assert tokenizer.encode(word) == [tokenizer.encoder[piece] for piece in tokenizer.bpe(word).split(" ")]


def test_very_long_words_are_not_remembered(tokenizer):
    tokenizer("z" * 500)
    assert "z" * 500 not in tokenizer._word_ids


def test_a_hostile_word_of_many_characters_stays_cheap(tokenizer):
    started = time.process_time()
    tokenizer("ab" * 20_000)
    # Merging in n squared steps takes minutes here; this takes about 0.1 s.
    assert time.process_time() - started < 5


LONG = {
    "letters": "abcdefg" * 3000,
    "one_letter": "a" * 20_000,
    "words": "a photo of a Cat's 2024 tail, " * 800,
    "cjk": "日本語中文字幕" * 2000,
    "marks": "a" + "\u0301\u0316" * 10_000,
    "emoji": "👩\u200d👩 " * 5000,
    "digits": "2024" * 5000,
    "specials": "<end_of_text><START_of_text>" * 900,
    "short_end": "dog " * 1000 + "x" * 3000,
}


@pytest.mark.parametrize("length", [1, 2, 3, 9, 77])
@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_long_caption_gets_the_first_ids_of_the_whole(tokenizer, text, length):
    ids = tokenizer(text, length)[0].tolist()
    assert ids == ([49406, *tokenizer.encode(text)][: length - 1] + [49407])[-length:]


def test_a_caption_that_cannot_be_cleaned_is_named(tokenizer):
    levels = "&#5&#5&#4&#5&#5" * 20
    for one in (tokenizer, SimpleTokenizer(reduction_mask="simple")):
        with pytest.raises(DataError, match=r"Caption 1 of 2 \(&#5.*nested more than 64 deep"):
            one(["a cat", levels + "5" + ";" * 100])


def test_a_file_that_is_no_vocabulary_is_refused(tmp_path):
    wrong = tmp_path / "vocab.txt.gz"
    wrong.write_text("not gzipped")
    with pytest.raises(DataError, match="not a CLIP vocabulary"):
        SimpleTokenizer(wrong)
    with pytest.raises(FileNotFoundError, match="absent"):
        SimpleTokenizer(str(tmp_path / "absent.gz"))


def test_the_name_that_2_x_had_for_special_tokens_is_known():
    named, renamed = SimpleTokenizer(additional_special_tokens=["<mask>"]), SimpleTokenizer(special_tokens=["<mask>"])
    assert named.encoder == renamed.encoder
    assert renamed.all_special_ids == [49406, 49407, 49408]
