"""What label models need in tests: a vocabulary of whole words, which needs no package, and SentencePiece's files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from open_clip.families.nxtp.config import LabelCfg
from open_clip.families.nxtp.model import NextLabelModel
from open_clip.families.nxtp.tokenizer import LabelTokenizer

CAPTIONS = Path(__file__).resolve().parents[2] / "examples/flickr30k-emoji/results_20130124.token"
# As LLaMA's file was trained, but for its size and, with so few pieces, its bytes.
LLAMA = {
    "model_type": "bpe",
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "split_digits": True,
    "allow_whitespace_only_pieces": True,
}


class WordPieces:
    """Words and commas by their place in a list; a word that is not there is cut into letters.

    A word's letters behind the first are pieces of their own, as in SentencePiece, so that labels have several tokens.
    """

    bos_id, eos_id = 1, 2

    def __init__(self, words: Sequence[str] = ()) -> None:
        prompts = " ".join((LabelCfg().prompt, *LabelCfg().prompts)).split()
        letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
        listed = ["<unk>", "<s>", "</s>", ",", *letters, *(f" {one}" for one in (*letters, *prompts, *words))]
        self.names = list(dict.fromkeys(listed))
        self.ids = {name: index for index, name in enumerate(self.names)}
        self.size = len(self.names)

    def encode(self, text: str) -> list[int]:
        """Cut a text."""
        found = []
        for word in text.replace(",", " ,").split():
            whole = self.ids.get("," if word == "," else f" {word}")
            if whole is not None:
                found.append(whole)
            else:
                found += [self.ids.get(name, 0) for name in (f" {word[0]}", *word[1:])]
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """Put pieces together."""
        return "".join(self.names[token] for token in ids).strip()

    def name(self, token: int) -> str:
        """Show a piece."""
        return self.names[token]


def write_label_tokenizer(folder: Path, vocab_size: int = 400, **options: object) -> Path:
    """Train a SentencePiece model of LLaMA's kind on the shipped captions and the prompts; needs sentencepiece."""
    import sentencepiece

    captions = [line.split("\t")[1] for line in CAPTIONS.read_text(encoding="utf-8").splitlines()]
    texts = [*captions, *(f"{prompt} cat, dog" for prompt in LabelCfg().prompts for _ in range(50))]
    path = folder / "tokenizer.model"
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=file,
            vocab_size=vocab_size,
            minloglevel=2,
            pad_id=-1,
            **LLAMA | options,
        )
    return path


def make_label_tokenizer(*words: str, **cfg: Any) -> LabelTokenizer:
    """Make a tokenizer of whole words, with a section ``label_cfg`` changed as asked."""
    return LabelTokenizer(WordPieces(words), LabelCfg(**cfg))


def tiny_label_model(tokenizer: LabelTokenizer, seed: int = 0, change: float = 0.1, **label_cfg: Any) -> NextLabelModel:
    """Make a tiny model for a tokenizer, in eval mode; ``change`` adds noise, so that positions hear of each other."""
    torch.manual_seed(seed)
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    decoder = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn_width": 48, "context_length": 64}
    model = NextLabelModel(vision, decoder | {"vocab_size": tokenizer.vocab_size}, label_cfg).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape) * change
    return model
