import datetime

import pytest

from training.doctor.findings import Finding
from training.doctor.machine import Fact
from training.doctor.outcome import Outcome, Page
from training.doctor.parts import Conditions, Part

markdown_it = pytest.importorskip("markdown_it", reason="reads the page as an issue tracker would; extra `dev`")
HOSTILE = "RuntimeError: a|b `c` @torvalds #12 <img src=x> ```\n# heading"


def part(title):
    return Part(title.lower(), title, 10, "bench:none")


@pytest.fixture
def page():
    now = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)
    page = Page("npu, Ascend910B3", Conditions("npu", "ViT-B-32", 128, 60.0), now, [Fact("torch", "2.9.0 | x")])
    page.variables, page.tools = {"ASCEND_HOME_PATH": "/usr/local/Ascend/cann"}, {"npu-smi info": "a ``` b\n| c |"}
    page.outcomes = [
        Outcome(part("Calls"), [Finding("count", {"answer": "8"}), Finding("info", state="failed", why=HOSTILE)]),
        Outcome(part("Speed"), [Finding("amp", {"p50 ms": "1.50"}), Finding("fp32", {"p95 ms": "2.50"})], [HOSTILE]),
        Outcome(part("Attention"), failure="its process ended by SIGSEGV"),
        Outcome(part("Exchange"), [Finding("two cards", state="not tried", why="one card is visible")]),
        Outcome(part("Fine-tuning"), skipped="no time was left for it"),
    ]
    return page


def tables(text):
    """Give every table of a page as lists of cells' texts, as a Markdown reader sees it."""
    found, rows = [], None
    for token in markdown_it.MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            rows = []
            found[-1].append(rows)
        elif token.type == "inline" and rows is not None:
            rows.append("".join(child.content for child in token.children))
        elif token.type == "tr_close":
            rows = None
    return found


def test_the_page_has_every_part_with_its_result(page):
    summary, environment, *sections = tables(page.write())
    assert [row[:3] for row in summary[1:]] == [
        ["Calls", "see below", "1 ok, 1 failed"],
        ["Speed", "ok", "2 ok"],
        ["Attention", "see below", "stopped: its process ended by SIGSEGV"],
        ["Exchange", "ok", "1 not tried"],
        ["Fine-tuning", "not tried", "not tried: no time was left for it"],
    ]
    assert environment[1:] == [["torch", "2.9.0 | x"]]
    variables, calls, speed, exchange = sections
    assert variables[1] == ["ASCEND_HOME_PATH", "/usr/local/Ascend/cann"]
    assert calls[0] == ["What", "answer", "Result"]
    assert speed == [["What", "p50 ms", "p95 ms", "Result"], ["amp", "1.50", "", "ok"], ["fp32", "", "2.50", "ok"]]
    assert exchange[1] == ["two cards", "not tried: one card is visible"]


def test_foreign_text_breaks_out_of_nothing(page):
    text = page.write()
    reader = markdown_it.MarkdownIt("commonmark").enable("table")
    headings = [token for token in reader.parse(text) if token.type == "heading_open"]
    assert len(headings) == 1 + 1 + 4 + 1
    calls = tables(text)[3]
    assert calls[2] == ["info", "", "failed: RuntimeError: a|b 'c' @torvalds #12 <img src=x> ''' # heading"]
    rendered = reader.render(text)
    assert "<img" not in rendered
    # Outside of code a name would call its bearer and a number link to an issue.
    assert "@torvalds" in rendered
    inline = [child for token in reader.parse(text) for child in token.children or () if "@torvalds" in child.content]
    assert {child.type for child in inline} == {"code_inline"}


def test_what_was_not_tried_is_listed_with_its_reason(page):
    listed = page.write().partition("## What was not tried")[2]
    assert "`two cards: one card is visible`" in listed
    assert "`Fine-tuning: no time was left for it`" in listed
    assert "`Attention, what was still to come: its process ended by SIGSEGV`" in listed
    assert "apex" in listed


def test_a_page_that_was_stopped_says_so(page):
    assert "not whole" in page.write()
    page.is_whole = True
    assert "not whole" not in page.write()
