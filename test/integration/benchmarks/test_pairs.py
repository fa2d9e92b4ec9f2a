"""The whole command over pairs of processes, with a library of a few lines in the peer's place."""

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.pair import ROOT, SideError, start_sides
from benchmarks.results import read_results

pytestmark = pytest.mark.slow
METRICS = """
import torch

def get_clip_metrics(image_features, text_features, logit_scale):
    scores = logit_scale * image_features @ text_features.T
    metrics = {{}}
    for name, rows in (("image_to_text", scores), ("text_to_image", scores.T)):
        ranks = (rows > rows.diagonal()[:, None]).sum(1).double()
        metrics[name + "_mean_rank"] = ranks.mean() + 1
        metrics[name + "_median_rank"] = ranks.quantile(0.5).floor() + 1
        for k in (1, 5, 10):
            metrics[name + "_R@" + str(k)] = (ranks < k).double().mean()
    metrics["image_to_text_R@5"] += {error}
    return metrics
"""


def stand_in(folder, version="3.3.0", error=0.0):
    (folder / "open_clip").mkdir(parents=True)
    (folder / "open_clip" / "__init__.py").write_text(f"__version__ = {version!r}\n")
    (folder / "open_clip_train").mkdir()
    (folder / "open_clip_train" / "__init__.py").write_text("")
    (folder / "open_clip_train" / "train.py").write_text(METRICS.format(error=error))
    return folder


def test_a_row_is_measured_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENCLIP_PEER_PATH", str(stand_in(tmp_path / "peer")))
    path = tmp_path / "figures.json"
    words = ["retrieval-5k", "--tiny", "--rounds", "2", "--threads", "1", "--json", str(path)]
    assert main([*words, "--profile", str(tmp_path / "traces")]) == 0
    run, (row,) = read_results(path)
    assert run["versions"]["peer"]["open_clip"] == "3.3.0"
    assert run["versions"]["peer"]["torch"] == run["versions"]["ours"]["torch"]
    assert str(ROOT) not in path.read_text()
    assert row.status == "measured"
    assert list(row.rounds[0]) == ["peer", "ours"]
    assert list(row.rounds[1]) == ["ours", "peer"]
    assert row.memory["ours"]["peak_bytes"] > 0
    assert "peer / ours" in capsys.readouterr().out
    traces = sorted(file.name for file in (tmp_path / "traces").iterdir())
    assert traces == ["retrieval-5k-ours.json", "retrieval-5k-peer.json"]
    assert json.loads((tmp_path / "traces" / traces[0]).read_text())["traceEvents"]


def test_a_row_whose_sides_differ_ends_the_command_with_a_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENCLIP_PEER_PATH", str(stand_in(tmp_path / "peer", error=1e-3)))
    path = tmp_path / "figures.json"
    assert main(["retrieval-5k", "--tiny", "--threads", "1", "--json", str(path)]) == 1
    said = capsys.readouterr().out
    assert "UNEQUAL metrics" in said
    assert "image_to_text_R@5" in said
    assert "peer / ours" not in said
    _, (row,) = read_results(path)
    assert row.status == "unequal"
    assert row.ratios == {}
    assert row.equality[0]["largest"] > 1e-4


def test_another_version_of_the_peer_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENCLIP_PEER_PATH", str(stand_in(tmp_path / "peer", version="2.0.0")))
    assert main(["retrieval-5k", "--tiny", "--threads", "1"]) == 1
    assert "not open_clip_torch 3.3.0" in capsys.readouterr().err


def test_without_the_peer_the_command_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.delenv("OPENCLIP_PEER_PATH", raising=False)
    assert main(["retrieval-5k"]) == 2
    assert "make bench" in capsys.readouterr().err


def test_a_side_that_dies_is_told_with_its_last_words():
    with start_sides({"ours": ROOT / "src"}, threads=1) as sides:
        sides["ours"].send("versions")
        sides["ours"].receive()
        sides["ours"]._process.kill()
        with pytest.raises(SideError, match="ours: the process ended"):
            sides["ours"].ask("versions")
