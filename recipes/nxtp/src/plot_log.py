"""python plot_log.py LOG --out loss.svg lr.svg: tools/plot_log.py under its name here."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
    runpy.run_path(f"{sys.path[0]}/plot_log.py", run_name="__main__")
