import re

import parity_table

ROWS = [("ViT", "ViT-B-32", {"weights": 0.0, "pixels": 0.0, "tokens": 0.0, "image": 7.24e-8, "text": 0.0})]


def test_differences_are_numbers_and_equality_is_a_word():
    heads = ("family", "model", "first weights", "pixels", "token ids", "image features", "text features")
    lines = parity_table.lay_out(ROWS, heads, "equal", "different").splitlines()
    assert lines[1] == "|" + " --- |" * 7
    assert lines[2] == "| ViT | `ViT-B-32` | equal | equal | equal | 7.2e-08 | equal |"
    ROWS[0][2]["weights"] = 3.0
    assert "| different | equal |" in parity_table.lay_out(ROWS, heads, "equal", "different")


def test_both_pages_hold_the_rows_of_the_same_measurement():
    tables = []
    for page in parity_table.PAGES:
        rows = re.findall(r"^\| .+ \| `(\S+)` \| (.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert [name for name, _ in rows] == [model for _, model in parity_table.CASES]
        tables.append([re.sub("相同", "equal", cells) for _, cells in rows])
    assert tables[0] == tables[1]
