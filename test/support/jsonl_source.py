"""A source such as a user would write: one JSON object a line, with the name of an image beside it and a text."""

import json
from pathlib import Path

from training.data import Fault, SourceKind, epoch_order
from training.data.decode import ImageFile


class JsonLines:
    """Rows of a ``.jsonl`` file with the keys ``file`` and ``says``."""

    faults = ()
    arrangement = ""
    columns = ("image", "text")

    def __init__(self, path):
        self.source = path
        self._rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        self.contents = f"rows {len(self._rows)}"
        self.num_images = self.num_rows_read = len(self._rows)

    def __len__(self):
        return len(self._rows)

    def epoch_order(self, seed, epoch):
        return epoch_order(len(self), seed, epoch)

    def announce(self, order, position):
        pass

    def read(self, column, index, seed=0):
        return ImageFile(self.image_path(index)) if column == "image" else self._rows[index]["says"]

    def image_path(self, index):
        return str(Path(self.source).parent / self._rows[index]["file"])

    def image_id(self, index):
        return index

    def key(self, index):
        return f"{Path(self.source).name}:{index + 1}"

    def fault(self, index, reason):
        return Fault(self.source, index + 1, self.image_path(index), reason)


class JsonLinesKind(SourceKind):
    """The kind of data for ``--dataset-type jsonl_source.py:JsonLinesKind``."""

    def open(self, request):
        return JsonLines(request.path)
