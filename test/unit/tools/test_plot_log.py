import math
from xml.etree import ElementTree

import pytest

from plot_log import main

SVG = "{http://www.w3.org/2000/svg}"


def write_log(path, count):
    lines = [
        f"[00:00:00.000] epoch: 01  step: {step:08d}  lr: {1e-5 * step / count:.7f}  loss: {1 + math.exp(-step):.7f}  "
        "loss_objs: 1.0 data time: 0.00025s  batch time: 0.90s  warmup step: 00100\n"
        for step in range(1, count + 1)
    ]
    path.write_text("".join(lines))
    return str(path)


def texts(path):
    return [one.text for one in ElementTree.parse(path).iter(f"{SVG}text")]


def test_both_curves_of_a_log_are_drawn(tmp_path, capsys):
    loss, lr = tmp_path / "loss.svg", tmp_path / "lr.svg"
    assert main([write_log(tmp_path / "log.training", 400), "--out", str(loss), str(lr)]) == 0
    assert "400 points" in capsys.readouterr().out
    assert {"Training loss", "step", "400"} <= set(texts(loss))
    assert {"Learning rate", "step", "1.0e-5"} <= set(texts(lr))
    styles = [[one.get("class") for one in ElementTree.parse(path).iter(f"{SVG}path")] for path in (loss, lr)]
    # The loss is smoothed, the learning rate is not.
    assert [[style for style in one if style != "grid"] for one in styles] == [["line faint", "line"], ["line"]]


def test_a_single_point_is_drawn_inside_the_chart(tmp_path):
    loss, lr = tmp_path / "loss.svg", tmp_path / "lr.svg"
    assert main([write_log(tmp_path / "log.training", 1), "--out", str(loss), str(lr)]) == 0
    line = [one.get("d") for one in ElementTree.parse(loss).iter(f"{SVG}path") if one.get("class") == "line"]
    assert len(line) == 1
    assert line[0].endswith("h0")


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_log_without_a_step_ends_with_the_status_of_data(tmp_path, capsys, name):
    (tmp_path / "empty").write_text("")
    assert main([str(tmp_path / name), "--out", str(tmp_path / "a.svg"), str(tmp_path / "b.svg")]) == 3
    assert "[Error]" in capsys.readouterr().err
    assert not (tmp_path / "a.svg").exists()
