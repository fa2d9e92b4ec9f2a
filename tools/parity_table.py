#!/usr/bin/env python3
"""Measure how far our models are from open_clip_torch 3.3.0's and write the table of docs/parity.md and its twin.

The peer is the folder that OPENCLIP_PEER_PATH names, transformers is found on PYTHONPATH; `make parity-table` installs
both. Weights come from a seed, so nothing is downloaded.
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
        "gradients",
    ),
    ROOT / "docs" / "parity.zh.md": ("模型族", "模型", "初始权重", "像素", "词元编号", "图像特征", "文本特征", "梯度"),
}
WORDS = {"parity.md": ("equal", "different", "shapes equal"), "parity.zh.md": ("相同", "不同", "形状相同")}
_TABLE = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)
NUM_IMAGES = 4

COLUMNS = ("pixels", "tokens", "image", "text", "gradients")

# How far a model is compared: with captions, with any token ids where the tokenizer's files are on the hub, or by the
# names, shapes and order of its weights where a small machine does not hold it twice.
RUN, IDS, SHAPES = "run", "ids", "shapes"
CASES = (
    ("ResNet", "RN50", RUN),
    ("ResNet, largest", "RN50x64", SHAPES),
    ("ViT", "ViT-B-32", RUN),
    ("ViT, QuickGELU", "ViT-B-32-quickgelu", RUN),
    ("ViT, small", "ViT-S-16-alt", RUN),
    ("ViT, LayerScale", "ViT-M-16-alt", RUN),
    ("ViT, L", "ViT-L-14-336", SHAPES),
    ("ViT, H", "ViT-H-14-378", SHAPES),
    ("ViT, g", "ViT-g-14", SHAPES),
    ("ViT, bigG", "ViT-bigG-14", SHAPES),
    ("ViT, e", "ViT-e-14", SHAPES),
    ("CLIPA", "ViT-H-14-CLIPA-336", SHAPES),
    ("MetaCLIP 2", "ViT-H-14-worldwide-378", SHAPES),
    ("CoCa", "coca_ViT-B-32", RUN),
    ("CoCa, base", "coca_base", SHAPES),
    ("timm: ConvNeXt", "convnext_tiny", RUN),
    ("timm: ConvNeXt, largest", "convnext_xxlarge", SHAPES),
    ("timm: Swin", "swin_base_patch4_window7_224", RUN),
    ("timm: ViT, averaged", "vit_medium_patch16_gap_256", RUN),
    ("timm: ViT, relative positions", "vit_relpos_medium_patch16_cls_224", RUN),
    ("timm: SigLIP", "ViT-B-16-SigLIP", IDS),
    ("timm: SigLIP, SO400M", "ViT-SO400M-14-SigLIP-384", SHAPES),
    ("timm: SigLIP 2", "ViT-B-32-SigLIP2-256", SHAPES),
    ("timm: SigLIP 2, largest", "ViT-gopt-16-SigLIP2-384", SHAPES),
    ("timm: EVA01", "EVA01-g-14", SHAPES),
    ("timm: EVA02", "EVA02-B-16", RUN),
    ("timm: EVA02, largest", "EVA02-E-14-plus", SHAPES),
    ("timm: MobileCLIP", "MobileCLIP-S1", RUN),
    ("timm: MobileCLIP, B", "MobileCLIP-B", RUN),
    ("timm: MobileCLIP2", "MobileCLIP2-S0", RUN),
    ("timm: MobileCLIP2, S4", "MobileCLIP2-S4", SHAPES),
    ("timm: ViTamin", "ViTamin-S", RUN),
    ("timm: ViTamin, largest", "ViTamin-XL-384", SHAPES),
    ("timm: PE-Core", "PE-Core-T-16-384", RUN),
    ("timm: PE-Core, largest", "PE-Core-bigG-14-448", SHAPES),
    ("Hugging Face: BERT", "small-bert", IDS),
    ("Hugging Face: RoBERTa", "small-roberta", IDS),
    ("Hugging Face: XLM-RoBERTa", "small-xlm-roberta", IDS),
    ("Hugging Face: mT5", "small-mt5", IDS),
    ("Hugging Face: NLLB (M2M-100)", "small-m2m_100", IDS),
)
_SIDES = {"layers": 2, "attention_heads": 4, "ffn_dim": 128}
_SMALL = {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 80, "vocab_size": 99}


def write_small_models(folder: Path) -> str:
    """Write models with small encoders of each Hugging Face family, whose own configurations are on the hub."""
    configs = folder / "configs"
    configs.mkdir()
    bert = _SMALL | {"hidden_size": 64, "intermediate_size": 128}
    mt5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 99, "pad_token_id": 0}
    m2m = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in _SIDES.items()}
    m2m |= {"d_model": 64, "vocab_size": 99, "max_position_embeddings": 80, "pad_token_id": 1}
    kinds = {"bert": bert, "roberta": bert, "xlm-roberta": bert, "mt5": mt5, "m2m_100": m2m}
    vision = {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
    for kind, sizes in kinds.items():
        encoder = folder / kind
        encoder.mkdir()
        (encoder / "config.json").write_text(json.dumps({"model_type": kind} | sizes), encoding="utf-8")
        text = {"hf_model_name": str(encoder), "hf_proj_type": "mlp"}
        config = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}
        (configs / f"small-{kind}.json").write_text(json.dumps(config), encoding="utf-8")
    return str(configs)


def start_side(folder: Path, label: str, paths: list[str], request: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start a process that answers a request with the open_clip of the first of ``paths`` that has it."""
    asked, answered = folder / f"{label}.json", folder / f"{label}.npz"
    asked.write_text(json.dumps(request), encoding="utf-8")
    paths = [path for path in (*paths, os.environ.get("PYTHONPATH")) if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    # -P: this folder's modules stay out of the way of the package that is asked for.
    command = [sys.executable, "-P", str(SIDE), str(asked), str(answered)]
    with (folder / f"{label}.log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stderr=log)


def run_sides(folder: Path, peer: str, request: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    """Answer a request with our package and with the peer's, side by side."""
    sides = {"ours": [str(ROOT / "src"), peer], "theirs": [peer]}
    answers = []
    running = {label: start_side(folder, label, paths, request) for label, paths in sides.items()}
    for label, process in running.items():
        if process.wait() != 0:
            raise RuntimeError(f"{label}: {(folder / f'{label}.log').read_text(encoding='utf-8')[-2000:]}")
        with np.load(folder / f"{label}.npz") as arrays:
            answers.append(dict(arrays))
    return answers


def measure(peer: str) -> list[tuple[str, str, dict[str, float]]]:
    """Compare every case; per model the largest absolute difference of each thing compared."""
    images = sorted(map(str, (EXAMPLES / "flickr30k-images").iterdir()))[:NUM_IMAGES]
    with (EXAMPLES / "results_20130124.token").open(encoding="utf-8") as file:
        captions = [next(file).rstrip("\n").partition("\t")[2] for _ in range(NUM_IMAGES)]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shared = {"images": images, "captions": captions, "configs": write_small_models(folder)}
        for family, model, kind in CASES:
            ours, theirs = run_sides(folder, peer, shared | {"cases": [{"model": model, "seed": 0, "kind": kind}]})
            differences = {
                key.rpartition("/")[2]: float(np.abs(value.astype(np.float64) - theirs[key]).max())
                for key, value in ours.items()
            }
            print(model, differences, flush=True)
            rows.append((family, model, differences))
    return rows


def lay_out(rows: list[tuple[str, str, dict[str, float]]], heads: tuple[str, ...], words: tuple[str, str, str]) -> str:
    """Write the rows as a table; a difference of nothing is written as a word, and so is one of hashes.

    ``words`` say equal, different, and that names and shapes are equal; what was not compared is a dash.
    """
    same, other, same_shapes = words
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for family, model, found in rows:
        compared = found.get("weights", found.get("shapes"))
        cells = [other if compared else same if "weights" in found else same_shapes]
        for key in COLUMNS:
            cells.append("-" if key not in found else f"{found[key]:.1e}" if found[key] else same)
        lines.append(f"| {family} | `{model}` | {' | '.join(cells)} |")
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
        table = lay_out(rows, heads, WORDS[page.name])
        text = page.read_text(encoding="utf-8")
        page.write_text(_TABLE.sub(lambda match, table=table: match[1] + table + match[2], text), encoding="utf-8")  # type: ignore[misc]
    return 0


if __name__ == "__main__":
    sys.exit(main())
