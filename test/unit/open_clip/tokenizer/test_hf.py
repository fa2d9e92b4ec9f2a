import pickle
import sys

import pytest
import torch

from extras import needs_hf
from open_clip.errors import ConfigError, DataError, MissingDependency
from open_clip.tokenizer import HFTokenizer
from tiny_tokenizers import TOKENIZERS


def test_without_transformers_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependency, match=r"pip install -e '\.\[hf\]'` in the folder of this project"):
        HFTokenizer("bert-base-uncased")


def test_a_misspelt_mode_is_refused_before_anything_is_read():
    with pytest.raises(ConfigError, match=r"'clip' is not known\. Did you mean clips"):
        HFTokenizer("bert-base-uncased", tokenizer_mode="clip")


class TestWithTransformers:
    pytestmark = needs_hf

    @pytest.fixture
    def words(self, tmp_path):
        return TOKENIZERS["wordpiece"](tmp_path)

    def test_captions_are_framed_and_padded_to_the_context(self, words):
        tokenizer = HFTokenizer(words, context_length=9)
        ids = tokenizer(["a cat", ""])
        own = tokenizer.tokenizer
        assert ids.dtype == torch.int64
        assert ids.shape == (2, 9)
        assert ids[1].tolist() == [own.cls_token_id, own.sep_token_id] + [own.pad_token_id] * 7
        assert tokenizer("a cat").tolist() == ids[:1].tolist()
        assert tokenizer("a cat", context_length=5).shape == (1, 5)
        assert tokenizer([]).shape == (0, 9)

    def test_a_long_caption_is_cut_and_still_ends(self, words):
        tokenizer = HFTokenizer(words, context_length=6)
        assert tokenizer("dog " * 50)[0, -1] == tokenizer.tokenizer.sep_token_id

    @pytest.mark.parametrize(
        "clean, same", [("whitespace", "A Cat! &"), ("lower", "a cat! &"), ("canonicalize", "a cat")]
    )
    def test_captions_are_cleaned_as_asked(self, tmp_path, clean, same):
        # This kind tells capitals and spaces apart.
        path = TOKENIZERS["bpe"](tmp_path)
        raw = HFTokenizer(path, 40).tokenizer(same, padding="max_length", max_length=40).input_ids
        assert HFTokenizer(path, 40, clean=clean)("  A \n Cat!\t&amp;amp; ").tolist() == [raw]

    def test_the_separator_is_replaced_by_nothing_when_asked(self, words):
        plain, stripped = HFTokenizer(words, 9), HFTokenizer(words, 9, strip_sep_token=True)
        separator = plain.tokenizer.sep_token_id
        ids = plain(["a cat", "dogs"])
        assert stripped(["a cat", "dogs"]).tolist() == torch.where(ids == separator, 0, ids).tolist()

    def test_in_clips_mode_the_class_token_stands_last(self, tmp_path):
        tokenizer = HFTokenizer(TOKENIZERS["bpe"](tmp_path), 8, tokenizer_mode="clips")
        own = tokenizer.tokenizer
        body = own("a cat", add_special_tokens=False).input_ids
        ids = tokenizer(["a cat", "cats " * 30]).tolist()
        row = [own.bos_token_id, *body, own.eos_token_id]
        assert ids[0] == row + [own.pad_token_id] * (7 - len(row)) + [own.cls_token_id]
        assert ids[1][-2:] == [own.eos_token_id, own.cls_token_id]
        assert tokenizer([]).shape == (0, 8)

    def test_a_token_that_a_mode_needs_is_named_when_it_is_missing(self, words):
        with pytest.raises(ConfigError, match="has no bos_token, which tokenizer_mode='clips' needs"):
            HFTokenizer(words, tokenizer_mode="clips")("a cat")
        tokenizer = HFTokenizer(words, tokenizer_mode="clips", bos_token="[CLS]", eos_token="[SEP]")
        assert tokenizer("a cat").shape == (1, 77)

    def test_a_tokenizer_without_padding_is_refused(self, words):
        tokenizer = HFTokenizer(words)
        tokenizer.tokenizer.pad_token = None
        with pytest.raises(ConfigError, match="has no padding token"):
            tokenizer("a cat")

    def test_the_language_stands_before_the_caption(self, tmp_path):
        path = TOKENIZERS["nllb"](tmp_path)
        tokenizer = HFTokenizer(path, 9)
        english, french = tokenizer.tokenizer.convert_tokens_to_ids(["eng_Latn", "fra_Latn"])
        assert tokenizer("a cat")[0, 0] == english
        tokenizer.set_language("fra_Latn")
        assert tokenizer("a cat")[0, 0] == french
        assert tokenizer("a cat")[0, 0] == french
        assert HFTokenizer(path, 9, language="fra_Latn")("a cat").tolist() == tokenizer("a cat").tolist()
        with pytest.raises(ConfigError, match="no token for the language 'French'"):
            tokenizer.set_language("French")

    def test_a_tokenizer_that_knows_no_languages_warns(self, words):
        with pytest.warns(UserWarning, match="knows no languages; 'fra_Latn' is ignored"):
            HFTokenizer(words, language="fra_Latn")

    @pytest.mark.parametrize("kind", TOKENIZERS)
    def test_a_copy_in_a_worker_or_a_folder_makes_the_same_ids(self, tmp_path, kind):
        tokenizer = HFTokenizer(TOKENIZERS[kind](tmp_path), 12)
        tokenizer.save_pretrained(tmp_path / "saved")
        texts = ["A photo of café 日本語", ""]
        assert pickle.loads(pickle.dumps(tokenizer))(texts).tolist() == tokenizer(texts).tolist()
        assert HFTokenizer(tmp_path / "saved", 12)(texts).tolist() == tokenizer(texts).tolist()

    def test_a_language_travels_to_workers(self, tmp_path):
        tokenizer = HFTokenizer(TOKENIZERS["nllb"](tmp_path), 9, language="fra_Latn")
        copy = pickle.loads(pickle.dumps(tokenizer))
        assert copy("a cat").tolist() == tokenizer("a cat").tolist()

    @pytest.mark.parametrize("wrong", [None, 3])
    def test_captions_that_are_no_text_are_named(self, words, wrong):
        with pytest.raises(DataError, match=f"Caption 1 of 2 is {wrong}"):
            HFTokenizer(words)(["a cat", wrong])

    def test_without_a_context_length_the_call_must_name_one(self, words):
        tokenizer = HFTokenizer(words, context_length=None)
        assert tokenizer("a cat", 6).shape == (1, 6)
        with pytest.raises(ConfigError, match="Context length None"):
            tokenizer("a cat")

    def test_a_folder_without_a_tokenizer_is_named(self, tmp_path):
        with pytest.raises(ConfigError, match=f"The tokenizer '{tmp_path}' cannot be read"):
            HFTokenizer(str(tmp_path))
