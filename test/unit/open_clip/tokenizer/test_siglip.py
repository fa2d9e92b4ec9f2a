import pickle
import sys
from pathlib import Path

import pytest
import torch

from extras import needs_hf
from open_clip.errors import CheckpointError, ConfigError, DataError, MissingDependency
from open_clip.tokenizer import HFTokenizer, SigLipTokenizer, canonicalize_text
from tiny_tokenizers import SENTENCEPIECES, write_sentencepiece

TEXTS = ["A photo of a dog!", "", "running x86 日本語", "it's_zebra Ω"]


def test_without_transformers_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependency, match=r"pip install -e '\.\[hf\]'` in the folder of this project"):
        SigLipTokenizer("c4-en")


class TestWithTransformers:
    pytestmark = needs_hf

    @pytest.fixture(params=SENTENCEPIECES)
    def kind(self, request):
        return request.param

    def test_captions_end_with_one_and_are_padded(self, tmp_path, kind):
        tokenizer = SigLipTokenizer(write_sentencepiece(tmp_path, kind), context_length=8)
        padding = 0 if kind == "gemma" else 1
        ids = tokenizer(["", "dog " * 50])
        assert ids.dtype == torch.int64
        assert ids.tolist()[0] == [1] + [padding] * 7
        assert ids[1, -1] == 1
        assert (ids[1, :-1] > 1).all()
        assert tokenizer([]).shape == (0, 8)
        assert tokenizer("dog", 5).shape == (1, 5)

    def test_ids_are_those_of_sentencepiece_itself(self, tmp_path, kind):
        import sentencepiece

        path = write_sentencepiece(tmp_path, kind)
        own = sentencepiece.SentencePieceProcessor(model_file=path)
        for text in TEXTS[:2]:
            body = own.encode(canonicalize_text(text))
            assert SigLipTokenizer(path)(text).tolist()[0][: len(body) + 1] == [*body, 1]

    def test_characters_that_t5s_rules_lack_are_one_unknown_id(self, tmp_path):
        assert SigLipTokenizer(write_sentencepiece(tmp_path, "mc4"), 9)("aΩΨ").tolist()[0].count(2) == 1

    def test_characters_that_gemmas_rules_lack_are_bytes(self, tmp_path):
        tokenizer = SigLipTokenizer(write_sentencepiece(tmp_path, "gemma"), 9)
        pieces = tokenizer.tokenizer.convert_ids_to_tokens(tokenizer("ω").tolist()[0])
        assert pieces[:2] == ["<0xCF>", "<0x89>"]

    def test_a_copy_in_a_worker_or_a_folder_makes_the_same_ids(self, tmp_path, kind):
        tokenizer = SigLipTokenizer(write_sentencepiece(tmp_path, kind))
        tokenizer.save_pretrained(tmp_path / "saved")
        assert pickle.loads(pickle.dumps(tokenizer))(TEXTS).tolist() == tokenizer(TEXTS).tolist()
        saved = HFTokenizer(tmp_path / "saved", context_length=64, clean="canonicalize")
        assert saved(TEXTS).tolist() == tokenizer(TEXTS).tolist()

    def test_vocabularies_by_name_are_kept_apart_and_used_again(self, tmp_path):
        for name, kind in {"c4-en": "c4", "mc4": "mc4", "gemma": "gemma"}.items():
            folder = tmp_path / "siglip" / name
            folder.mkdir(parents=True)
            path = write_sentencepiece(tmp_path, kind)
            Path(path).rename(folder / Path(SigLipTokenizer.VOCAB_FILES[name]).name)
            tokenizer = SigLipTokenizer(name, cache_dir=str(tmp_path))
            assert tokenizer(TEXTS).tolist() == SigLipTokenizer(write_sentencepiece(tmp_path, kind))(TEXTS).tolist()

    def test_a_name_that_is_neither_known_nor_a_file_is_refused(self):
        with pytest.raises(ConfigError, match=r"'c4en'.*Did you mean c4-en"):
            SigLipTokenizer("c4en")

    @pytest.mark.parametrize("content", [b"", b"\x08\x01", b"no model at all"])
    def test_a_file_that_is_no_model_is_refused(self, tmp_path, content):
        path = tmp_path / "words.model"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"words\.model: is not a sentencepiece model"):
            SigLipTokenizer(path)

    def test_captions_that_are_no_text_are_named(self, tmp_path):
        with pytest.raises(DataError, match="Caption 0 of 1 is None"):
            SigLipTokenizer(write_sentencepiece(tmp_path, "c4"))([None])

    def test_a_download_that_fails_says_so(self, tmp_path, monkeypatch):
        monkeypatch.setitem(SigLipTokenizer.VOCAB_FILES, "c4-en", "http://127.0.0.1:9/sentencepiece.model")
        monkeypatch.setattr("open_clip.pretrained.download._PAUSE_S", 0.0)
        with pytest.raises(CheckpointError, match="cannot be downloaded"):
            SigLipTokenizer("c4-en", cache_dir=str(tmp_path))
