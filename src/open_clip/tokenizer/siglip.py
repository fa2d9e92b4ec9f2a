"""SigLIP's tokenizers, made from sentencepiece model files. What they are built of is in `pieces`.

Models by name get theirs ready made from the hub (`hf`); this one is for the original files and for new ones.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from open_clip.errors import ConfigError, suggest_nearest
from open_clip.pretrained import download_pretrained_from_url
from open_clip.pretrained.download import DEFAULT_CACHE_DIR
from open_clip.tokenizer.captions import choose_length, clean_captions, refuse_non_strings, to_captions
from open_clip.tokenizer.cleaning import clean_canonicalize
from open_clip.tokenizer.hf import import_for_tokenizers, pad_captions
from open_clip.tokenizer.pieces import EOS_ID, build_gemma, build_t5, read_pieces


class SigLipTokenizer:
    """Tokenizes captions to the ids SigLIP was trained with.

    `tokenizer_name` is `c4-en` (SigLIP), `mc4` (its i18n models) or `gemma` (SigLIP 2), which are downloaded once into
    `cache_dir`, or the path of a sentencepiece model; one with `gemma` in it follows Gemma's rules, any other T5's.
    Captions are canonicalised, cut, ended with id 1 and padded with 1, or 0 for Gemma. `tokenizer` is transformers'
    tokenizer of these rules.

    Source: `SigLipTokenizer` of open_clip_torch 3.3.0: arguments and addresses, and its ids with transformers 4.38;
    with 4.50 and 4.57 it lacks the space before the first word that SigLIP was trained with, with 5 it cannot be made.

    Raises:
        CheckpointError: a vocabulary cannot be downloaded.
        ConfigError: the name is neither known nor a file.
        DataError: the file is not a sentencepiece model.
        MissingDependency: transformers, sentencepiece or protobuf is not installed.
    """

    VOCAB_FILES: ClassVar[dict[str, str]] = {
        "c4-en": "http://storage.googleapis.com/t5-data/vocabs/cc_en.32000/sentencepiece.model",
        "mc4": "http://storage.googleapis.com/t5-data/vocabs/mc4.250000.100extra/sentencepiece.model",
        "gemma": "http://storage.googleapis.com/big_vision/gemma_tokenizer.model",
    }

    def __init__(
        self, tokenizer_name: str | Path, context_length: int | None = 64, cache_dir: str | None = None
    ) -> None:
        name = str(tokenizer_name)
        is_gemma = "gemma" in name
        transformers = import_for_tokenizers("transformers")
        model = read_pieces(self._find(name, cache_dir))
        self.context_length = context_length
        end, unknown = model.pieces[EOS_ID].piece, model.pieces[model.trainer_spec.unk_id].piece
        self.tokenizer: Any = transformers.PreTrainedTokenizerFast(
            tokenizer_object=build_gemma(model) if is_gemma else build_t5(model),
            pad_token=model.pieces[0].piece if is_gemma else end,
            eos_token=end,
            unk_token=unknown,
            padding_side="right",
            truncation_side="right",
            clean_up_tokenization_spaces=False,
        )

    def _find(self, name: str, cache_dir: str | None) -> str:
        """Return the path of a vocabulary, fetching it when it is one of the known ones."""
        if name in self.VOCAB_FILES:
            # Two of the files have the same name: each gets a folder of its own.
            folder = Path(cache_dir or DEFAULT_CACHE_DIR) / "siglip" / name
            url = self.VOCAB_FILES[name].replace("http://", "https://", 1)
            return download_pretrained_from_url(url, cache_dir=str(folder))
        if not Path(name).is_file():
            raise ConfigError(
                f"No SigLIP vocabulary is called {name!r}, and there is no such file."
                f"{suggest_nearest(name, self.VOCAB_FILES)}"
                f" Choose one of {', '.join(self.VOCAB_FILES)}, or give the path of a sentencepiece model."
            )
        return name

    def save_pretrained(self, dest: str | Path) -> None:
        """Write a folder that `HFTokenizer(dest, context_length=64, clean="canonicalize")` makes the same ids from."""
        self.tokenizer.save_pretrained(str(dest))

    def __call__(self, texts: str | Iterable[str], context_length: int | None = None) -> Tensor:
        """Tokenize captions to int64 [n, context_length].

        Args:
            texts: One caption or several.
            context_length: Length of a row; the tokenizer's own when None.

        Raises:
            ConfigError: No context length is set.
            DataError: A caption is not a string or cannot be cleaned.
        """
        captions = to_captions(texts)
        length = choose_length(context_length, self.context_length)
        refuse_non_strings(captions)
        return pad_captions(self.tokenizer, clean_captions(captions, clean_canonicalize), length)
