import json

import pytest

from benchmarks.equality import Verdict
from benchmarks.results import RowResult, read_results, write_results


def a_round(peer, ours, units=2):
    return {
        side: {"wall_s": 2 * seconds, "cpu_s": seconds, "units": units}
        for side, seconds in (("peer", peer), ("ours", ours))
    }


def measured(name="step-short", ratio=2.0):
    result = RowResult(name, unit="steps", status="measured")
    result.add_rounds([a_round(ratio, 1.0), a_round(2 * ratio, 1.0), a_round(ratio, 2.0)])
    return result


def test_the_figure_is_the_median_of_each_rounds_own_ratio():
    result = measured()
    assert result.ratios["cpu_s"] == {"median": 2.0, "low": 1.0, "high": 4.0}
    assert result.a_unit["peer"] == {"wall_s": 2.0, "cpu_s": 1.0}
    assert "device_s" not in result.ratios


def test_what_is_shown_of_both_sides_divides_to_the_ratio():
    result = RowResult("step-short", unit="steps", status="measured")
    result.add_rounds([a_round(23.5, 13.0), a_round(26.5, 11.1), a_round(19.9, 10.9), a_round(30.0, 10.0)])
    ours, peer = (result.a_unit[side]["cpu_s"] for side in ("ours", "peer"))
    assert peer / ours == result.ratios["cpu_s"]["median"]
    assert (peer, ours) == (19.9 / 2, 10.9 / 2)


def test_sides_that_did_different_amounts_are_compared_by_the_unit():
    result = RowResult("loader-500", status="measured")
    one = a_round(4.0, 1.0)
    one["peer"]["units"] = 8
    result.add_rounds([one])
    assert result.ratios["cpu_s"]["median"] == 1.0


@pytest.mark.parametrize("ratio, reached", [(1.71, True), (1.69, False)])
def test_a_figure_to_reach_is_reached_or_not(ratio, reached):
    assert measured(ratio=ratio).reached() is reached


def test_memory_counts_beyond_what_was_there_before():
    result = measured("loss", ratio=1.5)
    result.memory = {"peer": {"before_bytes": 100, "peak_bytes": 700}, "ours": {"before_bytes": 90, "peak_bytes": 190}}
    assert result.used_bytes("peer") == 600
    assert result.reached() is True
    result.memory["ours"]["peak_bytes"] = 191
    assert result.reached() is False


def test_a_row_whose_sides_differ_reaches_nothing():
    result = measured()
    holds = result.judge([Verdict("features", "absolute", 5e-7, 1e-3, "image", 10, False)])
    result.status = "unequal"
    assert holds is False
    assert result.reached() is None


def test_results_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "figures.json"
    write_results(path, {"seed": 3, "commit": "abc"}, [measured(), RowResult("loss", reason="no time was left")])
    run, rows = read_results(path)
    assert run == {"seed": 3, "commit": "abc"}
    assert rows[0].ratios == measured().ratios
    assert rows[1].status == "not measured"


def test_another_schema_is_refused(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text(json.dumps({"schema": 0, "run": {}, "rows": []}))
    with pytest.raises(ValueError, match="measure again"):
        read_results(path)
