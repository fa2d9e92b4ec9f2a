"""Tiny tokenizers as local folders, one of each kind that upstream's models use, and sentencepiece model files.

Needs tokenizers and sentencepiece, which are imported when used.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SENTENCE = (
    "a the photo of dog cats don't running 2024 x86 3.14 beautiful sunset over mountains it's we'll i'm they've café "
    "naïve straße 日本語 中文字幕 한국어 العربية हिन्दी русский עברית 😀 ❤ ☕ Beautiful SUNSET"
)


def _corpus() -> list[str]:
    rng = random.Random(0)
    words = _SENTENCE.split()
    sentences = [" ".join(rng.choices(words, k=rng.randint(1, 15))) for _ in range(1000)]
    return sentences + ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(1000)]


def _write(folder: Path, tokenizer: Any, config: dict[str, Any]) -> str:
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return str(folder)


def write_wordpiece(folder: Path) -> str:
    """BERT's kind, as ``bert-base-uncased`` has it."""
    import tokenizers

    tokenizer = tokenizers.BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(_corpus(), vocab_size=400, min_frequency=1, show_progress=False)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = tokenizers.processors.BertProcessing(*ends)
    path = folder / "wordpiece"
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    _write(path, tokenizer, config)
    tokenizer.save_model(str(path))
    return str(path)


def write_bpe(folder: Path) -> str:
    """RoBERTa's kind: byte-level merges that keep capitals and spaces."""
    import tokenizers

    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        _corpus(), vocab_size=500, min_frequency=1, show_progress=False, special_tokens=specials
    )
    tokenizer.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    path = folder / "bpe"
    _write(path, tokenizer, {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512})
    tokenizer.save_model(str(path))
    return str(path)


def _train_unigram(specials: list[str]) -> Any:
    import tokenizers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram())
    tokenizer.normalizer = tokenizers.normalizers.NFKC()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=400, show_progress=False, special_tokens=specials, unk_token="<unk>"
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return tokenizer


def write_unigram(folder: Path) -> str:
    """The kind of XLM-RoBERTa, of mT5 and of SigLIP on the hub, under no class of its own."""
    import tokenizers

    tokenizer = _train_unigram(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=["<s>", "$A", "</s>"], special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "unk_token": "<unk>"} | names
    return _write(folder / "unigram", tokenizer, config)


def write_nllb(folder: Path) -> str:
    """NLLB's kind: the language of a caption stands before it."""
    import tokenizers

    languages = ["eng_Latn", "fra_Latn"]
    specials = ["<s>", "<pad>", "</s>", "<unk>", *languages]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, show_progress=False, special_tokens=specials)
    tokenizer.train_from_iterator(_corpus(), trainer)
    config = {"tokenizer_class": "NllbTokenizer", "src_lang": "eng_Latn", "additional_special_tokens": languages}
    return _write(folder / "nllb", tokenizer, config)


TOKENIZERS: dict[str, Callable[[Path], str]] = {
    "wordpiece": write_wordpiece,
    "bpe": write_bpe,
    "unigram": write_unigram,
    "nllb": write_nllb,
}

_T5 = {"model_type": "unigram", "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
_GEMMA = {
    "model_type": "bpe",
    "pad_id": 0,
    "eos_id": 1,
    "bos_id": 2,
    "unk_id": 3,
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "add_dummy_prefix": False,
    "remove_extra_whitespaces": False,
    "split_digits": True,
    "allow_whitespace_only_pieces": True,
    "user_defined_symbols": ["<mask>", "\n", "\n\n", "▁▁", "▁▁▁", "<start_of_turn>"],
}
# As the files of c4-en, mc4 and gemma were trained; the last has its rules' name in its file name.
SENTENCEPIECES: dict[str, dict[str, Any]] = {
    "c4": _T5 | {"vocab_size": 400, "character_coverage": 1.0},
    "mc4": _T5 | {"vocab_size": 700, "character_coverage": 0.99, "byte_fallback": True},
    "gemma": _GEMMA | {"vocab_size": 700, "character_coverage": 0.99},
}


def write_sentencepiece(folder: Path, kind: str) -> str:
    """Train a sentencepiece model of a kind and return its path."""
    import sentencepiece

    path = folder / f"{kind}.model"
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(_corpus()),
            model_writer=file,
            hard_vocab_limit=False,
            minloglevel=2,
            **SENTENCEPIECES[kind],
        )
    return str(path)
