"""A part that crashes or hangs ends alone."""

import pytest

from training.doctor.parts import PARTS, Conditions
from training.doctor.worker import PartFailed, Worker

CONDITIONS = Conditions("cpu", "ViT-micro-8-32", 4, 0.5)
BY_NAME = {part.name: part for part in PARTS}


def kernel(body):
    """Give what Python runs at its start to have towers attend with a kernel of this body."""
    lines = ["from open_clip.transformer.kernels import register_attention", "def kernel(q, k, v, is_causal, **_):"]
    return "\n".join([*lines, f"    {body}", "register_attention('cpu', kernel)", ""])


@pytest.fixture
def worker(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = Worker()
    yield made
    made.close()


def test_a_crash_is_named_and_the_next_part_runs(worker, tmp_path):
    start = tmp_path / "sitecustomize.py"
    start.write_text(kernel("import os; print('aicore exception', flush=True); os.kill(os.getpid(), 11)"))
    found = []
    with pytest.raises(PartFailed, match="its process ended by SIGSEGV: aicore exception"):
        found.extend(worker.run(BY_NAME["attention"], CONDITIONS, 60))
    assert found == []
    start.unlink()
    found.extend(worker.run(BY_NAME["precision"], CONDITIONS, 60))
    assert [finding.state for finding in found] == ["ok", "ok"]


def test_a_process_that_does_not_answer_is_given_up(worker):
    with pytest.raises(PartFailed, match="it had not ended after 0 s"):
        list(worker.run(BY_NAME["precision"], CONDITIONS, 0.1))


@pytest.mark.slow
def test_a_part_that_hangs_is_given_up_and_keeps_what_it_found(worker, tmp_path):
    # The second kind of attention is causal.
    (tmp_path / "sitecustomize.py").write_text(kernel("import time; time.sleep(600 if is_causal else 0); return None"))
    found = []
    with pytest.raises(PartFailed, match="it had not ended after 25 s"):
        found.extend(worker.run(BY_NAME["attention"], CONDITIONS, 25))
    assert [finding.what for finding in found] == ["image, no mask, bfloat16, fused", "image, no mask, bfloat16, plain"]


def test_warnings_of_libraries_are_kept(worker, tmp_path):
    warn = "import warnings; warnings.warn('CAUTION: an operator falls back to the CPU'); return None"
    (tmp_path / "sitecustomize.py").write_text(kernel(warn))
    found = list(worker.run(BY_NAME["attention"], CONDITIONS, 60))
    assert all(finding.state == "ok" for finding in found)
    assert [note for note in worker.notes if "CAUTION: an operator falls back to the CPU" in note]
