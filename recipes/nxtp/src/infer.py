"""python infer.py --checkpoint F --images I --topk 10: tools/infer_labels.py under its name here."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
    runpy.run_path(f"{sys.path[0]}/infer_labels.py", run_name="__main__")
