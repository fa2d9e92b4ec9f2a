import subprocess
import sys
import time

from benchmarks.meter import cpu_seconds, measure
from runs import ROOT

BUSY = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def test_workers_count_while_they_live_and_after_they_have_ended():
    before = cpu_seconds()
    worker = subprocess.Popen([sys.executable, "-c", BUSY + "input()"], stdin=subprocess.PIPE)
    limit = time.monotonic() + 30
    while cpu_seconds() - before < 0.25 and time.monotonic() < limit:
        time.sleep(0.02)
    living = cpu_seconds() - before
    worker.communicate(b"\n")
    assert living >= 0.25
    assert cpu_seconds() - before >= living - 0.05


def test_a_block_gives_its_seconds_and_units():
    figures = measure(lambda: len([time.sleep(0.05)]), "cpu")
    assert figures["wall_s"] >= 0.05
    assert figures["cpu_s"] < figures["wall_s"]
    assert figures["units"] == 1
    assert "device_s" not in figures


def test_peak_memory_sees_what_was_freed_again():
    # In a process of its own: memory that is free already would serve, and nothing would grow.
    script = (
        "import torch; from benchmarks.meter import measure_memory\n"
        "figures = measure_memory(lambda: torch.ones(16 << 20).sum(), 'cpu')\n"
        "print(figures['peak_bytes'] - figures['before_bytes'])"
    )
    fresh = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert 60e6 < int(fresh.stdout) < 120e6, fresh.stderr
