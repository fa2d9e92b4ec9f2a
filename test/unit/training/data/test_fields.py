"""Fields of every kind: what a batch holds, and that no worker, rank, restart, neighbour or bad row changes a value."""

import hashlib

import numpy as np
import pytest
import torch

from image_sets import WordTokenizer, crop_to_uint8
from open_clip.errors import DataError
from open_clip.transform import image_transform, to_uint8
from row_sources import HeldImage, ListSource, numbered_rows
from training.data import (
    ArrayField,
    Field,
    FieldKit,
    ImageField,
    LabelField,
    NumberField,
    Quarantine,
    RowDataset,
    TextField,
    make_eval_loader,
    make_train_loader,
    name_field,
)
from training.data.source import MissingColumns, refuse_missing
from training.data.walk import tensors_in

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def crop(size=8):
    """A transform that is written in its place of a batch."""
    return to_uint8(image_transform(size, is_train=True))


class DrawField(Field):
    """A field of a recipe's own, which draws; its value is a mapping."""

    def __init__(self, name, columns=("label",)):
        self.name, self.columns = name, columns

    def read(self, row):
        return int(row.read(self.columns[0])), torch.rand(3, generator=row.generator())

    def collate(self, values):
        return {"row": torch.tensor([number for number, _ in values]), "drawn": torch.stack([one for _, one in values])}


def every_field(order=1):
    fields = [
        ImageField(crop()),
        ImageField(crop(8), crop(16), name="views"),
        ImageField(crop(8), crop_to_uint8, name="loose_views"),
        ImageField(crop(), name="others", column="other_image"),
        TextField(WordTokenizer()),
        TextField(WordTokenizer(), "short_texts", "short_text"),
        LabelField(column="cls"),
        NumberField("weights", ["weight"]),
        NumberField("sizes", ["weight", "height"]),
        ArrayField("teacher", "teacher", (2, 3), key="image"),
        DrawField("drawn"),
    ]
    return fields[::order]


def named_values(batch):
    return {"images": batch.images, "texts": batch.texts, **batch.values}


def digests(batches):
    """Digest what each field gave, and the keys."""
    found = {}
    for batch in batches:
        for name, value in {**named_values(batch), "keys": batch.keys}.items():
            sha = found.setdefault(name, hashlib.sha256())
            sha.update(repr(value).encode() if name == "keys" else b"")
            for tensor in tensors_in(value):
                sha.update(repr((tensor.dtype, tuple(tensor.shape))).encode() + tensor.numpy().tobytes())
    return {name: sha.hexdigest() for name, sha in found.items()}


@pytest.fixture(scope="module")
def source():
    return ListSource(numbered_rows(24))


def loader(source, fields=None, batch_size=8, **options):
    dataset = RowDataset(source, every_field() if fields is None else fields, seed=5)
    return make_train_loader(dataset, batch_size=batch_size, seed=5, **options)


def epochs(loader, number=2):
    try:
        return [digests(loader.epoch(epoch)) for epoch in range(number)]
    finally:
        loader.close()


def test_a_batch_starts_with_images_and_texts_and_names_the_rest(source):
    batch = next(loader(source).epoch(0))
    assert (batch[0].shape, batch[1].ids.shape) == ((8, 3, 8, 8), (8, 24))
    assert [view.shape for view in batch.values["views"]] == [(8, 3, 8, 8), (8, 3, 16, 16)]
    assert [view.shape for view in batch.values["loose_views"]] == [(8, 3, 8, 8), (8, 3, 32, 32)]
    assert {view.dtype for name in ("views", "loose_views") for view in batch.values[name]} == {torch.uint8}
    rows = batch.indices
    assert torch.equal(batch.tensor("labels"), rows % 4)
    with pytest.raises(TypeError, match="'views' is no tensor but a tuple"):
        batch.tensor("views")
    with pytest.raises(KeyError, match="no field 'scores'; further fields: .*views"):
        batch.tensor("scores")
    assert torch.equal(batch.values["weights"], rows / 2)
    assert torch.equal(batch.values["sizes"], torch.stack([rows / 2, rows.float()], dim=1))
    assert torch.equal(batch.values["teacher"], rows.float()[:, None, None].expand(8, 2, 3))
    assert torch.equal(batch.values["drawn"]["row"], rows)
    assert batch.values["short_texts"].lengths.shape == (8,)
    moved = batch.to("meta")
    assert all(
        tensor.is_meta for name, value in moved.values.items() if name != "short_texts" for tensor in tensors_in(value)
    )
    assert not moved.values["short_texts"].lengths.is_meta


@pytest.mark.parametrize("workers", [1, 2])
def test_no_number_of_workers_changes_a_value(source, workers):
    assert epochs(loader(source, workers=workers)) == epochs(loader(source))


def test_no_number_of_ranks_changes_a_value(source):
    whole = list(loader(source).epoch(1))
    halves = [list(loader(source, batch_size=4, rank=rank, world_size=2).epoch(1)) for rank in range(2)]
    for batch, *parts in zip(whole, *halves, strict=True):
        for name, value in named_values(batch).items():
            theirs = [list(tensors_in(named_values(part)[name])) for part in parts]
            for tensor, *own in zip(tensors_in(value), *theirs, strict=True):
                assert torch.equal(tensor, torch.cat(own)), name


def test_a_restart_inside_an_epoch_gives_the_rest_of_it(source):
    expected = digests(list(loader(source).epoch(3))[2:])
    for workers in (0, 1):
        again = loader(source, workers=workers)
        assert digests(again.epoch(3, start_batch=2)) == expected
        again.close()


def test_no_field_changes_anothers_value(source):
    """Nor does the place in which a recipe lists it."""
    together, reversed_ = epochs(loader(source)), epochs(loader(source, every_field(-1)))
    assert reversed_ == together
    for field in every_field():
        for epoch, alone in enumerate(epochs(loader(source, [field]))):
            assert alone[field.name] == together[epoch][field.name], field.name


def test_each_field_draws_from_a_stream_of_its_own_that_differs_by_row_and_epoch(source):
    fields = [DrawField("one"), DrawField("two")]
    seen = []
    for epoch in range(2):
        for batch in loader(source, fields).epoch(epoch):
            seen += [row.numpy().tobytes() for name in ("one", "two") for row in batch.values[name]["drawn"]]
    assert len(set(seen)) == len(seen) == 2 * 2 * 24


def test_images_and_texts_draw_what_rows_drew_before_fields_had_names(source):
    """Or old runs would go on with other crops."""
    seeds = []

    class Noting(Field):
        columns = ("label",)

        def __init__(self, name):
            self.name = name

        def read(self, row):
            seeds.append(row.seed)
            return 0

        def collate(self, values):
            return torch.tensor(values)

    RowDataset(source, [Noting("images"), Noting("texts"), Noting("other")], seed=5)[2, 7]
    # The 63 bits that order.py gave at the first release.
    assert seeds == [4470080762566425805, 4470080762566425805, seeds[2]]
    assert seeds[2] not in seeds[:2]


def test_views_of_one_crop_show_the_same_part_and_others_do_not(source):
    views = {}
    for is_one_crop in (True, False):
        field = ImageField(crop(16), crop(16), name="views", is_one_crop=is_one_crop)
        views[is_one_crop] = next(loader(source, [field]).epoch(0)).values["views"]
    assert torch.equal(*views[True])
    assert not torch.equal(*views[False])
    assert torch.equal(views[True][0], views[False][0])


def test_an_image_of_several_views_is_decoded_once():
    rows = [{"image": HeldImage(number)} for number in range(8)]
    HeldImage.num_opened = 0
    next(loader(ListSource(rows), [ImageField(crop(8), crop(16), name="views")]).epoch(0))
    assert HeldImage.num_opened == 8


def test_several_views_do_not_stand_where_a_batch_has_its_images():
    with pytest.raises(ValueError, match="2 views of 'images'"):
        ImageField(crop(), crop())


@pytest.mark.parametrize("names", [("images",), ("texts",), ("labels",)])
@pytest.mark.parametrize("workers", [0, 1])
def test_rows_may_have_no_image_or_no_text(source, names, workers):
    fields = [field for field in every_field() if field.name in names]
    one = loader(source, fields, workers=workers)
    batch = next(one.epoch(0))
    one.close()
    held = {name for name, value in named_values(batch).items() if value is not None}
    assert held == set(names)
    assert len(batch.keys) == 8
    assert batch.to("meta").keys == batch.keys


class Spoiled:
    """Columns with one spoiled value each, and the field that meets it."""

    fields = (
        ("images", "image", DataError("torn")),
        ("texts", "text", DataError("no caption")),
        ("others", "other_image", "not an image"),
        ("short_texts", "short_text", 7),
        ("labels", "cls", b"four"),
        ("weights", "weight", "heavy"),
        ("sizes", "height", float("inf")),
        ("teacher", "teacher", {"image": np.zeros((3, 2))}),
        ("drawn", "label", "no number"),
    )


@pytest.mark.parametrize("name, column, value", Spoiled.fields)
@pytest.mark.parametrize("workers", [0, 1])
def test_what_one_field_cannot_use_makes_the_row_unusable_for_all(name, column, value, workers):
    rows = numbered_rows(24)
    rows[3] = {**rows[3], column: value}
    one = loader(ListSource(rows), workers=workers)
    batches = list(one.epoch(0))
    one.close()
    [fault] = {fault for batch in batches for fault in batch.faults}
    assert fault.row == 3
    assert (f"field {name}: " in fault.reason) is (name not in ("images", "texts"))
    # The next row stands in for it, in every field.
    seen = sorted(row for batch in batches for row in batch.indices.tolist())
    assert seen == sorted([*(row for row in range(24) if row != 3), 4])
    for batch in batches:
        assert torch.equal(batch.values["weights"], batch.indices / 2)
        assert torch.equal(batch.values["teacher"][:, 0, 0], batch.indices.float())
        assert torch.equal(batch.values["drawn"]["row"], batch.indices)
        assert torch.equal(batch.values["others"].float().mean((1, 2, 3)).round(), batch.indices + 100.0)


@pytest.mark.parametrize("name, column, value", Spoiled.fields)
def test_evaluation_leaves_out_a_row_that_one_field_cannot_use(tmp_path, name, column, value):
    rows = numbered_rows(24)
    rows[3] = {**rows[3], column: value}
    batches = list(make_eval_loader(RowDataset(ListSource(rows), every_field(), is_train=False), batch_size=5))
    assert [row for batch in batches for row in batch.indices.tolist()] == [row for row in range(24) if row != 3]
    quarantine = Quarantine(tmp_path / "bad.jsonl", 24, budget=0.5)
    assert sum(quarantine.record(batch.faults) for batch in batches) == 1


def test_what_takes_the_place_of_a_row_draws_what_that_row_would_have_drawn():
    rows = numbered_rows(24)
    whole = RowDataset(ListSource(rows), [DrawField("drawn")], seed=5)[1, 3]
    spoiled = [*rows[:3], {**rows[3], "label": "none"}, *rows[4:]]
    replaced = RowDataset(ListSource(spoiled), [DrawField("drawn")], seed=5)[1, 3]
    assert (whole.row, replaced.row) == (3, 4)
    assert torch.equal(whole.values["drawn"][1], replaced.values["drawn"][1])


def test_a_row_that_a_cheap_field_cannot_use_costs_no_decoding():
    rows = [{"image": HeldImage(0), "cls": "none"}, {"image": HeldImage(1), "cls": "1"}]
    HeldImage.num_opened = 0
    sample = RowDataset(ListSource(rows), [ImageField(crop()), LabelField(column="cls")])[0, 0]
    assert (sample.row, HeldImage.num_opened) == (1, 1)


def test_a_field_that_no_row_serves_starves_the_batch_with_its_name():
    with pytest.raises(
        DataError, match=r"24 rows one after the other cannot be used[\s\S]*field labels: .*is no number"
    ):
        next(loader(ListSource([{**row, "cls": "x"} for row in numbered_rows(24)])).epoch(0))


def test_two_fields_of_one_name_are_our_own_mistake(source):
    with pytest.raises(ValueError, match="two fields of one name"):
        RowDataset(source, [LabelField(), DrawField("labels")])


def test_columns_that_a_source_lacks_are_named_with_recipe_field_and_those_there_are(source):
    fields = [*every_field(), NumberField("aspects", ["weight", "width", "depth"])]
    asked = dict.fromkeys(column for field in fields for column in field.columns)
    with pytest.raises(MissingColumns) as caught:
        refuse_missing("a.csv", asked, source.columns)
    message = str(name_field(caught.value, "mine", fields))
    assert message.startswith("recipe mine, field aspects: a.csv has no columns 'width', 'depth'.")
    assert all(column in message for column in source.columns)
    assert "--columns width=COLUMN" in message


def read(field, **columns):
    return field.collate([RowDataset(ListSource([columns]), [field], is_train=False).read_field(field.name, 0)])


@pytest.mark.parametrize("value", [3, "3", " 3", b"3\n", 3.0, np.int64(3)])
def test_class_numbers_are_read_from_whatever_holds_one(value):
    labels = read(LabelField(num_classes=4), label=value)
    assert (labels.tolist(), labels.dtype) == ([3], torch.int64)


@pytest.mark.parametrize("value", [-1, 4, "2.5", "nan", None, b"\xff", "three"])
def test_what_is_no_class_number_is_refused(value):
    with pytest.raises(DataError):
        read(LabelField(num_classes=4), label=value)


def test_class_names_become_their_numbers_even_where_they_are_numbers():
    assert read(LabelField(classes=["10", "2"]), label="2").tolist() == [1]
    assert read(LabelField(classes=["cat", "dog"]), label=b"dog").tolist() == [1]
    with pytest.raises(DataError, match="'cow' is none of the 2 classes"):
        read(LabelField(classes=["cat", "dog"]), label="cow")


@pytest.mark.parametrize(
    "value, reason",
    [
        (np.zeros((3, 2)), r"an array \(3, 2\), not \(2, 3\)"),
        (np.full((2, 3), np.nan), "not finite"),
        (np.array([["a"] * 3] * 2), "not numbers"),
        (b"bytes", "not numbers"),
    ],
)
def test_arrays_of_another_form_are_refused(value, reason):
    with pytest.raises(DataError, match=reason):
        read(ArrayField("teacher", "column", (2, 3)), column=value)


def test_arrays_are_copies_of_what_the_source_holds():
    held = np.ones((2, 3), np.float32)
    held.flags.writeable = False
    value = read(ArrayField("teacher", "column", (2, 3), dtype=torch.float16), column=held)
    assert value.dtype is torch.float16
    value += 1
    assert held.max() == 1
    with pytest.raises(DataError, match="no array 'image'"):
        read(ArrayField("teacher", "column", (2, 3), key="image"), column=held)


def test_a_kit_makes_fields_as_the_run_wants_them(source):
    kit = FieldKit("train", crop(), WordTokenizer, max_pixels=400)
    fields = kit.image(), kit.text(), kit.text("short_text", "short"), kit.label("cls"), kit.numbers("weight", name="w")
    batch = next(loader(source, [*fields[1:], kit.arrays("teacher", (2, 3), "teacher", key="image")]).epoch(0))
    assert list(batch.values) == ["short", "labels", "w", "teacher"]
    assert kit.is_train
    [fault] = RowDataset(source, [fields[0]], is_train=False)[0, 0].faults
    assert fault.reason == "image is over the limit"


def test_values_that_cannot_be_put_together_are_told_with_field_and_row(source):
    class Ragged(DrawField):
        def read(self, row):
            return torch.ones(int(row.read("label")) + 1)

        def collate(self, values):
            return torch.stack(list(values))

    with pytest.raises(DataError, match=r"field ragged: the values of a batch cannot be put together: .*equal size"):
        next(loader(source, [Ragged("ragged")]).epoch(0))
