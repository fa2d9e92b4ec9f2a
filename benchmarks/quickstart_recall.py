"""Train the quickstart's recipe with open_clip_torch 3.3.0 and with this trainer, and compare recall and time.

    make quickstart && OPENCLIP_PEER_PATH=.cache/peer python benchmarks/quickstart_recall.py --seeds {0..10}

Both train on one thread from the same two CSV files, in turn, each in a process of its own; both are then measured by
this trainer's evaluation. Prints one row a run and the ratio of the processor seconds.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODEL = "ViT-tiny-16-64"
METRICS = ("image_to_text_R@5", "text_retrieval_recall@5", "image_retrieval_recall@5")
# The peer's own names for what the Makefile's QUICKSTART_PARAMETERS ask for.
RECIPE = ["--batch-size", "128", "--epochs", "5", "--lr", "1e-3", "--wd", "0.1", "--warmup", "50", "--workers", "0"]
CSV = ["--csv-separator", ",", "--csv-img-key", "img_key", "--csv-caption-key", "caption_key"]
# The peer knows a model of ours once its registry has read our configuration.
PEER = (
    "import sys, open_clip; open_clip.add_model_config(sys.argv.pop(1)); "
    "from open_clip_train.main import main; main(sys.argv[1:])"
)


def run(words: list[str], python_path: str) -> float:
    """Run a command on one thread and give its processor seconds, workers included."""
    environ = {**os.environ, "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *words], env=environ, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def train(who: str, seed: int, data: Path, folder: Path, peer_path: str) -> tuple[float, dict[str, float]]:
    """Train one model and give its processor seconds and its metrics."""
    name = f"{who}-{seed}"
    flags = [*RECIPE, *CSV, "--model", MODEL, "--device", "cpu", "--precision", "fp32", "--seed", str(seed)]
    flags += ["--train-data", str(data / "flickr30k_train.csv"), "--name", name, "--logs", str(folder)]
    flags += ["--log-every-n-steps", "10", "--save-frequency", "0"]
    if who == "peer":
        config = ROOT / "src" / "open_clip" / "model_configs" / f"{MODEL}.json"
        seconds = run(["-c", PEER, str(config), *flags, "--dataset-type", "csv"], peer_path)
    else:
        seconds = run(["-m", "training.main", *flags], str(ROOT / "src"))
    measure = [
        "-m",
        "training.main",
        "--model",
        MODEL,
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--workers",
        "0",
        *CSV,
    ]
    measure += ["--val-data", str(data / "flickr30k_test.csv"), "--logs-dir", str(folder), "--name", f"{name}-measured"]
    run([*measure, "--pretrained", str(folder / name / "checkpoints" / "epoch_5.pt")], str(ROOT / "src"))
    return seconds, json.loads((folder / f"{name}-measured" / "summary.json").read_text())["metrics"]


def main() -> None:
    """Compare over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT / "test" / "output" / "quickstart" / "data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    peer_path = os.environ.get("OPENCLIP_PEER_PATH")
    if not peer_path:
        sys.exit("OPENCLIP_PEER_PATH must name a folder that holds open_clip_torch 3.3.0 (`make bench` makes one).")
    if not (options.data / "flickr30k_train.csv").is_file():
        sys.exit(f"{options.data} holds no flickr30k_train.csv; `make quickstart` makes it.")
    results: dict[str, list[tuple[float, dict[str, float]]]] = {"peer": [], "ours": []}
    print(f"{'run':<8}{'CPU s':>8}  " + "".join(f"{name:>26}" for name in METRICS))
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            for who, rows in results.items():
                seconds, metrics = train(who, seed, options.data, Path(folder), peer_path)
                rows.append((seconds, metrics))
                print(f"{who}-{seed:<3}{seconds:>8.0f}  " + "".join(f"{metrics[name]:>26.3f}" for name in METRICS))
    ratios = [peer[0] / ours[0] for peer, ours in zip(results["peer"], results["ours"], strict=True)]
    print(f"peer / ours, CPU seconds: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    for name in METRICS:
        means = {who: statistics.mean(metrics[name] for _, metrics in rows) for who, rows in results.items()}
        print(f"{name}: peer {means['peer']:.3f}, ours {means['ours']:.3f}")


if __name__ == "__main__":
    main()
