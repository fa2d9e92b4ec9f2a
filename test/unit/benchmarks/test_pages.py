import re
import shutil
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import pages
from benchmarks.pages import DOCS, FIGURES, TABLES, lay_out, renew
from benchmarks.plot import CHINESE, ENGLISH, Bar, draw
from benchmarks.results import RowResult, write_results

RUN = {
    "machine": {"processor": "a", "cores": 2, "threads": 2, "memory_gb": 8, "system": "Linux", "load": 0.1},
    "versions": {"peer": {"torch": "2.14.0", "open_clip": "3.3.0"}, "ours": {"torch": "2.14.0", "open_clip": "3.3.0+"}},
    **{"commit": "abc", "seed": 0, "captions": "made up", "images": "made up"},
}


def measured(name, peer=2.0, ours=1.0):
    result = RowResult(name, "steps", "measured", facts={"token lengths": {"mean": 14.5, "p95": 22, "max": 34}})
    sides = {"peer": peer, "ours": ours}
    result.add_rounds([{side: {"wall_s": s, "cpu_s": s, "units": 1} for side, s in sides.items()}])
    return result


@pytest.fixture
def docs(tmp_path):
    for name in ("performance.md", "performance.zh.md"):
        shutil.copy(DOCS / name, tmp_path)
    loss = measured("loss", 1.0, 1.0)
    loss.memory = {side: {"before_bytes": 0, "peak_bytes": peak} for side, peak in (("peer", 900e6), ("ours", 100e6))}
    failed = RowResult("text-web", status="unequal", reason="the two sides gave different answers")
    write_results(tmp_path / FIGURES, RUN, [measured("step-short"), loss, failed])
    return tmp_path


def test_the_pages_and_plots_are_what_the_figures_say():
    stale = [path.name for path, text in renew(DOCS).items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run: python -m benchmarks.pages"


def test_every_table_has_as_many_heads_in_both_languages_and_stands_on_both_pages():
    for name, (_, _, english, chinese) in TABLES.items():
        assert english.count("|") == chinese.count("|"), name
        for page in ("performance.md", "performance.zh.md"):
            assert (DOCS / page).read_text(encoding="utf-8").count(f"<!-- table: {name} -->") == 1


@pytest.mark.parametrize("language, yes, differs", [("en", "yes", "answers differ"), ("zh", "是", "结果不一致")])
def test_a_row_says_its_ratio_and_whether_the_figure_was_reached(docs, language, yes, differs):
    lines = lay_out("times", language, docs).splitlines()
    step = next(line for line in lines if "`step-short`" in line)
    assert "| 2 s | 1 s | 2.00 (2.00–2.00) | 2.00 (2.00–2.00) | 1.7 |" in step
    assert step.endswith(f"| {yes} |")
    assert next(line for line in lines if "`text-web`" in line).endswith(f"| {differs} |")


def test_memory_is_judged_by_itself(docs):
    (loss,) = [line for line in lay_out("memory", "en", docs).splitlines() if "`loss`" in line]
    assert loss.endswith("| 900 | 100 | 9.0 | 1/6 | yes |")


def test_without_an_accelerator_the_table_says_so(docs):
    assert "not measured yet" in lay_out("device", "en", docs)


def test_pages_are_written_once_and_then_up_to_date(docs, monkeypatch, capsys):
    monkeypatch.setattr(pages, "DOCS", docs)
    assert pages.main(["--check"]) == 1
    assert "performance.md" in capsys.readouterr().err
    assert pages.main([]) == 0
    assert pages.main(["--check"]) == 0
    assert "14.5 | 22 | 34" in (docs / "performance.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [ENGLISH, CHINESE])
def test_the_plot_keeps_all_it_draws_inside(words):
    bars = [Bar("slow & steady", 0.4, 0.3, 0.5, 1.5), Bar("fast", 40.0, 30.0, 70.0), Bar("m", 7, 7, 7, 6, True)]
    tree = ElementTree.fromstring(draw(bars, words))
    width, height = (float(tree.get(name)) for name in ("width", "height"))
    for text in tree.iter("{http://www.w3.org/2000/svg}text"):
        assert 0 <= float(text.get("x")) <= width
        assert 0 < float(text.get("y")) < height
    for path in tree.iter("{http://www.w3.org/2000/svg}path"):
        assert all(0 <= float(x) <= width for x in re.findall(r"[MH](\d+\.\d+)", path.get("d")))
    shown = [text.text for text in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"0.40×", "40.0×", "7.00×", words.memory} <= set(shown)
