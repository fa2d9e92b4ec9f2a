#!/usr/bin/env python3
"""Measure how far our models are from open_clip_torch 3.3.0's and write the table of docs/parity.md and its twin.

The peer is the folder that OPENCLIP_PEER_PATH names; `make parity-table` installs it. Weights come from a seed, so
nothing is downloaded.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SIDE = Path(__file__).with_name("parity_side.py")
EXAMPLES = ROOT / "examples" / "flickr30k-emoji"
PAGES = {
    ROOT / "docs" / "parity.md": (
        "family",
        "model",
        "first weights",
        "pixels",
        "token ids",
        "image features",
        "text features",
    ),
    ROOT / "docs" / "parity.zh.md": ("模型族", "模型", "初始权重", "像素", "词元编号", "图像特征", "文本特征"),
}
WORDS = {"parity.md": ("equal", "different"), "parity.zh.md": ("相同", "不同")}
_TABLE = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)
NUM_PICTURES = 8

# One model a family, none larger than a small machine holds twice.
CASES = (
    ("ResNet", "RN50"),
    ("ViT", "ViT-B-32"),
    ("ViT, QuickGELU", "ViT-B-32-quickgelu"),
    ("ViT, small", "ViT-S-16-alt"),
    ("ViT, LayerScale", "ViT-M-16-alt"),
    ("CoCa", "coca_ViT-B-32"),
    ("timm: ConvNeXt", "convnext_tiny"),
    ("timm: EVA02", "EVA02-B-16"),
    ("timm: MobileCLIP", "MobileCLIP-S1"),
    ("timm: ViTamin", "ViTamin-S"),
    ("timm: PE-Core", "PE-Core-T-16-384"),
)


def run_side(folder: Path, label: str, paths: list[str], request: dict[str, Any]) -> dict[str, np.ndarray]:
    """Answer a request in a process that imports open_clip from the first of ``paths`` that has it."""
    asked, answered = folder / f"{label}.json", folder / f"{label}.npz"
    asked.write_text(json.dumps(request), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    # -P: this folder's modules stay out of the way of the package that is asked for.
    command = [sys.executable, "-P", str(SIDE), str(asked), str(answered)]
    subprocess.run(command, env=environment, check=True, stderr=subprocess.PIPE)
    with np.load(answered) as arrays:
        return dict(arrays)


def measure(peer: str) -> list[tuple[str, str, dict[str, float]]]:
    """Compare every case; per model the largest absolute difference of each thing compared."""
    pictures = sorted(map(str, (EXAMPLES / "flickr30k-images").iterdir()))[:NUM_PICTURES]
    with (EXAMPLES / "results_20130124.token").open(encoding="utf-8") as file:
        captions = [next(file).rstrip("\n").partition("\t")[2] for _ in range(NUM_PICTURES)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for family, model in CASES:
            request = {"cases": [{"model": model, "seed": 0}], "pictures": pictures, "captions": captions}
            ours = run_side(Path(folder), "ours", [str(ROOT / "src"), peer], request)
            theirs = run_side(Path(folder), "theirs", [peer], request)
            differences = {
                key.rpartition("/")[2]: float(np.abs(value.astype(np.float64) - theirs[key]).max())
                for key, value in ours.items()
            }
            print(model, differences, flush=True)
            rows.append((family, model, differences))
    return rows


def lay_out(rows: list[tuple[str, str, dict[str, float]]], heads: tuple[str, ...], same: str, other: str) -> str:
    """Write the rows as a table; a difference of nothing is written as a word, and so is one of hashes."""
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for family, model, found in rows:
        weights = other if found["weights"] else same
        cells = [f"{found[key]:.1e}" if found[key] else same for key in ("pixels", "tokens", "image", "text")]
        lines.append(f"| {family} | `{model}` | {' | '.join([weights, *cells])} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure and write both pages."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    peer = os.environ.get("OPENCLIP_PEER_PATH")
    if not peer:
        print(
            "OPENCLIP_PEER_PATH names no folder with open_clip_torch 3.3.0; use `make parity-table`.", file=sys.stderr
        )
        return 2
    rows = measure(peer)
    for page, heads in PAGES.items():
        table = lay_out(rows, heads, *WORDS[page.name])
        text = page.read_text(encoding="utf-8")
        page.write_text(_TABLE.sub(lambda match, table=table: match[1] + table + match[2], text), encoding="utf-8")  # type: ignore[misc]
    return 0


if __name__ == "__main__":
    sys.exit(main())
