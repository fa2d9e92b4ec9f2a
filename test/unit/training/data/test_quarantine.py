import json

import pytest

from open_clip.errors import DataError, printable
from training.data import Fault, Quarantine


def fault(row, reason="torn"):
    return Fault("train.csv", row, f"/images/{row}.jpg", reason)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_bad_row_is_listed_once(tmp_path):
    path = tmp_path / "run" / "bad_samples.jsonl"
    quarantine = Quarantine(path, num_samples=1000)
    assert quarantine.record([fault(3), fault(4)]) == 2
    assert quarantine.record([fault(4), fault(3)]) == 0
    assert quarantine.count == 2
    assert lines(path) == [
        {"source": "train.csv", "row": 3, "path": "/images/3.jpg", "reason": "torn"},
        {"source": "train.csv", "row": 4, "path": "/images/4.jpg", "reason": "torn"},
    ]


def test_a_row_that_several_processes_meet_is_listed_once(tmp_path):
    path = tmp_path / "bad.jsonl"
    others = [Quarantine(path, num_samples=1000) for _ in range(3)]
    for rows in ((3, 4), (4, 5), (5, 3, 6)):
        for one in others:
            one.record([fault(row) for row in rows])
    assert [line["row"] for line in lines(path)] == [3, 4, 5, 6]
    # Each counts what it met itself.
    assert [one.count for one in others] == [4, 4, 4]


def test_over_budget_names_counts_examples_and_the_flag(tmp_path):
    quarantine = Quarantine(tmp_path / "bad.jsonl", num_samples=400)
    quarantine.record([fault(row) for row in range(4)])
    with pytest.raises(DataError) as caught:
        quarantine.record([fault(9)])
    text = str(caught.value)
    assert "5 of 400 rows are bad, more than the 1.00% allowed" in text
    assert "train.csv:0 /images/0.jpg: torn" in text
    assert "and 2 more" in text
    assert "--bad-sample-budget" in text
    assert len(text.splitlines()) <= 6
    assert len(lines(tmp_path / "bad.jsonl")) == 5


def test_a_budget_of_all_allows_all():
    quarantine = Quarantine(None, num_samples=3, budget=1.0)
    assert quarantine.record([fault(1), fault(2), fault(3)]) == 3


def test_a_resumed_run_lists_no_row_twice_and_survives_a_torn_line(tmp_path):
    path = tmp_path / "bad.jsonl"
    Quarantine(path, 1000).record([fault(1)])
    with open(path, "a") as file:
        file.write('{"source": "train.c')
    resumed = Quarantine(path, 1000)
    assert resumed.count == 0
    resumed.record([fault(1), fault(2)])
    assert resumed.count == 2
    assert path.read_text().count('"row": 1,') == 1
    assert json.loads(path.read_text().splitlines()[-1])["row"] == 2


def test_a_list_that_cannot_be_written_is_a_warning_not_the_end(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    quarantine = Quarantine(tmp_path / "file" / "bad.jsonl", 1000)
    assert quarantine.record([fault(1)]) == 1
    assert "Cannot list 1 bad rows" in caplog.text


def test_printable_leaves_text_alone_and_takes_the_sting_out_of_the_rest():
    assert printable("caf\u00e9 \u732b.jpg") == "caf\u00e9 \u732b.jpg"
    assert printable("a\nb\x1b[31m\udcff") == "a\\nb\\x1b[31m\\udcff"


def test_what_is_met_is_counted_anew_where_asked_and_judged_with_what_was_refused_before():
    quarantine = Quarantine(None, num_samples=100, budget=0.04)
    quarantine.record([fault(1), fault(2)])
    quarantine.start_counting()
    quarantine.record([fault(3), fault(3)], enforce=False)
    assert quarantine.num_met == 1
    quarantine.start_counting()
    # A row that was met in an earlier epoch is met again, by whichever process now visits it.
    assert quarantine.record([fault(3)], enforce=False) == 0
    assert quarantine.num_met == 1
    quarantine.check(2)
    with pytest.raises(DataError, match=r"5 of 100 rows are bad, more than the 4.00% allowed"):
        quarantine.check(3)


def test_without_enforcing_a_process_alone_raises_nothing():
    quarantine = Quarantine(None, num_samples=10, budget=0.1)
    assert quarantine.record([fault(row) for row in range(5)], enforce=False) == 5
    with pytest.raises(DataError, match="6 of 10"):
        quarantine.record([fault(6)])
