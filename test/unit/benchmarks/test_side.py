import io
import json

from benchmarks.settings import Settings
from benchmarks.side import serve


def talk(*asked):
    lines = io.StringIO("".join(json.dumps(one) + "\n" for one in asked))
    said = io.StringIO()
    serve(lines, said)
    return [json.loads(line) for line in said.getvalue().splitlines()]


def test_a_side_answers_each_line_in_turn(tmp_path):
    settings = Settings(str(tmp_path), threads=1, sizes={"rows": 8, "width": 4}).as_dict()
    prepared, checked, timed, memory = talk(
        {"do": "prepare", "row": "loss", "side": "ours", "settings": settings},
        {"do": "check", "path": str(tmp_path / "answers.pt")},
        {"do": "round", "number": 0},
        {"do": "memory"},
    )
    assert prepared["facts"] == {"rows": 8, "width": 4}
    assert checked == {}
    assert (tmp_path / "answers.pt").stat().st_size
    assert timed["units"] == 1
    assert timed["wall_s"] > 0
    assert memory["peak_bytes"] >= memory["before_bytes"] > 0


def test_a_side_tells_what_went_wrong_and_goes_on():
    first, second = talk({"do": "round", "number": 0}, {"do": "versions"})
    assert "Error" in first["error"]
    assert second["versions"]["open_clip"]
