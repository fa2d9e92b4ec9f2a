import contextlib
import fcntl
import io
import os
import pty
import select
import struct
import termios

import pytest

from training.report.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_epoch_step_loss_rate_and_time_left():
    terminal = Terminal()
    with contextlib.closing(ProgressBar(100, epochs=5, stream=terminal)) as bar:
        bar.update(40, epoch=1, loss=2.34567, lr=5e-4, samples_per_s=1234.5)
        bar._bar.refresh()
    drawn = terminal.getvalue()
    for part in ("Epoch 2/5", " 40%", "40/100", "1,234 samples/s", "loss 2.3457", "lr 5.00e-04", "<"):
        assert part in drawn


def test_a_pipe_or_file_stays_empty():
    stream = io.StringIO()
    with contextlib.closing(ProgressBar(100, stream=stream)) as bar:
        bar.update(40, epoch=1, loss=2.3, lr=5e-4, samples_per_s=1.0)
    assert stream.getvalue() == ""


def test_a_resumed_run_starts_where_it_stopped():
    terminal = Terminal()
    with contextlib.closing(ProgressBar(100, first_step=60, epochs=5, stream=terminal)):
        pass
    assert "60/100" in terminal.getvalue()


def test_other_ranks_draw_nothing():
    terminal = Terminal()
    ProgressBar(100, stream=terminal, is_enabled=False).close()
    assert terminal.getvalue() == ""


def last_line_in(columns, total_steps=100, epochs=5, loss=2.34567, last_loss=None):
    """Draw on a pseudo-terminal of a width and read what stands there at the end."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(writer, "w") as terminal:
        with contextlib.closing(ProgressBar(total_steps, epochs=epochs, stream=terminal)) as bar:
            bar.update(total_steps * 2 // 5, epoch=1, loss=loss, lr=5e-4, samples_per_s=1234.5)
            bar.show_loss(last_loss)
        drawn = b""
        while select.select([reader], [], [], 0.05)[0]:
            drawn += os.read(reader, 65536)
    os.close(reader)
    return drawn.decode().rstrip().split("\r")[-1].rstrip()


def cells_of(line):
    return len(line.split("|")[1])


@pytest.mark.parametrize("total_steps", [100, 500_000])
@pytest.mark.parametrize("columns", [120, 100, 80, 60])
def test_the_bar_keeps_ten_cells_and_the_loss_at_any_usual_width(columns, total_steps):
    line = last_line_in(columns, total_steps)
    assert len(line) < columns
    assert cells_of(line) >= 10
    assert "loss 2.3457" in line


def test_a_narrow_bar_drops_learning_rate_then_samples_a_second():
    assert "samples/s, loss 2.3457, lr 5.00e-04" in last_line_in(110)
    assert "samples/s, loss 2.3457]" in last_line_in(85)
    narrow = last_line_in(60)
    assert "samples/s" not in narrow
    assert "40/100" in narrow


def test_the_last_drawing_shows_the_last_loss_given():
    assert "loss 0.1250" in last_line_in(80, last_loss=0.125)
    assert "loss" not in last_line_in(80, loss=None)
