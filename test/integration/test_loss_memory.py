"""What the contrastive loss takes of a machine's memory, by the operating system's own count."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src"
# Prints the most memory that the process held before the loss and after it, in MiB.
SCRIPT = """
import resource, sys
import torch
from open_clip.loss import ClipLoss, SigLipLoss

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

torch.set_num_threads(2)
loss = {"clip": ClipLoss, "siglip": SigLipLoss}[sys.argv[1]]()
rows = int(sys.argv[2])
images, texts = (torch.randn(rows, 512) for _ in range(2))
images, texts = (torch.nn.functional.normalize(features, out=features).requires_grad_() for features in (images, texts))
scale = torch.tensor(20.0, requires_grad=True)
torch.mm(images.detach()[:1024], texts.detach()[:1024].T)
before = peak()
loss(images, texts, scale).backward()
assert images.grad.isfinite().all() and texts.grad.isfinite().all()
print(before, peak())
"""


def measure(kind: str, rows: int) -> tuple[int, int]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-c", SCRIPT, kind, str(rows)]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    before, after = map(int, output.split())
    return before, after


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_loss_takes_less_than_one_matrix_of_its_scores(kind):
    before, after = measure(kind, 6144)
    # One matrix is 144 MiB, and autograd keeps four; features and what is made of them are 12 MiB each.
    assert after - before < 100


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_65536_rows_fit_into_3_gb(kind):
    _, after = measure(kind, 65536)
    assert after * 2**20 < 3e9
