"""What an evaluation shows beside its figures: plain data, kept in a run folder's ``evaluations.json``.

The report room draws each kind from the file alone, so that a report can be drawn again without the recipe's code.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from open_clip.checked_json import read_json
from open_clip.files import write_whole
from training.evaluate.examples import Gallery, Thumbnail

Cell = str | int | float | None


@dataclass(frozen=True)
class Note:
    """A paragraph of plain text."""

    text: str
    kind: ClassVar[str] = "note"


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings.

    Attributes:
        title: Shown above the table.
        head: The headings.
        rows: Cells, one a heading; numbers stand to the right.
        note: A sentence under the title.
        is_shaded: Whether each number is shaded by its share of the row's sum, as in a confusion table.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    is_shaded: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class LabelledImage:
    """An image with the lines that stand under it."""

    thumbnail: Thumbnail
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Images:
    """Images side by side, each with a few lines of text."""

    title: str
    images: tuple[LabelledImage, ...]
    note: str = ""
    kind: ClassVar[str] = "images"


Part = Note | Table | Images | Gallery


def save_parts(path: Path, parts: Mapping[str, Sequence[Part]], *, epoch: int, step: int) -> None:
    """Put the parts of some evaluations, by their names, into the file; what it has of others stays.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        kept = read_json(path)
    except (OSError, ValueError):
        kept = {}
    evaluations = kept.get("evaluations") if isinstance(kept, dict) else None
    shown = dict(evaluations) if isinstance(evaluations, dict) else {}
    for name, one in parts.items():
        shown[name] = {"epoch": epoch, "step": step, "parts": [{"kind": part.kind, **asdict(part)} for part in one]}
    write_whole(path, json.dumps({"schema": 1, "evaluations": shown}))
