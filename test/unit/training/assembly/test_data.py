"""Recipes of a user's own over real files: their fields make the batches, or are refused before anything is trained."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from image_sets import IMAGES_OF_EMOJI
from open_clip.errors import ConfigError, DataError
from open_clip.transform import image_transform
from training.assembly.data import build_eval_data, build_train_data
from training.assembly.fields import sketch_fields
from training.assembly.inputs import _check_columns, _check_data
from training.assembly.place import Place
from training.device import select_device
from training.distributed import World
from training.params import RunParams, parse_args
from training.run_folder import RunFolder

TRANSFORM = image_transform(16, is_train=True)


@pytest.fixture
def table(tmp_path):
    """A table of an image, two texts, a class and a number a row."""
    path = tmp_path / "rows.csv"
    lines = ["filepath,title,short,class,weight"]
    for number, image in enumerate(IMAGES_OF_EMOJI[:8]):
        lines.append(f"{image},a long text of {number},text {number},{number % 3},{number / 4}")
    path.write_text("\n".join(lines) + "\n")
    return path


def mine(make):
    """What stands for a recipe whose batches are made of these fields."""
    return SimpleNamespace(name="mine", fields=lambda kit, params: make(kit))


def build(make, *words, build=build_train_data, tmp_path, role="--train-data", table):
    params = RunParams.from_namespace(
        parse_args([role, str(table), "--csv-separator", ",", "--model", "ViT-micro-8-32", *words])
    )
    place = Place(select_device("cpu"), torch.device("cpu"), World(), RunFolder("run", tmp_path))
    recipe = mine(make)
    if build is build_eval_data:
        return build(params, place, TRANSFORM, recipe)
    return build(params, place, TRANSFORM, lambda: None, recipe)


def test_a_recipe_of_two_crops_and_two_texts_a_row_has_its_batches(tmp_path, table):
    def make(kit):
        images = kit.image(), kit.image(name="others")
        texts = kit.text(), kit.text("short", "shorts")
        return *images, *texts, kit.label("class"), kit.numbers("weight", name="weights")

    words = ["--batch-size", "8", "--workers", "0"]
    loader, _ = build(make, *words, tmp_path=tmp_path, table=table)
    batch = next(loader.epoch(0))
    assert set(batch.values) == {"shorts", "labels", "weights", "others"}
    assert torch.equal(batch.tensor("labels"), batch.indices % 3)
    assert torch.equal(batch.tensor("weights"), batch.indices / 4)
    assert batch.tensor("others").shape == batch.images.shape == (8, 3, 16, 16)
    assert not torch.equal(batch.tensor("others"), batch.images)
    assert not torch.equal(batch.texts.ids, batch.values["shorts"].ids)


def test_rows_without_images_are_evaluated(tmp_path, table):
    words = ["--batch-size", "3", "--workers", "0"]
    options = {"build": build_eval_data, "role": "--val-data", "tmp_path": tmp_path, "table": table}
    loader, _, source = build(lambda kit: (kit.text("short"), kit.label("class")), *words, **options)
    assert [batch.images for batch in loader] == [None] * 3
    assert len(source) == 8


def test_a_set_of_which_no_row_can_be_read_is_refused_at_once(tmp_path, table):
    options = {"build": build_eval_data, "role": "--val-data", "tmp_path": tmp_path, "table": table}
    with pytest.raises(
        DataError, match=r"None of the first 8 rows to evaluate .* field labels: 'a long text of 0' is no"
    ):
        build(lambda kit: (kit.label("title"),), **options)


def test_a_field_whose_columns_the_data_lacks_is_refused_with_status_2(tmp_path, table):
    def make(kit):
        return kit.image(), kit.arrays("teacher", (4,), "teacher_rows")

    with pytest.raises(ConfigError) as caught:
        build(make, tmp_path=tmp_path, table=table)
    message = str(caught.value)
    assert caught.value.exit_status == 2
    assert "--train-data" in message
    assert "recipe mine, field teacher_rows: " in message
    assert "'teacher'" in message
    assert all(column in message for column in ("filepath", "title", "short", "class", "weight"))


def test_a_stream_refuses_fields_that_it_does_not_hold(tmp_path, table):
    words = ["--shard-order", "buffer", "--dataset-type", "webdataset"]
    shards = str(tmp_path / "0.tar")
    Path(shards).touch()
    params = RunParams.from_namespace(parse_args(["--train-data", shards, *words]))
    for further, said in (
        (lambda kit: kit.text("short", "shorts"), "field 'shorts' reads short, and --shard-order buffer streams"),
        (lambda kit: kit.image(name="others"), "field 'others' reads image, and --shard-order buffer streams"),
    ):
        recipe = mine(lambda kit, further=further: (kit.image(), kit.text(), further(kit)))
        # Before there is a model.
        with pytest.raises(ConfigError, match=f"recipe mine: {said}"):
            _check_data(shards, "train", params, recipe)


def test_a_name_of_columns_that_no_field_reads_is_refused_with_the_nearest():
    recipe = mine(lambda kit: (kit.image(), kit.text("short", "shorts")))
    params = RunParams.from_namespace(parse_args(["--columns", "short=json:short_caption"]))
    _check_columns(params, recipe)
    params = RunParams.from_namespace(parse_args(["--columns", "image=png", "shrot=json:short_caption"]))
    with pytest.raises(ConfigError) as caught:
        _check_columns(params, recipe)
    assert str(caught.value) == (
        "--columns shrot=json:short_caption: the recipe mine reads no column 'shrot'. Did you mean short? "
        "It reads: image, short."
    )


def test_columns_are_checked_before_there_is_a_model(tmp_path, table):
    params = RunParams.from_namespace(parse_args(["--train-data", str(table), "--csv-separator", ","]))
    _check_data(str(table), "train", params, mine(lambda kit: (kit.text("short"), kit.label("class"))))
    with pytest.raises(ConfigError, match="recipe mine, field labels: .* has no column 'label'"):
        _check_data(str(table), "train", params, mine(lambda kit: (kit.image(), kit.label())))


def test_two_fields_of_one_name_are_told_before_anything_is_built():
    recipe = mine(lambda kit: (kit.text(), kit.numbers("weight", name="short"), kit.text("short", "short")))
    with pytest.raises(ConfigError, match="recipe mine: two of its fields are called 'short'"):
        sketch_fields(recipe, "train", None)
