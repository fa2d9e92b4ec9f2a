import io
import logging
import sys

from training.journal import Journal
from training.loop import Progress, StepRecord
from training.params import ReportParams
from training.report.console import setup_logging
from training.report.progress import ProgressBar
from training.run_folder import RunFolder


class Terminal(io.StringIO):
    def isatty(self):
        return True


RECORD = StepRecord(
    epoch=0,
    batch=2,
    num_batches=2,
    num_samples=16,
    step=2,
    samples_seen=16,
    epoch_samples=16,
    lr=5e-4,
    logit_scale=14.3,
    losses={"loss": (0.125, 0.5)},
    data_time_s=0.01,
    step_time_s=0.1,
    samples_per_step=8,
    world_size=1,
)


def test_on_a_terminal_a_step_moves_the_bar_and_its_line_goes_to_the_file(tmp_path, monkeypatch):
    monkeypatch.delenv("OPEN_CLIP_STEP_LINES", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    setup_logging(tmp_path / "out.log", logging.INFO)
    journal = Journal(RunFolder("a", tmp_path), ReportParams(), is_master=True)
    journal._loop.bar = ProgressBar(2, stream=terminal)
    journal.recorder.tick(Progress(step=2), 5e-4, 8, 0.1)
    journal.recorder.step(RECORD)
    journal.close()
    assert "Train Epoch: 0" in (tmp_path / "out.log").read_text()
    assert "Train Epoch: 0" not in terminal.getvalue()
    assert "2/2" in terminal.getvalue().split("\r")[-1]
    assert "loss 0.1250" in terminal.getvalue().split("\r")[-1]
