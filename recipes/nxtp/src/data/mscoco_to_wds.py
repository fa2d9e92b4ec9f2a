"""python data/mscoco_to_wds.py [ROOT] [--split train2017]: tools/mscoco_to_wds.py under its name here."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "tools"))
    runpy.run_path(f"{sys.path[0]}/mscoco_to_wds.py", run_name="__main__")
