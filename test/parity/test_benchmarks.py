import json
import os
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from peer import needs_peer

pytestmark = [*needs_peer, pytest.mark.slow]


@pytest.mark.parametrize(
    "words, count",
    [
        (["step-web", "tokenizer-*", "import", "--checked-steps", "6"], 4),
        (["--device", "cpu", "device-step-b32", "device-tars-b16"], 2),
    ],
)
def test_rows_hold_against_the_peer_itself(words, count, tmp_path, capsys):
    path = tmp_path / "figures.json"
    assert main([*words, "--tiny", "--rounds", "1", "--threads", "1", "--json", str(path)]) == 0, capsys.readouterr()
    rows = json.loads(path.read_text())["rows"]
    assert [row["status"] for row in rows] == ["measured"] * count
    assert all(verdict["holds"] for row in rows for verdict in row["equality"])
    assert str(Path(os.environ["OPENCLIP_PEER_PATH"])) not in path.read_text()
