"""What cuts texts into the pieces of a decoder's vocabulary, read from the file that belongs to the decoder.

The file is LLaMA's ``tokenizer.model``, any other SentencePiece model, or a ``tokenizer.json``; the library that it was
made with reads it, so that the ids are those of every program.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from open_clip.errors import CheckpointError, ConfigError, first_line, printable
from open_clip.files import read_plain
from open_clip.tokenizer.hf import import_for_tokenizers

_MOST_BYTES = 1 << 27
# How the two ends of a text are called. Source: LLaMA 1 and 2, LLaMA 3.
_ENDS = (("<s>", "</s>"), ("<|begin_of_text|>", "<|end_of_text|>"))


class Pieces(Protocol):
    """What cuts texts into pieces of a vocabulary, without tokens of its own at their ends."""

    size: int
    bos_id: int
    eos_id: int

    def encode(self, text: str) -> list[int]:
        """Cut a text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Put pieces together."""

    def name(self, token: int) -> str:
        """Show a piece."""


class SentencePieces:
    """A SentencePiece model, read by the library of that name.

    Raises:
        ValueError: the file is no such model, or has no piece for the beginning and the end of a text.
        MissingDependency: sentencepiece is not installed.
    """

    def __init__(self, content: bytes) -> None:
        library = import_for_tokenizers("sentencepiece")
        try:
            self._model: Any = library.SentencePieceProcessor(model_proto=content)
        except RuntimeError as error:
            raise ValueError(f"it is no SentencePiece model ({first_line(error)})") from error
        self.size = int(self._model.vocab_size())
        self.bos_id, self.eos_id = int(self._model.bos_id()), int(self._model.eos_id())
        if min(self.bos_id, self.eos_id) < 0:
            raise ValueError("it has no piece for the beginning or the end of a text; train it with bos_id and eos_id")

    def encode(self, text: str) -> list[int]:
        """Cut a text, as ``SentencePieceProcessor.encode`` does."""
        ids: list[int] = self._model.encode(text)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Put pieces together; bytes that are no UTF-8 become replacement characters."""
        text: str = self._model.decode(list(ids))
        return text

    def name(self, token: int) -> str:
        """Show a piece, with its mark of a space."""
        piece: str = self._model.id_to_piece(token)
        return piece


class JsonPieces:
    """A ``tokenizer.json``, read by the library ``tokenizers``.

    Raises:
        ValueError: the file is no such tokenizer, or has no token for the beginning and the end of a text.
        MissingDependency: tokenizers is not installed.
    """

    def __init__(self, content: bytes) -> None:
        library = import_for_tokenizers("tokenizers")
        try:
            self._tokenizer: Any = library.Tokenizer.from_str(content.decode("utf-8"))
        except Exception as error:
            # The library raises nothing more special.
            raise ValueError(f"it is no tokenizer.json ({first_line(error)})") from error
        self.size = int(self._tokenizer.get_vocab_size())
        found = [[self._tokenizer.token_to_id(name) for name in names] for names in _ENDS]
        ends = next((pair for pair in found if None not in pair), None)
        if ends is None:
            raise ValueError(f"it has none of the pairs {', '.join(map(' and '.join, _ENDS))} for the ends of a text")
        self.bos_id, self.eos_id = ends

    def encode(self, text: str) -> list[int]:
        """Cut a text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Put tokens together."""
        text: str = self._tokenizer.decode(list(ids))
        return text

    def name(self, token: int) -> str:
        """Show a token."""
        shown: str = self._tokenizer.id_to_token(token)
        return shown


def open_pieces(path: str | Path) -> Pieces:
    """Read a tokenizer's file, told by what is in it.

    Raises:
        CheckpointError: it is missing or damaged; names the path.
        MissingDependency: the library that reads it is not installed.
    """
    where = printable(path)
    try:
        content = read_plain(path, _MOST_BYTES)
    except OSError as error:
        raise CheckpointError(
            f"{where}: the decoder's tokenizer cannot be read here ({error.strerror or error}). Give the path of "
            "LLaMA's tokenizer.model, of another SentencePiece model or of a tokenizer.json."
        ) from error
    try:
        return JsonPieces(content) if content.lstrip()[:1] == b"{" else SentencePieces(content)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise CheckpointError(f"{where}: {error}. Fetch or write it again.") from error
