"""From prompts and labels to ids and back. What a whole sequence looks like is ``sequences.py``'s job."""

from collections.abc import Sequence
from pathlib import Path

from open_clip.errors import ConfigError, DataError, cut_list, printable
from open_clip.families.nxtp.config import EMPTY_TOKEN, IMAGE_TOKEN, LabelCfg
from open_clip.families.nxtp.pieces import Pieces, open_pieces


class LabelTokenizer:
    """Turns prompts and labels into ids, with the added tokens behind those of the file.

    Attributes:
        vocab_size: Tokens of the file; the added ones follow.
        context_length: Positions of a whole sequence, those of the image included; None where nobody said.
        delimiter_id: What closes a label.
        image_id: Stands between the image and the text.
        empty_id: Fills up rows.

    Args:
        pieces: What cuts texts; ``LabelTokenizer.open`` reads it from a file.
        label_cfg: How labels are written.
        context_length: See above.

    Raises:
        ConfigError: the delimiter or the last word of a prompt is not one token.
    """

    def __init__(self, pieces: Pieces, label_cfg: LabelCfg, context_length: int | None = None) -> None:
        self._pieces = pieces
        self._cfg = label_cfg
        self.context_length = context_length
        self.vocab_size = pieces.size
        self.bos_id, self.eos_id = self._pieces.bos_id, self._pieces.eos_id
        added = list(label_cfg.added_tokens)
        self.image_id = self.vocab_size + added.index(IMAGE_TOKEN)
        self.empty_id = self.vocab_size + added.index(EMPTY_TOKEN)
        # Some files put a space before every text by themselves, others want it said.
        self._lead = self._find_lead(label_cfg.prompt)
        for prompt in (label_cfg.prompt, *label_cfg.prompts):
            self.answer_id(prompt)
        self.delimiter_id = self._find_delimiter()

    @classmethod
    def open(
        cls, path: str | Path, label_cfg: LabelCfg, vocab_size: int | None = None, context_length: int | None = None
    ) -> "LabelTokenizer":
        """Read a SentencePiece model or a ``tokenizer.json``.

        Args:
            path: The file.
            label_cfg: How labels are written.
            vocab_size: Tokens that it must have; None for as many as it has.
            context_length: Positions of a whole sequence.

        Raises:
            CheckpointError: the file is missing or damaged.
            ConfigError: it has another number of tokens, or as the class says.
            MissingDependency: the library that reads it is not installed.
        """
        pieces = open_pieces(path)
        if vocab_size not in (None, pieces.size):
            raise ConfigError(
                f"{printable(path)} has {pieces.size} tokens and the model's decoder_cfg.vocab_size is {vocab_size}: "
                "give the tokenizer that the decoder was trained with."
            )
        try:
            return cls(pieces, label_cfg, context_length)
        except ConfigError as error:
            raise ConfigError(f"{printable(path)}: {error}") from None

    def encode(self, text: str) -> list[int]:
        """Cut a text as the file says, without ids for its ends."""
        return self._pieces.encode(text)

    def encode_label(self, label: str) -> list[int]:
        """Cut a label as it stands behind a prompt or another label, without the delimiter.

        Raises:
            DataError: it is empty, or holds the delimiter.
        """
        ids = self.encode(self._lead + label.strip())
        if not label.strip() or self.delimiter_id in ids:
            what = f"holds the delimiter {self._cfg.delimiter!r}" if label.strip() else "is empty"
            raise DataError(f"the label {printable(repr(label), 100)} {what}; a label is a name between delimiters.")
        return ids

    def answer_id(self, prompt: str) -> int:
        """Give the last token of a prompt, behind which the first label stands.

        Raises:
            ConfigError: the prompt's last word is not one token.
        """
        word = prompt.split()[-1]
        ids = self.encode(self._lead + word)
        if len(ids) != 1 or self.encode(prompt)[-1:] != ids:
            raise ConfigError(
                f"the prompt {printable(repr(prompt), 100)} ends in {printable(repr(word), 50)}, which is not one "
                f"token of this tokenizer but {self._list_pieces(ids)}. End the prompt in a word that is one."
            )
        return ids[0]

    def decode(self, ids: Sequence[int]) -> str:
        """Put ids together; the ends of a text and the added tokens leave nothing."""
        silent = (self.bos_id, self.eos_id)
        return self._pieces.decode([token for token in ids if token < self.vocab_size and token not in silent]).strip()

    def name(self, token: int) -> str:
        """Show a token."""
        added = token - self.vocab_size
        return self._pieces.name(token) if added < 0 else self._cfg.added_tokens[added]

    def _find_lead(self, prompt: str) -> str:
        last = self.encode(prompt)[-1:]
        return next((lead for lead in ("", " ") if self.encode(lead + prompt.split()[-1]) == last), "")

    def _find_delimiter(self) -> int:
        # Alone it could be another token than behind a word.
        word, delimiter = self._lead + self._cfg.prompt.split()[-1], self._cfg.delimiter
        ids = self.encode(word + delimiter)
        if ids[:-1] != self.encode(word) or len(ids) != 2:
            raise ConfigError(
                f"label_cfg.delimiter {printable(repr(delimiter), 50)} is not one token of this tokenizer: behind "
                f"{printable(repr(word), 50)} it gives {self._list_pieces(ids)}. Choose a character that is one."
            )
        return ids[-1]

    def _list_pieces(self, ids: Sequence[int]) -> str:
        return cut_list(repr(self.name(token)) for token in ids) or "nothing"
