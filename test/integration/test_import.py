import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"


def test_importing_the_library_loads_no_torch():
    code = "import sys, open_clip; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}).returncode == 0


def test_a_star_import_brings_the_public_names():
    code = "from open_clip import *; create_model, CLIP, ClipLoss, tokenize, __version__"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}).returncode == 0
