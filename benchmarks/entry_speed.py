"""Time `import open_clip` and the first model against open_clip_torch 3.3.0, each in fresh processes, in turn.

    make bench

The figures are processor seconds beyond `import torch` alone, medians over the rounds; the ratio is peer / ours of each
round. The equality beside it: both sides' first weights of the timed model have the same sum of absolute values.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "src" / "open_clip" / "model_configs" / "ViT-tiny-16-64.json"
PROBE = """
import json, resource, sys
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
import torch
start = used()
import open_clip
open_clip.create_model  # ours loads a name when it is asked for
imported = used()
open_clip.add_model_config(sys.argv[1])
torch.manual_seed(0)
model = open_clip.create_model("ViT-tiny-16-64")
built = used()
weights = sum(value.double().abs().sum().item() for value in model.state_dict().values())
print(json.dumps({"import": imported - start, "import and first model": built - start, "weights": weights}))
"""


def probe(python_path: str) -> dict[str, float]:
    """Run the probe in a fresh process and give its figures."""
    environ = {**os.environ, "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run([sys.executable, "-c", PROBE, str(CONFIG)], env=environ, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Compare over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    peer_path = os.environ.get("OPENCLIP_PEER_PATH")
    if not peer_path:
        sys.exit("OPENCLIP_PEER_PATH must name a folder that holds open_clip_torch 3.3.0 (`make bench` makes one).")
    sides = {"peer": peer_path, "ours": str(ROOT / "src")}
    for path in sides.values():
        probe(path)  # reads the files from the disk and compiles the bytecode
    rounds = [{name: probe(path) for name, path in sides.items()} for _ in range(options.rounds)]
    if any(one["peer"]["weights"] != one["ours"]["weights"] for one in rounds):
        sys.exit("the two sides built different weights; the figures mean nothing")
    print(f"{'':<24}{'peer, CPU s':>14}{'ours, CPU s':>14}{'ratio':>8}  (lowest to highest)")
    for what in ("import", "import and first model"):
        ratios = [one["peer"][what] / one["ours"][what] for one in rounds]
        peer, ours = (statistics.median(one[name][what] for one in rounds) for name in sides)
        spread = f"({min(ratios):.1f} to {max(ratios):.1f})"
        print(f"{what:<24}{peer:>14.3f}{ours:>14.3f}{statistics.median(ratios):>8.1f}  {spread}")


if __name__ == "__main__":
    main()
