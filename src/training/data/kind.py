"""What a word of ``--dataset-type`` stands for: a kind of data that knows its paths, checks them and opens them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from training.data.source import IMAGE, TEXT, Source
from training.params.data import DataParams, ShardParams


@dataclass(frozen=True)
class SourceRequest:
    """What a run asks of its data.

    Attributes:
        path: what ``--train-data`` or ``--val-data`` names; empty for data that needs no files.
        role: ``train`` or ``val``.
        data: the flags of the group Data.
        shards: the flags of shards and of synthetic data.
        columns: names of the columns that will be read; no others need to be kept. Before the model is built a recipe
            may not know them yet: a check without any looks at the form of the data alone.
        image_columns: those of them that hold images.
        image_size: (height, width) that the transform makes, for images that are made up.
        rank: this process.
        world_size: number of processes.
        gather: gives every process the list of all processes' values; every process must call it.
    """

    path: str
    role: str
    data: DataParams
    shards: ShardParams
    columns: tuple[str, ...] = (IMAGE, TEXT)
    image_columns: tuple[str, ...] = (IMAGE,)
    image_size: tuple[int, int] = (224, 224)
    rank: int = 0
    world_size: int = 1
    gather: Callable[[Any], list[Any]] = lambda value: [value]

    def own_name(self, column: str) -> str | None:
        """Return what ``--columns`` says the data calls a column; None where it says nothing."""
        return self.data.own_names.get(column)


class SourceKind(ABC):
    """One kind of data; a file of yours may hold one, for ``--dataset-type FILE.py:NAME``.

    Attributes:
        needs_path: it reads what a data flag names. A kind that does not stands for training data alone.
        can_stream: ``--shard-order buffer`` reads it too.
    """

    needs_path = True
    can_stream = False

    def claims(self, request: SourceRequest) -> bool:
        """Tell by its path whether ``--dataset-type auto`` takes data for this kind."""
        return False

    def check(self, request: SourceRequest) -> None:
        """Refuse before anything is built what `open` would refuse; reads a few bytes at most.

        Raises:
            ConfigError: a flag is wrong; MissingColumns where the data lacks a column that is asked for.
            DataError: the data is not there, or of another form.
        """
        return

    @abstractmethod
    def open(self, request: SourceRequest) -> Source:
        """Read which rows there are; every process calls it.

        Raises:
            ConfigError: a flag is wrong.
            DataError: the data cannot be read, or not one row of it is usable.
        """
