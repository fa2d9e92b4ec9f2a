"""CLIP's byte-pair tokenizer, with the ids of OpenAI CLIP.

Does not know Hugging Face tokenizers, and which tokenizer a model wants is the factory's question.
"""

from array import array
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import regex
import torch
from torch import Tensor

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError, DataError
from open_clip.tokenizer.captions import choose_length, clean_captions, refuse_non_strings, to_captions
from open_clip.tokenizer.cleaning import CleanFn, get_clean_fn
from open_clip.tokenizer.merges import MergeRanks, merge_start, merge_symbols
from open_clip.tokenizer.shorten import get_reduction_mask_fn
from open_clip.tokenizer.vocabulary import bytes_to_unicode, default_bpe, read_merges

DEFAULT_CONTEXT_LENGTH = 77

_ID_BYTES = 8
# Words seen before are kept as id bytes, about 200 bytes a word. Above this many, those that do not come again while as
# many others do are forgotten, so that a worker stays below 60 MB of them.
_MAX_WORDS = 150_000
_MAX_WORD_CHARS = 48
# Where only the first ids are asked for, words of a text beyond this many characters an id are merged at their start.
_LONG_CHARS_PER_ID = 32


class _WordIds(dict[str, bytes]):
    """Remembers the ids of words, as the bytes of int64, and asks `encode_word` for those it has not met."""

    def __init__(self, encode_word: Callable[[str], bytes]) -> None:
        super().__init__()
        self._encode_word = encode_word
        self._older: dict[str, bytes] = {}

    def __missing__(self, word: str) -> bytes:
        ids = self._older.pop(word, None)
        if ids is None:
            ids = self._encode_word(word)
        if len(word) <= _MAX_WORD_CHARS:
            if len(self) >= _MAX_WORDS:
                self._older = dict(self)
                self.clear()
            self[word] = ids
        return ids


class SimpleTokenizer:
    """Tokenizes captions to the ids OpenAI CLIP was trained with.

    Call it with one caption or many: `tokenizer(["a cat", "a dog"])` gives int64 [2, 77], each row start token, ids,
    end token, zeros. A caption that is too long is cut and ends with the end token, unless `reduction_mask` names
    another way to shorten it (`simple`, `random`, `shuffle`, `syntax`).

    Source: `SimpleTokenizer` of open_clip_torch 3.3.0, attribute names included. One difference: special tokens are
    matched literally, where 3.3.0 reads them as a regular expression, so `<|mask|>` works here.
    """

    def __init__(
        self,
        bpe_path: str | Path | None = None,
        additional_special_tokens: list[str] | None = None,
        context_length: int | None = DEFAULT_CONTEXT_LENGTH,
        clean: str = "lower",
        reduction_mask: str = "",
        special_tokens: list[str] | None = None,
    ) -> None:
        # `special_tokens` is what 2.x called the additional ones.
        added = [*(additional_special_tokens or []), *(special_tokens or [])]
        special_tokens = ["<start_of_text>", "<end_of_text>", *added]
        merges = read_merges(bpe_path or default_bpe())
        self.byte_encoder = bytes_to_unicode()
        self.byte_decoder = {character: byte for byte, character in self.byte_encoder.items()}
        symbols = list(self.byte_encoder.values())
        pieces = [*symbols, *(symbol + "</w>" for symbol in symbols), *(left + right for left, right in merges)]
        self._longest = max(map(len, pieces))
        vocabulary = [*pieces, *special_tokens]
        self.encoder: dict[str, int] = dict(zip(vocabulary, range(len(vocabulary)), strict=True))
        self.decoder: dict[int, str] = {idx: piece for piece, idx in self.encoder.items()}
        # In the vocabulary that ships with the package the merges of every whole word lead to that word.
        self._whole_words = str(bpe_path or default_bpe()) == default_bpe()
        self.bpe_ranks: MergeRanks = dict(zip(merges, range(len(merges)), strict=True))
        self.cache: dict[str, str] = {token: token for token in special_tokens}
        self.pat = regex.compile(
            "|".join(regex.escape(token) for token in special_tokens)
            + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
            regex.IGNORECASE,
        )
        self.vocab_size = len(self.encoder)
        self.all_special_ids = [self.encoder[token] for token in special_tokens]
        self.sot_token_id, self.eot_token_id = self.all_special_ids[:2]
        self.context_length = context_length
        self.clean_fn: CleanFn = get_clean_fn(clean)
        self.reduction_fn = get_reduction_mask_fn(reduction_mask) if reduction_mask else None
        # Pre-tokens never cross a space, except a special token that holds one.
        self._split_at = None if any(" " in token for token in special_tokens) else " "
        # Letters, and what a single other character follows, hold no special token: it would begin among the letters.
        self._words_are_plain = all(token.startswith("<") for token in special_tokens)
        self._word_ids = _WordIds(self._encode_word)

    def __getstate__(self) -> JsonObject:
        """Leave the memory of words behind when a loader sends the tokenizer to its workers."""
        return {name: value for name, value in self.__dict__.items() if name != "_word_ids"}

    def __setstate__(self, state: JsonObject) -> None:
        self.__dict__.update(state)
        self._word_ids = _WordIds(self._encode_word)

    def bpe(self, token: str) -> str:
        """Split one pre-token, given in byte symbols, into vocabulary pieces joined by spaces."""
        if token in self.cache:
            return self.cache[token]
        return " ".join(merge_symbols([*token[:-1], token[-1] + "</w>"], self.bpe_ranks))

    def encode(self, text: str) -> list[int]:
        """Return the ids of a caption without start token, end token or padding."""
        return array("q", self._encode_bytes(text)).tolist()

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of some ids; it comes back as it was tokenized: lower-cased and space-separated.

        Raises:
            ConfigError: An id is not in the vocabulary.
        """
        try:
            text = "".join([self.decoder[int(token)] for token in tokens])
        except KeyError as error:
            raise ConfigError(
                f"Token id {error} is not in the vocabulary of {self.vocab_size} ids: decode this tokenizer's ids only."
            ) from None
        # A special token may be written in characters that are no byte symbol.
        raw = b"".join([bytes([self.byte_decoder[c]]) if c in self.byte_decoder else c.encode() for c in text])
        return raw.decode("utf-8", errors="replace").replace("</w>", " ")

    def __call__(self, texts: str | Iterable[str], context_length: int | None = None) -> Tensor:
        """Tokenize captions to int64 [n, context_length].

        Args:
            texts: One caption or several.
            context_length: Length of a row; the tokenizer's own when None.

        Raises:
            ConfigError: No context length is set, or it is below 1.
            DataError: A caption is not a string or cannot be cleaned.
        """
        captions = to_captions(texts)
        length = choose_length(context_length, self.context_length)
        try:
            if self.reduction_fn is not None:
                return self.reduction_fn(
                    captions,
                    context_length=length,
                    sot_token_id=self.sot_token_id,
                    eot_token_id=self.eot_token_id,
                    encode_fn=self.encode,
                )
            rows = self._encode_rows(captions, length)
        except (AttributeError, TypeError):
            refuse_non_strings(captions)
            raise
        except DataError:
            clean_captions(captions, self.clean_fn)
            raise
        return torch.from_numpy(np.frombuffer(rows, dtype=np.int64).reshape(len(captions), length))

    def _encode_rows(self, captions: list[str], length: int) -> bytearray:
        """Return the bytes of int64 [n, length]: joining and padding bytes beats filling a tensor id by id."""
        start, end = (array("q", [idx]).tobytes() for idx in (self.sot_token_id, self.eot_token_id))
        row_bytes = length * _ID_BYTES
        rows = []
        for caption in captions:
            row = start + self._encode_bytes(caption, length) + end
            if len(row) > row_bytes:
                row = row[: row_bytes - _ID_BYTES] + end
            rows.append(row.ljust(row_bytes, b"\0"))
        return bytearray().join(rows)

    def _encode_bytes(self, text: str, count: int | None = None) -> bytes:
        """Return the ids of a caption; of a long one at least the first ``count`` where that is given."""
        text = self.clean_fn(text)
        words = text.split(" ") if self._split_at else [text]
        if count is None or len(text) <= count * _LONG_CHARS_PER_ID:
            return b"".join(map(self._word_ids.__getitem__, words))
        ids = b""
        for token in (found for word in words for found in self.pat.finditer(word)):
            ids += self._encode_start(token[0], count)
            if len(ids) >= count * _ID_BYTES:
                break
        return ids

    def _encode_start(self, token: str, count: int) -> bytes:
        """Return the ids of one pre-token, or at least the first ``count`` of them."""
        size = count * _LONG_CHARS_PER_ID
        while size + self._longest < len(token) and token not in self.cache:
            symbols = self._to_symbols(token[: size + self._longest])
            pieces = merge_start(symbols[: size + self._longest], size, self.bpe_ranks)
            if len(pieces) >= count:
                return array("q", map(self.encoder.__getitem__, pieces)).tobytes()
            size *= 8
        return self._encode_symbols(self._to_symbols(token))

    def _to_symbols(self, token: str) -> str:
        return "".join(map(self.byte_encoder.__getitem__, token.encode("utf-8")))

    def _encode_word(self, word: str) -> bytes:
        if self._words_are_plain and word.isascii():
            if word.isalpha():
                return self._encode_symbols(word)
            if word[:-1].isalpha():
                return self._word_ids[word[:-1]] + self._word_ids[word[-1]]
        tokens = self.pat.findall(word)
        if len(tokens) != 1:
            return b"".join(map(self._word_ids.__getitem__, tokens))
        return self._encode_symbols(self._to_symbols(tokens[0]))

    def _encode_symbols(self, symbols: str) -> bytes:
        whole = self.encoder.get(symbols + "</w>") if self._whole_words and symbols not in self.cache else None
        if whole is not None:
            return array("q", (whole,)).tobytes()
        return array("q", map(self.encoder.__getitem__, self.bpe(symbols).split(" "))).tobytes()
