import json

import pytest

from open_clip.tokenizer import SimpleTokenizer
from open_clip.tokenizer.export import save_for_transformers

TEXTS = ["a photo of a cat.", "Hello, World! it's 2024", "naïve café ☕ 日本語", "don't we'll they've I'm"]


def test_the_files_hold_every_piece_and_merge(tmp_path):
    save_for_transformers(SimpleTokenizer(), tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    assert len(vocab) == 49408
    assert (vocab["<|startoftext|>"], vocab["<|endoftext|>"], vocab["cat</w>"]) == (49406, 49407, 2368)
    lines = (tmp_path / "merges.txt").read_text().splitlines()
    assert len(lines) == 1 + 48894


def test_transformers_reads_them_and_gives_the_same_ids(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers (extra hf) is not installed")
    tokenizer = SimpleTokenizer()
    save_for_transformers(tokenizer, tmp_path)
    theirs = transformers.CLIPTokenizer.from_pretrained(str(tmp_path))
    for text in TEXTS:
        assert theirs(text)["input_ids"] == [49406, *tokenizer.encode(text), 49407]
