"""The rows that an evaluation measures on: any columns, and none but those that could be read."""

import contextlib

import torch

from image_sets import WordTokenizer
from loop_runs import ALONE
from open_clip.errors import DataError
from row_sources import ListSource, numbered_rows
from training.data import NumberField, RowDataset, TextField, make_eval_loader
from training.evaluate import EvaluationKit, ValidationRows


class Lengths:
    """A recipe of texts and numbers, as far as evaluations ask."""

    def prepare(self, batch):
        return batch

    def forward(self, batch):
        return {"rows": batch.values["height"]}


def test_rows_without_images_are_evaluated_but_for_those_that_cannot_be_read():
    rows = numbered_rows(10)
    for number in (2, 4, 5, 6, 7):  # the second batch has no row left
        rows[number]["height"] = DataError("torn")
    source = ListSource(rows)
    fields = [TextField(WordTokenizer()), NumberField("height", ["height"])]
    loader = make_eval_loader(RowDataset(source, fields, is_train=False), batch_size=4)
    validation = ValidationRows(loader, lambda batch: batch, source)
    kit = EvaluationKit(ALONE, contextlib.nullcontext, WordTokenizer, rows=validation)
    found = [outputs["rows"] for _, outputs in kit.outputs(Lengths())]
    assert [len(part) for part in found] == [3, 2]
    assert torch.cat(found).tolist() == [0, 1, 3, 8, 9]
