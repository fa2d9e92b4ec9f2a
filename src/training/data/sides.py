"""The images and the captions of an evaluation set apart from each other: each different one once.

Encodes nothing, and reads no more than the share of one process.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from open_clip.errors import DataError
from training.data.batch import Batch
from training.data.dataset import RowDataset
from training.data.fields import TEXTS, TextField
from training.data.order import IntArray, rank_slice
from training.data.quarantine import Fault
from training.data.source import Source
from training.data.texts import text_lengths

_CHUNK: Final = 1024


class Captions(NamedTuple):
    """Token ids of the captions of some rows.

    Attributes:
        tokens: int32 [U, L], each different caption once, shortest first where lengths are known.
        lengths: int64 [U], tokens up to and with the end-of-text token; None when that token is unknown.
        rows: int64 [n], positions of the rows whose caption could be read, ascending.
        which: int64 [n], the row of ``tokens`` that is each one's caption.
        faults: rows whose caption could not be read.
    """

    tokens: Tensor
    lengths: Tensor | None
    rows: IntArray
    which: IntArray
    faults: tuple[Fault, ...]


class EvalSides:
    """One process's share of the different images and captions of a set; the shares need not be of the same rows."""

    def __init__(self, dataset: RowDataset, rank: int, world_size: int) -> None:
        self._dataset = dataset
        self._own_rows = range(*rank_slice(len(dataset), rank, world_size))
        self._rank = rank
        self._world_size = world_size
        self._captions: Captions | None = None

    @cached_property
    def image_ids(self) -> IntArray:
        """Number the image of every row of the whole set, int64 [N]."""
        return _number_images(self._dataset.source)

    @cached_property
    def first_rows(self) -> list[int]:
        """List this process's images, each by the first row that shows it."""
        # An image is encoded once, wherever in the set its rows stand.
        firsts = np.sort(np.unique(self.image_ids, return_index=True)[1])
        start, stop = rank_slice(len(firsts), self._rank, self._world_size)
        return [int(row) for row in firsts[start:stop]]

    def images(self, batches: Iterable[Batch], batch_size: int) -> Iterator[Batch]:
        """Give what workers read of ``first_rows`` in batches, with a fault for each row of an image they could not.

        A batch that could not be read at all has no images.
        """
        for number, batch in enumerate(batches):
            asked = self.first_rows[number * batch_size : (number + 1) * batch_size]
            read = set() if batch.indices is None else set(batch.indices.tolist())
            missing = [row for row in asked if row not in read]
            yield batch._replace(faults=tuple(self._spread(missing, batch.faults))) if missing else batch

    def captions(self) -> Captions:
        """Read and tokenise the captions of this process's rows, once for all evaluations."""
        if self._captions is None:
            self._captions = read_captions(self._dataset, self._own_rows)
        return self._captions

    def _spread(self, missing: Sequence[int], faults: Sequence[Fault]) -> Iterator[Fault]:
        for row, fault in zip(missing, faults, strict=True):
            yield fault
            for other in np.flatnonzero(self.image_ids == self.image_ids[row])[1:].tolist():
                yield self._dataset.source.fault(other, fault.reason)


def _number_images(source: Source) -> IntArray:
    """Number each row's image from 0, int64 [N], whatever numbers a source gives its images."""
    ids = np.fromiter((source.image_id(row) for row in range(len(source))), dtype=np.int64, count=len(source))
    numbers: IntArray = np.unique(ids, return_inverse=True)[1]
    return numbers


def read_captions(dataset: RowDataset, rows: Sequence[int]) -> Captions:
    """Read and tokenise the captions of some rows as the batches of an evaluation have them, and find equal ones."""
    field = dataset.fields[TEXTS]
    assert isinstance(field, TextField)
    number_of: dict[bytes, int] = {}
    parts: list[Tensor] = []
    lengths: list[Tensor] = []
    sound: list[int] = []
    which: list[int] = []
    faults: list[Fault] = []
    known = 0
    for start in range(0, len(rows), _CHUNK):
        read = dict(_read(dataset, rows[start : start + _CHUNK], faults))
        if not read:
            continue
        tokens = field.tokenize(list(read.values()))
        compact = tokens.to(torch.int32)
        new: list[int] = []
        for place, ids in enumerate(compact.numpy()):
            number = number_of.setdefault(ids.tobytes(), len(number_of))
            which.append(number)
            # A number that was not given before: numbers are given in the order of first appearance.
            if number == known + len(new):
                new.append(place)
        known += len(new)
        parts.append(compact[new])
        counted = text_lengths(tokens, field.tokenizer)
        if counted is not None:
            lengths.append(counted[new])
        sound += read
    different = torch.cat(parts) if parts else torch.empty(0, 0, dtype=torch.int32)
    return _shortest_first(different, torch.cat(lengths) if lengths else None, sound, which, faults)


def _shortest_first(
    tokens: Tensor, lengths: Tensor | None, rows: list[int], which: list[int], faults: list[Fault]
) -> Captions:
    numbers = np.array(which, dtype=np.int64)
    if lengths is not None:
        lengths, order = lengths.sort(stable=True)
        tokens = tokens[order]
        numbers = order.argsort().numpy()[numbers]
    return Captions(tokens, lengths, np.array(rows, dtype=np.int64), numbers, tuple(faults))


def _read(dataset: RowDataset, rows: Iterable[int], faults: list[Fault]) -> Iterator[tuple[int, Any]]:
    for row in rows:
        try:
            yield row, dataset.read_field(TEXTS, row)
        except DataError as error:
            faults.append(dataset.source.fault(row, str(error)))
