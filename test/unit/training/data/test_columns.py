"""Further columns of a table: only those asked for are kept, and what is not there is told with what there is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from image_sets import IMAGES_OF_EMOJI
from open_clip.errors import ConfigError
from training.data import ImageField, RowDataset, SourceRequest, columns_of, find_kind, image_columns_of, open_source
from training.data.csv import read_csv
from training.data.source import MissingColumns
from training.params import RunParams, parse_args
from training.params.data import DataParams, ShardParams

HEADER = ("label", "long text", "score")
ROWS = [("3", "a long text", "0.50"), ("1", "another one", "1e3"), ("", "no label", "2"), ("2", "broken \udcff", "4")]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "rows.csv"
    lines = [",".join(HEADER), *(",".join(row) for row in ROWS)]
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape") + b"\n")
    return path


def request(path, columns, *pairs):
    data = DataParams(csv_separator=",", columns=list(pairs))
    return SourceRequest(str(path), "train", data, ShardParams(), columns=columns)


def test_a_table_without_images_and_captions_gives_the_columns_asked_for(table):
    asked = request(table, ("label", "short"), "short=long text")
    source = find_kind(asked).open(asked)
    assert source.columns == ("label", "short")
    assert [(source.read("label", row), source.read("short", row)) for row in range(2)] == [
        ("3", "a long text"),
        ("1", "another one"),
    ]
    assert [(fault.row, fault.reason.partition(" in the file")[0]) for fault in source.faults] == [
        (4, "column 'label' is empty"),
        (5, "column 'short' is not valid text"),
    ]
    assert str(source.faults[0]) == f"{table}:4: column 'label' is empty"
    assert (source.num_images, source.image_id(1), source.image_path(1)) == (0, 1, "")
    with pytest.raises(KeyError):
        source.read("score", 0)


def test_numbers_come_as_they_were_written_and_a_broken_text_that_nobody_reads_breaks_no_row(table):
    asked = request(table, ("score",))
    source = find_kind(asked).open(asked)
    assert [source.read("score", row) for row in range(4)] == ["0.50", "1e3", "2", "4"]


def test_a_column_that_is_not_there_is_a_wrong_flag_that_names_those_that_are(table):
    for columns, pairs, missing in ((("labels", "score"), (), "labels"), (("score", "k"), ("k=classes",), "k")):
        asked = request(table, columns, *pairs)
        for step in (find_kind(asked).check, find_kind(asked).open):
            with pytest.raises(
                MissingColumns, match=f"has no column '{missing}'.*It has: label, long text, score"
            ) as error:
                step(asked)
            assert error.value.missing == (missing,)
            assert error.value.exit_status == 2
    flags = DataParams(dataset_type="synthetic"), ShardParams(train_num_samples=3)
    asked = SourceRequest("", "train", *flags, columns=("image", "label"))
    with pytest.raises(MissingColumns, match="synthetic has no column 'label'. It has: image, text"):
        open_source(asked)
    with pytest.raises(MissingColumns, match="synthetic has no column 'label'. It has: image, text"):
        find_kind(asked).check(asked)


def test_the_contents_of_a_table_cover_its_further_columns(table):
    before = read_csv(table, ",", {"label": "label"}).contents
    assert before.startswith("rows 3, columns ")
    assert read_csv(table, ",", {"other": "label"}).contents != before
    table.write_text(table.read_text(errors="replace").replace("3,a", "4,a"))
    assert read_csv(table, ",", {"label": "label"}).contents != before


def test_the_flag_reads_pairs_and_refuses_other_forms():
    words = ["--columns", "label=cls", "short_text=json:short caption"]
    assert RunParams.from_namespace(parse_args(words)).data.own_names == {
        "label": "cls",
        "short_text": "json:short caption",
    }
    for word in ("label", "label=", "=cls", "a b=c", "label=\x1b[2J"):
        with pytest.raises(ConfigError, match="--columns"):
            parse_args(["--columns", word])
    with pytest.raises(ConfigError, match="a name is there twice"):
        _ = DataParams(columns=["a=b", "a=c"]).own_names


def test_a_table_holds_paths_of_further_images_which_are_looked_up_as_the_first_are(tmp_path):
    first, second = Path(IMAGES_OF_EMOJI[0]), Path(IMAGES_OF_EMOJI[1])
    (tmp_path / "other").symlink_to(second.parent)
    path = tmp_path / "rows.csv"
    path.write_text(f"filepath,after\n{first},other/{second.name}\n{first},gone.jpg\n")
    fields = ImageField(np.array), ImageField(np.array, name="later", column="after")
    asked = replace(request(path, columns_of(fields)), image_columns=image_columns_of(fields))
    source = open_source(asked)
    assert (len(source), source.num_images) == (1, 1)
    assert [(fault.row, fault.path, fault.reason[:30]) for fault in source.faults] == [
        (3, str(first), "column 'after': image not foun")
    ]
    batch = RowDataset(source, fields).read_batch([(0, 0)])
    assert np.array_equal(batch.images[0], np.array(Image.open(first)))
    assert np.array_equal(batch.values["later"][0], np.array(Image.open(second)))
    # The same data elsewhere is the same data.
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / second.name).write_bytes(second.read_bytes())
    path.write_text(f"filepath,after\n{first},{moved / second.name}\n")
    assert open_source(asked).contents == source.contents
