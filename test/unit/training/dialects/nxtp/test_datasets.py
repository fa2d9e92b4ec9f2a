import json
from pathlib import Path

import pytest

from open_clip.errors import ConfigError, DataError
from shard_sets import write_shards
from training.data.urls import expand_urls
from training.dialects.nxtp import Datasets
from training.dialects.nxtp.datasets import check_length, list_shards, measure_length, spell_shards


def test_a_data_set_is_registered_under_a_name_of_its_own():
    datasets = Datasets(coco={"length": 3, "root": "coco/train"})
    datasets.register("mine", "mine/train")
    datasets.register("coco", "coco/train", 4)
    assert datasets.find("mine") == {"length": None, "root": "mine/train"}
    assert datasets["coco"]["length"] == 4
    with pytest.raises(ConfigError, match="coco is there already, in coco/train"):
        datasets.register("coco", "elsewhere")


def test_an_unknown_data_set_or_a_wrong_entry_is_refused():
    datasets = Datasets(coco={"length": "3", "root": "coco"}, coco_valid={"length": 3, "root": "valid"})
    with pytest.raises(ConfigError, match="'coco_vlaid'.*Did you mean coco_valid"):
        datasets.find("coco_vlaid")
    with pytest.raises(ConfigError, match=r'coco in _DATASETS_META: write \{"length"'):
        datasets.find("coco")


@pytest.mark.parametrize(
    "names",
    [
        ["00000", "00001", "00002"],
        ["00000", "00002", "00003"],
        ["a-9", "a-10", "b-11"],
        ["08", "09", "10", "100", "all"],
        ["only"],
    ],
)
def test_shards_are_spelt_so_that_the_trainer_reads_the_same_ones(names):
    shards = [Path(f"data/{name}.tar") for name in names]
    assert expand_urls(spell_shards(shards))[0] == [str(path) for path in shards]


def test_shards_of_neighbouring_numbers_are_one_range():
    assert spell_shards([Path(f"d/{number:05d}.tar") for number in range(42)]) == "d/{00000..00041}.tar"


def test_a_folder_without_shards_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(DataError, match="coco: .* holds no .tar. Pack it there"):
        list_shards("coco", tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        list_shards("coco", tmp_path / "absent")


def test_pairs_are_counted_once_and_the_count_is_kept(tmp_path):
    shards = list_shards("a", write_shards(tmp_path / "a", [3, 2]))
    assert measure_length(shards, tmp_path / "cache") == 5
    assert list((tmp_path / "cache").iterdir())
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["00000.tar", "00001.tar"]


def test_a_length_that_lies_beside_the_shards_is_believed(tmp_path):
    shards = list_shards("a", write_shards(tmp_path / "a", [3, 2]))
    (tmp_path / "a" / "__len__").write_text("70")
    assert measure_length(shards, tmp_path) == 70
    (tmp_path / "a" / "sizes.json").write_text(json.dumps({"00000.tar": 30, "00001.tar": 20, "gone.tar": 1}))
    assert measure_length(shards, tmp_path) == 50
    (tmp_path / "a" / "sizes.json").write_text(json.dumps({"00000.tar": 30}))
    (tmp_path / "a" / "__len__").write_text("many")
    assert measure_length(shards, tmp_path / "cache") == 5


def test_a_wrong_length_is_warned_of_with_both_numbers(caplog):
    check_length("coco", 118_287, 118_287)
    check_length("coco", None, 5)
    assert not caplog.records
    check_length("coco", 118_287, 5_000)
    assert "coco" in caplog.text
    assert "118,287" in caplog.text
    assert "5,000" in caplog.text
