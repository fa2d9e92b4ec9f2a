"""Run open_clip_torch 3.3.0 in a process of its own, for tests that compare with it.

Never imports the peer here: its package has our package's name.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "parity" / "peer_scripts"

needs_peer = [
    pytest.mark.parity,
    pytest.mark.skipif(
        not os.environ.get("OPENCLIP_PEER_PATH"),
        reason="OPENCLIP_PEER_PATH does not name a folder that open_clip_torch 3.3.0 is installed into",
    ),
]


def run_peer(
    script: str, request: object, folder: Path, instead_of_peer: Path | None = None, extras: Sequence[Path] = ()
) -> dict[str, np.ndarray]:
    """Hand a request to a script of `peer_scripts` and return the arrays it answers with.

    The script is called with two paths: a JSON file to read and an npz file to write. It imports the peer's open_clip,
    or the one in the folder `instead_of_peer`, with the libraries in the folders `extras` and those installed beside
    the peer either way.
    """
    asked, answered = folder / f"{script}.json", folder / f"{script}.npz"
    asked.write_text(json.dumps(request))
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), str(asked), str(answered)]
    folders = [path for path in (instead_of_peer, *extras, os.environ["OPENCLIP_PEER_PATH"]) if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(answered) as arrays:
        return dict(arrays)
