"""Rows of a source by the fields of a recipe: one row at a time, and many put together into a batch.

It touches no device, keeps no state between rows and decides no order.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from open_clip.errors import DataError
from open_clip.transformer.texts import Texts
from training.data.batch import Batch
from training.data.buffers import Shape
from training.data.fields import IMAGES, TEXTS, Field, Row, row_seed
from training.data.order import sample_seed
from training.data.quarantine import Fault, one_line
from training.data.source import Source

# So many different bad images one after the other are no dirt: the data is gone or was never there.
_MAX_BAD_IN_A_ROW: Final = 100
_NUM_TRIED: Final = 8

Request = tuple[int, int]


class Sample(NamedTuple):
    """One row on its way into a batch: a value for each field, by name; None where the row cannot be used."""

    values: Mapping[str, object] | None
    row: int
    faults: tuple[Fault, ...]


class Starved(NamedTuple):
    """Stands in for a batch that could not be made, with the message of the error that the main process raises."""

    message: str


class RowDataset(Dataset[Sample]):
    """Rows as a recipe's batches hold them.

    What is drawn for a field of a row depends on (seed, epoch, row, field) alone: no rank, worker count or restart
    changes it, nor does another field. A row of which one field cannot be read is unusable as a whole.

    Args:
        source: the rows.
        fields: what a batch is made of; no two of one name.
        seed: seed of the run.
        is_train: replace a row that cannot be used by the next sound one; otherwise it is left out.
    """

    def __init__(self, source: Source, fields: Sequence[Field], seed: int = 0, is_train: bool = True) -> None:
        self.source = source
        self.fields = {field.name: field for field in fields}
        if len(self.fields) < len(fields):
            raise ValueError(f"two fields of one name among {[field.name for field in fields]}")
        self.seed = seed
        self.is_train = is_train
        # A row that a cheap field finds unusable costs no decoding.
        self._in_order = sorted(fields, key=lambda field: field.is_costly)

    def __len__(self) -> int:
        return len(self.source)

    def only(self, *names: str) -> "RowDataset":
        """Return the same rows with some of the fields, whose values are the same."""
        return RowDataset(self.source, [self.fields[name] for name in names], self.seed, self.is_train)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of one row's uint8 memory that fields write into, in the order in which `read_batch` takes it."""
        return tuple(shape for field in self._in_order for shape in field.shapes)

    def __getitem__(self, request: Request) -> Sample:
        """Read the row that ``(epoch, index)`` asks for."""
        return self._read_row(request, [part[0] for part in self._take(1)])

    def read_batch(self, requests: Sequence[Request], memory: Sequence[Tensor] | None = None) -> Batch | Starved:
        """Read the rows that ``(epoch, index)`` ask for.

        Args:
            requests: the rows, in their order.
            memory: uint8 [B, *shape] for each of ``shapes``, with a row for each request or more: what fields write
                stands in its first rows. Fresh memory when None.
        """
        memory = self._take(len(requests)) if memory is None else memory
        samples, num_sound = [], 0
        for request in requests:
            sample = self._read_row(request, [part[num_sound] for part in memory])
            num_sound += sample.values is not None
            samples.append(sample)
        return self._collate(samples, [part[:num_sound] for part in memory])

    def read_field(self, name: str, index: int, epoch: int = 0) -> object:
        """Read one field of one row, as a batch of that epoch has it.

        Raises:
            DataError: the row cannot be used.
        """
        row = Row(self.source, index, row_seed(name, sample_seed(self.seed, epoch, index)))
        return self.fields[name].read(row)

    def try_rows(self) -> None:
        """Read the first rows: a set of which none can be read would be noticed only after an epoch of training.

        Raises:
            DataError: None of them can be used.
        """
        faults: list[Fault] = []
        for row in range(min(len(self), _NUM_TRIED)):
            sample = self[0, row]
            if sample.values is not None:
                return
            faults += sample.faults
        raise DataError(f"None of the first {len(faults)} rows to evaluate can be used. One is: {faults[0].reason}")

    def _take(self, count: int) -> list[Tensor]:
        return [torch.empty(count, *shape, dtype=torch.uint8) for shape in self.shapes]

    def _collate(self, samples: Sequence[Sample], memory: Sequence[Tensor]) -> Batch | Starved:
        """Put rows into a batch, in their order; in evaluation without those that could not be read."""
        faults = tuple(fault for sample in samples for fault in sample.faults)
        sound = [(sample.values, sample.row) for sample in samples if sample.values is not None]
        if self.is_train and len(sound) < len(samples):
            first = next(sample for sample in samples if sample.values is None)
            return Starved(_starved_message(first))
        if not sound:
            return Batch(torch.empty(0), Texts(torch.empty(0, dtype=torch.int64)), keys=(), faults=faults)
        values: dict[str, object] = {}
        for field, own in self._own_memory(memory):
            name = field.name
            try:
                values[name] = field.gather(own) if own else field.collate([read[name] for read, _ in sound])
            # As with reading, a field may be anybody's, and its worker's traceback names neither it nor a row.
            except Exception as error:
                return Starved(f"{_why_apart(name, error)} The first row is {self.source.key(sound[0][1])}.")
        # A recipe knows whether it asked for images and texts: their types leave out that they may be None.
        images, texts = values.pop(IMAGES, None), values.pop(TEXTS, None)
        return Batch(
            images=cast(Tensor, images),
            texts=cast(Texts, texts),
            values=values,
            keys=tuple(self.source.key(row) for _, row in sound),
            image_ids=torch.tensor([self.source.image_id(row) for _, row in sound]),
            faults=faults,
            indices=torch.tensor([row for _, row in sound]),
        )

    def _own_memory(self, memory: Sequence[Tensor]) -> Iterator[tuple[Field, Sequence[Tensor]]]:
        """Give each field with its part of the memory."""
        start = 0
        for field in self._in_order:
            stop = start + len(field.shapes)
            yield field, memory[start:stop]
            start = stop

    def _read_row(self, request: Request, memory: Sequence[Tensor]) -> Sample:
        epoch, index = request
        # Of the row that was asked for: what takes its place draws what it would have drawn.
        seed = sample_seed(self.seed, epoch, index)
        faults: list[Fault] = []
        bad_images: set[int] = set()
        for step in range(len(self.source)):
            candidate = (index + step) % len(self.source)
            # The other rows of a bad row's image are passed over: an image to blame would be opened for each of them.
            if bad_images and self.source.image_id(candidate) in bad_images:
                continue
            values = self._read(candidate, seed, faults, memory)
            if values is not None or not self.is_train:
                return Sample(values, candidate, tuple(faults))
            bad_images.add(self.source.image_id(candidate))
            if len(bad_images) == _MAX_BAD_IN_A_ROW:
                break
        return Sample(None, index, tuple(faults))

    def _read(self, index: int, seed: int, faults: list[Fault], memory: Sequence[Tensor]) -> dict[str, object] | None:
        """Return the fields of a row; None after noting what is wrong with one of them."""
        values: dict[str, object] = {}
        for field, own in self._own_memory(memory):
            row = Row(self.source, index, row_seed(field.name, seed))
            try:
                if own:
                    field.read_into(row, own)
                    values[field.name] = own
                else:
                    values[field.name] = field.read(row)
            # A field may be anybody's: what it stumbles over is one bad row.
            except Exception as error:
                faults.append(self.source.fault(index, _why(field.name, error)))
                return None
        return values


def _why(name: str, error: Exception) -> str:
    text = str(error) if isinstance(error, DataError) else one_line(error)
    # What is wrong with an image or a caption says by itself which of the two is meant.
    return text if name in (IMAGES, TEXTS) else f"field {name}: {text}"


def _why_apart(name: str, error: Exception) -> str:
    return (
        f"field {name}: the values of a batch cannot be put together: {one_line(error)}. "
        "Its `collate` must take whatever its `read` gives, such as arrays of one shape."
    )


def _starved_message(sample: Sample) -> str:
    examples = "\n  ".join(str(fault) for fault in sample.faults[:3])
    count = len(sample.faults)
    which = "1 row" if count == 1 else f"{count} rows one after the other"
    return (
        f"{which} cannot be used, so no sound row is left to take {'its' if count == 1 else 'their'} "
        f"place. The first:\n  {examples}\nCheck that the data is complete and still mounted."
    )
