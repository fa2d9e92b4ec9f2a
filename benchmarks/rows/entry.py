"""What a program pays before it can work: importing the library, building the first model. In fresh processes."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch

from benchmarks.equality import IDENTICAL, Answers, Rule
from benchmarks.rows.base import Row
from benchmarks.settings import Values

_CONFIG = Path(__file__).resolve().parents[2] / "src" / "open_clip" / "model_configs" / "ViT-tiny-16-64.json"
_PROBE = """
import json, resource, sys, time
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, time.perf_counter()
import torch
start = used()
import open_clip
open_clip.create_model, open_clip.get_tokenizer  # ours loads a name when it is asked for
if sys.argv[1] == "model":
    open_clip.add_model_config(sys.argv[2])
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-tiny-16-64")
end = used()
weights = 0.0
if sys.argv[1] == "model":
    weights = sum(value.double().abs().sum().item() for value in model.state_dict().values())
print(json.dumps({"cpu_s": end[0] - start[0], "wall_s": end[1] - start[1], "weights": weights,
                  "names": sorted(set(sys.argv[3:]) - set(dir(open_clip)))}))
"""
# Names that a program asks of the library; both sides must have them.
_NAMES = ("create_model", "create_model_and_transforms", "get_tokenizer", "ClipLoss", "list_models", "image_transform")


class Import(Row):
    """``import open_clip`` up to its first functions, less ``import torch``, which both sides need."""

    unit = "imports"
    what: ClassVar[str] = "import"
    rules: ClassVar[Mapping[str, Rule]] = {"missing names": IDENTICAL, "weights": IDENTICAL}
    sizes: ClassVar[Values] = {}

    def prepare(self) -> Values:
        """Read the files from the disk and compile them once."""
        self.first = self._probe()
        return {"less": "import torch"}

    def check(self) -> Answers:
        """Give the names that are missing, and the sum of the first weights where a model is built."""
        return {
            "missing names": {"count": torch.tensor(len(self.first["names"]))},
            "weights": {"sum": torch.tensor(self.first["weights"], dtype=torch.float64)},
        }

    def round(self, number: int) -> int:
        """Do it in a fresh process, which measures itself."""
        self.measured = self._probe()
        return 1

    def measured_round(self) -> dict[str, float]:
        """Give the seconds of the last round as its process measured them."""
        return {name: self.measured[name] for name in ("wall_s", "cpu_s")}

    def _probe(self) -> Values:
        words = [sys.executable, "-c", _PROBE, self.what, str(_CONFIG), *_NAMES]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        figures: Values = json.loads(done.stdout.splitlines()[-1])
        return figures


class FirstModel(Import):
    """The same, and a small model built."""

    what = "model"
