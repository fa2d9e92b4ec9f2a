"""What a recipe's batch is made of: a field makes a value of some columns of one row, and one value of many rows'.

Fields decide no order, open no source and know no recipe; `dataset.py` puts them together.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from open_clip.errors import ConfigError
from open_clip.transformer.texts import Texts
from training.data.buffers import Shape
from training.data.decode import StoredImage
from training.data.order import field_seed
from training.data.seeding import seeded
from training.data.source import IMAGE, TEXT, MissingColumns, Source, read_image, read_text
from training.data.texts import TextPlanner, make_texts

# The two that a batch starts with; every other field travels in its `values`.
IMAGES: Final = "images"
TEXTS: Final = "texts"

Tokenizer = Callable[[list[str]], Tensor]


class Row:
    """One row as one field sees it.

    Attributes:
        index: position in the source.
        seed: the field's own stream for this row, a function of seed of the run, epoch, row and field alone.
    """

    def __init__(self, source: Source, index: int, seed: int) -> None:
        self.index = index
        self.seed = seed
        self._source = source

    @property
    def key(self) -> str:
        """Identity of the row."""
        return self._source.key(self.index)

    def read(self, column: str) -> object:
        """Read a column; where it holds several values, the one that the stream draws.

        Raises:
            DataError: the row has no usable value there.
        """
        return self._source.read(column, self.index, self.seed)

    def image(self, column: str = IMAGE) -> StoredImage:
        """Find an image, not yet decoded; DataError where the column holds something else."""
        return read_image(self._source, self.index, column)

    def text(self, column: str = TEXT) -> str:
        """Read a text; DataError where the column holds something else."""
        return read_text(self._source, self.index, self.seed, column)

    def generator(self) -> torch.Generator:
        """Make a generator at the start of the stream."""
        return torch.Generator().manual_seed(self.seed)


class Field(ABC):
    """One entry of a batch.

    Attributes:
        name: where it stands in a batch: ``images`` and ``texts`` in front, any other in ``values``.
        columns: what it reads of a row.
        image_columns: those of them that hold images; a table has to be told which of its texts are paths.
        is_costly: read after the others, so that a row which they find unusable costs nothing more.
        shapes: of uint8 memory that it writes a row's value into, part by part; none for values of their own.
    """

    name: str
    columns: tuple[str, ...]
    image_columns: tuple[str, ...] = ()
    is_costly: bool = False
    shapes: tuple[Shape, ...] = ()

    @abstractmethod
    def read(self, row: Row) -> object:
        """Make the value of one row; whatever it draws comes from the row's stream.

        Raises:
            DataError: the row cannot be used; any other error counts as one too.
        """

    @abstractmethod
    def collate(self, values: Sequence[Any]) -> object:
        """Put the values of a batch together; tensors may stand at any depth of what it gives."""

    def read_into(self, row: Row, memory: Sequence[Tensor]) -> None:
        """Write the value of one row into memory of ``shapes``, as `read` would give it."""
        raise NotImplementedError

    def gather(self, memory: Sequence[Tensor]) -> object:
        """Give what `collate` would, for rows that stand in memory [B, ...] of ``shapes``."""
        raise NotImplementedError


class _Caption(NamedTuple):
    text: str
    seed: int


class TextField(Field):
    """Texts as token ids; those of a batch are cut into tokens together.

    Args:
        tokenizer: from a list of texts to token ids, int64 [B, L].
        name: of the field.
        column: what it reads.
        planner: decides how the texts of a batch are computed; None to leave that open.
    """

    def __init__(
        self, tokenizer: Tokenizer, name: str = TEXTS, column: str = TEXT, planner: TextPlanner | None = None
    ) -> None:
        self.name = name
        self.columns = (column,)
        self.tokenizer = tokenizer
        self.planner = planner

    def read(self, row: Row) -> _Caption:
        """Read the text."""
        return _Caption(row.text(self.columns[0]), row.seed)

    def collate(self, values: Sequence[_Caption]) -> Texts:
        """Make the batch's texts."""
        return make_texts(self.tokenize(values), self.tokenizer, self.planner)

    def tokenize(self, values: Sequence[_Caption]) -> Tensor:
        """Return what was read as token ids, int64 [B, L]."""
        if getattr(self.tokenizer, "reduction_fn", None) is None:
            return self.tokenizer([value.text for value in values])
        # Tokenizers that drop tokens at random draw from the global generators: one seed a text, as for crops.
        rows = []
        for value in values:
            with seeded(value.seed):
                rows.append(self.tokenizer([value.text]))
        return torch.cat(rows)


def row_seed(name: str, seed: int) -> int:
    """Return the seed of a field's stream for a row from the row's own, which images and texts draw from."""
    # Those two had one stream before there were other fields: a run of then goes on with the crops it would have seen.
    return seed if name in (IMAGES, TEXTS) else field_seed(seed, name)


def columns_of(fields: Iterable[Field]) -> tuple[str, ...]:
    """List the columns that fields read, each once."""
    return tuple(dict.fromkeys(column for field in fields for column in field.columns))


def image_columns_of(fields: Iterable[Field]) -> tuple[str, ...]:
    """List the columns that fields read images from, each once."""
    return tuple(dict.fromkeys(column for field in fields for column in field.image_columns))


def name_field(error: MissingColumns, recipe: str, fields: Iterable[Field]) -> ConfigError:
    """Say of columns that data lacks which field of which recipe reads them."""
    names = [field.name for field in fields if set(field.columns) & set(error.missing)]
    return ConfigError(f"recipe {recipe}, field {', '.join(names)}: {error}")
