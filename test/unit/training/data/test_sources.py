"""Kinds of data are found by the word of --dataset-type, by a path, or in a file of the user's."""

import sys

import pytest

from contributing import EXAMPLES
from open_clip.errors import ConfigError
from training.data import SourceRequest, find_kind, open_source
from training.data.csv import CsvKind
from training.data.folder import FolderKind
from training.data.shards.kind import ShardKind
from training.data.source import MissingColumns
from training.data.synthetic import SyntheticKind
from training.params import parse_args
from training.params.data import DataParams, ShardParams


def request(path, word="auto", role="train", **shards):
    return SourceRequest(str(path), role, DataParams(dataset_type=word), ShardParams(**shards))


@pytest.fixture
def own_file(tmp_path):
    """The example under a name of its own: modules stay loaded, and another test may use the same file."""
    path = tmp_path / f"rows_of_{tmp_path.name}.py"
    path.write_text(EXAMPLES["json_lines.py"])
    yield path
    sys.modules.pop(path.stem, None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def test_auto_goes_by_the_path(tmp_path):
    for path, kind in (
        (tmp_path, FolderKind),
        ("a.csv", CsvKind),
        (tmp_path / "gone", CsvKind),
        ("{0..3}.tar", ShardKind),
        ("a.tar::b.tgz", ShardKind),
        ("a.tar::b.csv", CsvKind),
    ):
        assert type(find_kind(request(path))) is kind


def test_synthetic_data_stands_for_training_data_alone(tmp_path):
    assert isinstance(find_kind(request("", "synthetic")), SyntheticKind)
    assert isinstance(find_kind(request(tmp_path, "synthetic", role="val")), FolderKind)
    assert len(find_kind(request("", "synthetic")).open(request("", "synthetic", train_num_samples=3))) == 3


def test_a_word_that_names_no_kind_is_told_the_nearest():
    with pytest.raises(ConfigError, match=r"'webdatset' is no kind of data\. Did you mean webdataset\?"):
        find_kind(request("a.csv", "webdatset"))


@pytest.mark.parametrize(
    "word, said",
    [
        ("{file}", "say which object of the file is meant"),
        ("{file}:JsonLineKind", r"has no 'JsonLineKind'\. Did you mean JsonLinesKind"),
        ("{file}:JsonLines", "derive it from SourceKind"),
        ("{folder}/gone.py:Kind", "no such file"),
        ("{folder}/csv.py:Kind", "another module is called csv already"),
        ("{folder}/broken_rows.py:Kind", "broken_rows.py cannot be run: ZeroDivisionError"),
    ],
)
def test_a_file_that_gives_no_kind_says_why(own_file, word, said):
    (own_file.parent / "broken_rows.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=said):
        find_kind(request("a", word.format(file=own_file, folder=own_file.parent)))


def test_a_source_of_a_users_file_is_asked_for_what_it_has(own_file, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"file": "a.png", "says": "a cat"}\n')
    flags = DataParams(dataset_type=f"{own_file}:JsonLinesKind"), ShardParams()
    source = open_source(SourceRequest(str(tmp_path / "rows.jsonl"), "train", *flags))
    assert source.read("text", 0) == "a cat"
    with pytest.raises(MissingColumns, match=r"rows.jsonl has no column 'label'\. It has: image, text"):
        open_source(SourceRequest(str(tmp_path / "rows.jsonl"), "train", *flags, columns=("image", "label")))


def test_a_relative_path_is_spelt_out_so_that_the_run_resumes_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_args(["--dataset-type", "own.py:Kind"]).dataset_type == f"{tmp_path}/own.py:Kind"
    assert parse_args(["--dataset-type", "csv"]).dataset_type == "csv"
