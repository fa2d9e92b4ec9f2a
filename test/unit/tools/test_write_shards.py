import importlib.util
import json
from pathlib import Path

import numpy as np

from pairs import make_pairs
from shard_sets import image
from training.data import SourceRequest, open_source, read_csv_pairs
from training.data.shards import Selector, Visit, open_shards
from training.params.data import DataParams, ShardParams

TOOL = Path(__file__).resolve().parents[3] / "tools" / "write_shards.py"


def load_tool():
    spec = importlib.util.spec_from_file_location("write_shards", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


write_shards = load_tool()

COLUMNS = ["--csv-separator", ",", "--csv-img-key", "img_key", "--csv-caption-key", "caption_key"]


def test_shards_hold_the_pairs_byte_for_byte_in_their_order(tmp_path, capsys):
    table_path = make_pairs(tmp_path, num_images=7, captions_each=2)
    flags = ["--data", str(table_path), "--out", str(tmp_path / "s"), "--samples-per-shard", "5", *COLUMNS]
    assert write_shards.main(flags) == 0
    assert json.loads((tmp_path / "s" / "sizes.json").read_text()) == {"00000.tar": 5, "00001.tar": 5, "00002.tar": 4}
    assert "14 samples, 3 shards" in capsys.readouterr().out
    shards = open_shards("s", sorted(map(str, (tmp_path / "s").glob("*.tar"))), Selector(), Visit())
    pairs = read_csv_pairs(str(table_path), ",", "img_key", "caption_key")
    assert [shards.read("text", row) for row in range(14)] == [pairs.read("text", row) for row in range(14)]
    assert all(
        shards.read("image", row).open(10**6).tobytes() == pairs.read("image", row).open(10**6).tobytes()
        for row in range(14)
    )


def test_rows_that_cannot_be_used_are_named_and_left_out(tmp_path, capsys):
    (tmp_path / "torn.jpg").write_bytes(image(form="JPEG", size=(90, 90))[:200])
    (tmp_path / "good.png").write_bytes(image())
    (tmp_path / "t.tsv").write_text(f"filepath\ttitle\n{tmp_path}/torn.jpg\ta\n{tmp_path}/good.png\tb\n")
    assert write_shards.main(["--data", str(tmp_path / "t.tsv"), "--out", str(tmp_path / "s")]) == 0
    shown = capsys.readouterr().out
    assert "torn.jpg" in shown
    assert "1 samples, 1 shards" in shown


def test_a_folder_with_shards_of_something_else_is_refused(tmp_path, capsys):
    table_path, out = make_pairs(tmp_path, num_images=2), tmp_path / "s"
    flags = ["--data", str(table_path), "--out", str(out), *COLUMNS]
    assert write_shards.main(flags) == 0
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert write_shards.main(flags) == 0
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert write_shards.main([*flags, "--samples-per-shard", "3"]) == 3
    assert "holds shards of other rows or settings (per_shard changed)" in capsys.readouterr().err
    (out / "manifest.json").unlink()
    assert write_shards.main(flags) == 3
    assert "holds shards already" in capsys.readouterr().err


def test_counts_go_through_no_planted_link_and_a_file_in_the_way_is_named(tmp_path, capsys):
    table_path = make_pairs(tmp_path, num_images=2, captions_each=1)
    victim, out = tmp_path / "victim", tmp_path / "s"
    victim.write_text("mine")
    out.mkdir()
    (out / "sizes.json").symlink_to(victim)
    assert write_shards.main(["--data", str(table_path), "--out", str(out), *COLUMNS]) == 0
    assert victim.read_text() == "mine"
    assert json.loads((out / "sizes.json").read_text()) == {"00000.tar": 2}
    assert write_shards.main(["--data", str(table_path), "--out", str(victim), *COLUMNS]) == 3
    assert "victim: File exists" in capsys.readouterr().err


def test_further_columns_go_into_the_json_and_come_back_under_their_names(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(image())
    rows = [("filepath", "title", "label", "short text"), ("a.png", "one", "3", "x"), ("a.png", "two", "4", "y")]
    (tmp_path / "t.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    flags = ["--data", str(tmp_path / "t.tsv"), "--out", str(tmp_path / "s"), "--keep", "label", "short text"]
    assert write_shards.main(flags) == 0
    data = DataParams(columns=["short=json:short text"])
    request = SourceRequest(f"{tmp_path}/s/00000.tar", "train", data, ShardParams(), columns=("label", "short"))
    source = open_source(request)
    assert [(source.read("label", row), source.read("short", row)) for row in range(2)] == [("3", "x"), ("4", "y")]
    np.save(tmp_path / "a.npy", np.arange(3))
    (tmp_path / "a.txt").write_text("a caption")
    folder = ["--data", str(tmp_path), "--out", str(tmp_path / "none"), "--keep", "npy"]
    assert write_shards.main(folder) == 3
    assert "a .json cannot hold npy" in capsys.readouterr().err
    assert write_shards.main([*flags[:-1], "long text", "--out", str(tmp_path / "other")]) == 2
    assert "has no column 'long text'" in capsys.readouterr().err
