"""What worker processes take for themselves over many epochs, by the operating system's accounting."""

import json
import os
import random
import subprocess
import sys

import pytest
import torch

from image_sets import IMAGES_OF_EMOJI, pair_set
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import image_transform, to_uint8
from training.data import make_train_loader
from training.data.table import TableBuilder

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
ROLLUP = f"/proc/{os.getpid()}/smaps_rollup"
needs_accounting = pytest.mark.skipif(not os.path.exists(ROLLUP), reason="this system has no smaps_rollup")


def make_table(num_rows):
    builder, rng = TableBuilder("made"), random.Random(0)
    words = [f"word{number}" for number in range(500)]
    captions = [" ".join(rng.choices(words, k=8)) for _ in range(2000)]
    for row in range(num_rows):
        builder.add(row + 2, IMAGES_OF_EMOJI[row % 8], captions[rng.randrange(2000)])
    return builder.finish()


def own_bytes(process):
    """Pages that no other process shares: those a forked worker got for itself, by writing among others."""
    with open(f"/proc/{process}/smaps_rollup") as file:
        return sum(1024 * int(line.split()[1]) for line in file if line.startswith("Private_"))


def workers_of_this_process():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return {int(process) for process in file.read().split()}


def measure_epochs(num_rows, batches):
    dataset = pair_set(make_table(num_rows), to_uint8(image_transform(32, True)), SimpleTokenizer())
    loader = make_train_loader(dataset, batch_size=16, workers=2)
    others, sizes = workers_of_this_process(), []
    try:
        for epoch in range(20):
            # The rows of the end of an epoch are other ones each time, from everywhere in the table.
            for _ in loader.epoch(epoch, start_batch=loader.num_batches - batches):
                pass
            sizes.append(sum(map(own_bytes, workers_of_this_process() - others)))
    finally:
        loader.close()
    return sizes


def measure_in_a_fresh_process(num_rows, batches):
    """Measure where nothing but the loader was loaded: what other tests left in memory is copied page by page too."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, __file__, str(num_rows), str(batches)]
    done = subprocess.run(words, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs_accounting
def test_workers_take_no_more_memory_from_epoch_to_epoch():
    sizes = measure_in_a_fresh_process(20_000, 10)
    assert sizes[-1] - sizes[4] < 2e6, sizes


@pytest.mark.slow
@needs_accounting
def test_workers_take_no_more_memory_over_a_large_table():
    sizes = measure_in_a_fresh_process(1_500_000, 100)
    # Copied page by page as rows are visited, the table's 100 MB would show in each of the two workers.
    assert sizes[-1] - sizes[4] < 4e6, sizes
    assert sizes[-1] - sizes[0] < 20e6, sizes


if __name__ == "__main__":
    print(json.dumps(measure_epochs(*map(int, sys.argv[1:]))))
