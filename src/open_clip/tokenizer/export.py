"""Writing CLIP's own tokenizer in the files that transformers' CLIPTokenizer reads. Reads none of them."""

import json
from pathlib import Path

from open_clip.tokenizer.bpe import SimpleTokenizer

_START, _END = "<|startoftext|>", "<|endoftext|>"


def save_for_transformers(tokenizer: SimpleTokenizer, folder: str | Path) -> None:
    """Write ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json`` into a folder.

    The ids stay; the two special tokens get the names they have in transformers.
    """
    folder = Path(folder)
    names = {tokenizer.sot_token_id: _START, tokenizer.eot_token_id: _END}
    vocab = {names.get(idx, piece): idx for piece, idx in tokenizer.encoder.items()}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": tokenizer.context_length,
        "do_lower_case": True,
        "bos_token": _START,
        "eos_token": _END,
        "unk_token": _END,
        # What open_clip pads with has id 0; transformers has always used the end token here.
        "pad_token": _END,
    }
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in tokenizer.bpe_ranks)]) + "\n"
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
