import re

import parity_table

EQUAL = {"weights": 0.0, "pixels": 0.0, "tokens": 0.0, "image": 7.24e-8, "text": 0.0, "gradients": 2.0e-7}
WORDS = ("equal", "different", "shapes equal")


def _row(found):
    return parity_table.lay_out([("ViT", "ViT-B-32", found)], tuple("abcdefgh"), WORDS).splitlines()


def test_differences_are_numbers_and_equality_is_a_word():
    lines = _row(EQUAL)
    assert lines[1] == "|" + " --- |" * 8
    assert lines[2] == "| ViT | `ViT-B-32` | equal | equal | equal | 7.2e-08 | equal | 2.0e-07 |"
    assert "| different | equal |" in _row(EQUAL | {"weights": 3.0})[2]


def test_what_was_not_compared_is_a_dash():
    assert _row({"shapes": 0.0})[2] == "| ViT | `ViT-B-32` | shapes equal | - | - | - | - | - |"
    assert "| different | - |" in _row({"shapes": 1.0})[2]


def test_both_pages_hold_the_rows_of_the_same_measurement():
    tables = []
    for page in parity_table.PAGES:
        rows = re.findall(r"^\| .+ \| `(\S+)` \| (.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert [name for name, _ in rows] == [model for _, model, _ in parity_table.CASES]
        tables.append([re.sub("相同", "equal", re.sub("形状", "shapes ", cells)) for _, cells in rows])
    assert tables[0] == tables[1]
