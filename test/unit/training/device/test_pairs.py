"""Versions that Ascend published as belonging together, and what is said of a set that was found."""

from pathlib import Path

import pytest

from training.device.pairs import DRIVERS, PAIRS, compatible_cann, judge_versions

DOCS = Path(__file__).resolve().parents[4] / "docs"

SOUND = {"torch_npu": "2.9.0", "torch": "2.9.0+cpu", "cann": "8.5.0", "driver": "25.5.0", "python": "3.11.9"}


def judge(**changes):
    return judge_versions(**{**SOUND, **changes})


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.torch_npu)
def test_every_pair_of_the_table_is_a_published_one(pair):
    cann = pair.cann.replace("X", "1")
    series = ".".join(cann.split(".")[:2])
    for minor in pair.python:
        for driver in DRIVERS[series]:
            judged = judge_versions(
                torch_npu=pair.torch_npu, torch=pair.torch, cann=cann, driver=f"{driver}.0", python=f"3.{minor}.1"
            )
            assert judged.verdict == "published", judged.line


def test_every_wheel_stands_once_and_its_own_cann_is_compatible():
    assert len({pair.torch_npu for pair in PAIRS}) == len(PAIRS) > 25
    for pair in PAIRS:
        assert pair.cann.rpartition(".")[0] in compatible_cann(pair)
        assert set(compatible_cann(pair)) <= set(DRIVERS)


def test_a_published_set_is_said_in_one_line_with_its_versions():
    judged = judge()
    assert judged.verdict == "published"
    assert "\n" not in judged.line
    for version in ("2.9.0", "8.5.0", "25.5.0"):
        assert version in judged.line


@pytest.mark.parametrize(
    "changes",
    [
        {"torch_npu": "2.9.0+git5e2a901"},
        {"torch": "2.9.0"},
        {"torch": None},
        {"driver": "25.5.1"},
        {"driver": "25.3.rc1"},
        {"python": None},
        # Releases of candidates are written in either case.
        {"torch_npu": "2.7.1", "torch": "2.7.1", "cann": "8.3.rc1", "driver": "25.3.rc1"},
    ],
    ids=str,
)
def test_ways_of_writing_a_version_do_not_matter(changes):
    assert judge(**changes).verdict == "published"


def test_a_cann_that_is_listed_as_compatible_is_not_called_a_pair():
    judged = judge(cann="9.1.0")
    assert judged.verdict == "compatible"
    assert "9.1.0" in judged.line
    assert "8.5.0" in judged.line


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"cann": "8.1.RC1"}, ["8.1.RC1", "install CANN 8.5.0", "torch_npu 2.6.0 "]),
        ({"torch_npu": "2.6.0", "torch": "2.6.0", "cann": "9.2.0"}, ["CANN 8.2.RC1", "torch_npu 2.7.1.post11 "]),
        ({"torch": "2.8.0+cpu"}, ["compiled against torch 2.9.0", "torch 2.8.0+cpu is installed", "CPU build"]),
        # On the package index, in none of the tables.
        ({"torch_npu": "2.9.1", "torch": "2.9.1"}, ["do not name torch_npu 2.9.1", "torch_npu 2.9.0 ", "8.5.0"]),
        ({"torch_npu": "2.10.0.post2", "torch": "2.10.0", "cann": "9.0.1"}, ["torch_npu 2.10.0 ", "CANN 9.0.0"]),
        ({"torch_npu": "2.16.0", "torch": "2.16.0", "cann": "10.0.0"}, ["do not name", "torch_npu 2.14.0 "]),
        ({"python": "3.14.1"}, ["Python 3.10 to 3.12", "3.14.1"]),
        ({"python": "3.9.2"}, ["Python 3.10 to 3.12", "3.9.2"]),
        ({"driver": "24.1.rc3"}, ["driver 24.1.rc3 is not among", "25.0, 25.2, 25.3"]),
        ({"cann": "8.5.0.alpha001"}, ["CANN 8.5.0.alpha001 is in none", "install CANN 8.5.0"]),
        ({"torch_npu": "2.10.0", "torch": "2.10.0", "cann": "9.0.0-beta.2"}, ["9.0.0-beta.2 is in none"]),
    ],
    ids=str,
)
def test_an_unpublished_set_says_what_to_install(changes, told):
    judged = judge(**changes)
    assert judged.verdict == "unpublished"
    assert "\n" not in judged.line
    for words in [*told, "docs/ascend.md"]:
        assert words in judged.line


def test_a_cann_newer_than_the_tables_is_not_answered_with_the_same_wheel():
    line = judge(torch_npu="2.14.0", torch="2.14.0", cann="10.0.0").line
    assert "install CANN 9.2.0" in line
    assert ", or " not in line


@pytest.mark.parametrize("driver", [None, "", "unknown"])
def test_an_unknown_driver_is_said_and_lowers_no_verdict(driver):
    judged = judge(driver=driver)
    assert judged.verdict == "published"
    assert "driver's version was not found" in judged.line


def test_a_driver_newer_than_the_list_is_said_and_lowers_no_verdict():
    judged = judge(torch_npu="2.7.1", torch="2.7.1", cann="8.3.RC1", driver="25.5.0")
    assert judged.verdict == "published"
    assert "driver 25.5.0 is newer" in judged.line


@pytest.mark.parametrize("changes", [{"torch_npu": None}, {"torch_npu": "built here"}, {"cann": None}, {"cann": ""}])
def test_what_was_not_found_is_unknown(changes):
    assert judge(**changes).verdict == "unknown"


def test_what_can_be_repaired_is_said_although_the_cann_is_unknown():
    judged = judge(torch="2.8.0", cann=None)
    assert judged.verdict == "unpublished"
    assert "torch 2.9.0" in judged.line


def rows_of(page, titles):
    """Give the rows of the table of a page that has these titles."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = lines.index(f"| {' | '.join(titles)} |") + 2
    end = next(number for number in range(start, len(lines)) if not lines[number].startswith("|"))
    return [line.strip("| ").split(" | ") for line in lines[start:end]]


@pytest.mark.parametrize("name, until, drivers", [("ascend.md", "to", "drivers"), ("ascend.zh.md", "至", "驱动")])
def test_the_pages_show_the_tables_of_the_code(name, until, drivers):
    page = DOCS / name
    assert rows_of(page, ["torch_npu", "torch", "CANN", "TorchNPU", "Python"]) == [
        [pair.torch_npu, pair.torch, pair.cann, pair.release, f"3.{pair.python[0]} {until} 3.{pair.python[1]}"]
        for pair in PAIRS
    ]
    compatible = {pair.release.rpartition(".")[0]: ", ".join(compatible_cann(pair)) for pair in PAIRS}
    assert rows_of(page, ["TorchNPU", "CANN"]) == [list(row) for row in compatible.items()]
    assert rows_of(page, ["CANN", drivers]) == [[cann, ", ".join(series)] for cann, series in DRIVERS.items()]
