"""Time the shard loader against our CSV loader and the shard loader of open_clip_torch 3.3.0 on the same pictures.

    make bench

Each loads in a fresh process without workers, in turn, with the training transform of a model of 224 pixels. The
figures are processor seconds a sample, medians over the rounds; the ratio is that of each round. The equality beside
it: with the evaluation's transform the three give the same pixels and token ids for each key. Then, ours alone: the
processor time to index a shard of 10,000 samples, and time and memory of the order of ten million.
"""

import argparse
import hashlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "examples" / "flickr30k-emoji"
SIDES = ("csv", "shards", "peer")
BATCH, PICTURES_A_SHARD, SIZE = 64, 300, 224


def write_data(folder: Path) -> int:
    """Write the example pictures as shards and as a table, each with a caption of its own; return their number."""
    lines = (PICTURES / "results_20130124.token").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t") for line in lines if line.partition("\t")[0].endswith("#0")]
    rows = []
    for first in range(0, len(pairs), PICTURES_A_SHARD):
        with tarfile.open(folder / f"{first // PICTURES_A_SHARD:05d}.tar", "w") as archive:
            for number, (name, words) in enumerate(pairs[first : first + PICTURES_A_SHARD], start=first):
                path = PICTURES / "flickr30k-images" / name.partition("#")[0]
                caption = f"{number} {words}"
                rows.append((str(path), caption))
                add_member(archive, f"{number:09d}.jpg", path.read_bytes())
                add_member(archive, f"{number:09d}.txt", caption.encode())
    text = "".join(f"{path}\t{caption}\n" for path, caption in [("filepath", "title"), *rows])
    (folder / "pairs.tsv").write_text(text, encoding="utf-8")
    return len(pairs)


def add_member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file to a tar."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def shard_pattern(folder: Path, num_samples: int) -> str:
    """Name the shards."""
    return f"{folder}/{{00000..{-(-num_samples // PICTURES_A_SHARD) - 1:05d}}}.tar"


def peer_batches(folder: Path, num_samples: int, transform: Any, tokenizer: Any) -> Any:
    """Return the peer's batches of one epoch."""
    from open_clip_train.data import get_wds_dataset

    asked = SimpleNamespace(
        train_data=shard_pattern(folder, num_samples),
        train_num_samples=num_samples,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        seed=0,
        batch_size=BATCH,
        workers=0,
        world_size=1,
    )
    return get_wds_dataset(asked, transform, is_train=True, tokenizer=tokenizer).dataloader


def our_batches(side: str, folder: Path, num_samples: int, transform: Any, tokenizer: Any) -> Any:
    """Return the batches of our loader in one epoch, normalised as on the device."""
    from open_clip.transform import normalization_of, normalize_images, to_uint8
    from training.data import PairDataset, PairSource, make_train_loader, read_csv_pairs
    from training.data.shards import Selector, Visit, open_shards

    source: PairSource
    if side == "csv":
        source = read_csv_pairs(str(folder / "pairs.tsv"), "\t", "filepath", "title")
    else:
        shards = sorted(str(path) for path in folder.glob("*.tar"))
        source = open_shards("the examples", shards, Selector(), Visit())
    loader = make_train_loader(PairDataset(source, to_uint8(transform), tokenizer), batch_size=BATCH)
    mean, std = normalization_of(transform)
    for batch in loader.epoch(0):
        yield normalize_images(batch.images, mean, std), batch.texts


def probe(side: str, folder: Path, num_samples: int, check_path: str | None) -> None:
    """Load one epoch; print the processor seconds a sample, or write the pixels by caption."""
    import open_clip

    torch.set_num_threads(1)
    transform = open_clip.image_transform(SIZE, is_train=check_path is None)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    make = peer_batches if side == "peer" else lambda *rest: our_batches(side, *rest)
    before, found, count = processor_s(), {}, 0
    for number, (images, texts) in enumerate(make(folder, num_samples, transform, tokenizer)):
        count += len(images)
        if check_path is not None:
            for image, row in zip(images, texts, strict=True):
                found[str(row.tolist())] = hashlib.sha256(image.numpy().tobytes()).hexdigest()
        if number + 1 == num_samples // BATCH:
            break
    if check_path is not None:
        Path(check_path).write_text(json.dumps(found), encoding="utf-8")
    else:
        print((processor_s() - before) / count)


def processor_s() -> float:
    """Return the processor seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def run_side(side: str, folder: Path, num_samples: int, peer_path: str, check_path: str = "") -> str:
    """Run a side in a fresh process and return what it prints."""
    python_path = peer_path if side == "peer" else str(ROOT / "src")
    environ = {**os.environ, "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    words = [sys.executable, str(Path(__file__).resolve()), "--probe", side, str(folder), str(num_samples), check_path]
    done = subprocess.run(words, env=environ, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return done.stdout.strip()


def check_equality(folder: Path, num_samples: int, peer_path: str) -> int:
    """Hold the pixels of all sides against each other and return how many samples all of them gave."""
    seen = []
    for side in SIDES:
        path = folder / f"{side}.json"
        run_side(side, folder, num_samples, peer_path, str(path))
        seen.append(json.loads(path.read_text(encoding="utf-8")))
    # The last batch is not full and left out, so each side lacks a few samples, other ones each.
    common = set.intersection(*(set(one) for one in seen))
    if len(common) < num_samples - len(SIDES) * BATCH or any(len({one[key] for one in seen}) > 1 for key in common):
        sys.exit("the sides gave different pixels or other samples; the figures mean nothing")
    return len(common)


def measure_index(folder: Path, rounds: int) -> float:
    """Return the processor seconds that indexing a shard of 10,000 samples takes, median."""
    sys.path.insert(0, str(ROOT / "src"))
    from training.data.shards.index import make_index
    from training.data.shards.selector import Selector

    path = folder / "large.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(10_000):
            for suffix, size in (("jpg", 4000), ("txt", 60), ("json", 600)):
                add_member(archive, f"{number:09d}.{suffix}", bytes(size))
    times = []
    for _ in range(rounds):
        started = time.process_time()
        if len(make_index(str(path), Selector())) != 10_000:
            sys.exit("the index lacks samples")
        times.append(time.process_time() - started)
    path.unlink()
    return statistics.median(times)


def measure_order(num_samples: int) -> tuple[float, float, float]:
    """Walk over an epoch of so many samples in shards of 10,000.

    Returns:
        MB that it holds at its peak, processor seconds to start in the middle, and for the whole epoch.
    """
    from training.data.shards import ShardOrder

    counts = np.full(num_samples // 10_000, 10_000)
    started = time.process_time()
    ShardOrder(counts, 0, 0)[num_samples // 2 : num_samples // 2 + 4096]
    middle_s = time.process_time() - started
    order, total, started = ShardOrder(counts, 0, 1), 0, time.process_time()
    for start in range(0, num_samples, 4096):
        total += int(order[start : start + 4096].sum())
    epoch_s = time.process_time() - started
    if total != num_samples * (num_samples - 1) // 2:
        sys.exit("the order does not give every sample once")
    tracemalloc.start()
    order = ShardOrder(counts, 0, 2)
    for start in range(0, num_samples, num_samples // 10):
        order[start : start + 4096]
    return tracemalloc.get_traced_memory()[1] / 1e6, middle_s, epoch_s


def main() -> None:
    """Compare over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--probe", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        side, folder, num_samples, check_path = options.probe
        probe(side, Path(folder), int(num_samples), check_path or None)
        return
    peer_path = os.environ.get("OPENCLIP_PEER_PATH")
    if not peer_path:
        sys.exit("OPENCLIP_PEER_PATH must name a folder that holds open_clip_torch 3.3.0 (`make bench` makes one).")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        num_samples = write_data(folder)
        print(f"{check_equality(folder, num_samples, peer_path)} samples: pixels and token ids of all sides are equal")
        rounds = [
            {side: float(run_side(side, folder, num_samples, peer_path)) for side in SIDES}
            for _ in range(options.rounds)
        ]
        print(f"{'':<10}{'CPU ms a sample':>16}{'peer / this':>14}  (lowest to highest)")
        for side in SIDES:
            ratios = [one["peer"] / one[side] for one in rounds]
            spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
            median_ms = 1e3 * statistics.median(one[side] for one in rounds)
            print(f"{side:<10}{median_ms:>16.3f}{statistics.median(ratios):>14.2f}  {spread}")
        print(f"index of a shard of 10,000 samples: {measure_index(folder, options.rounds):.3f} s")
    held_mb, middle_s, epoch_s = measure_order(10_000_000)
    print(f"order of 10,000,000 samples: {held_mb:.1f} MB, start in the middle {middle_s:.3f} s, epoch {epoch_s:.1f} s")


if __name__ == "__main__":
    main()
