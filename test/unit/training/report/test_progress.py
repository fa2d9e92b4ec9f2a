import io

from training.report.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_epoch_step_loss_rate_and_time_left():
    terminal = Terminal()
    with ProgressBar(100, epochs=5, stream=terminal) as bar:
        bar.update(40, epoch=1, loss=2.34567, lr=5e-4, samples_per_s=1234.5)
        bar._bar.refresh()
    drawn = terminal.getvalue()
    for part in ("Epoch 2/5", " 40%", "40/100", "1,234 samples/s", "loss 2.3457", "lr 5.00e-04", "<"):
        assert part in drawn


def test_a_pipe_or_file_stays_empty():
    stream = io.StringIO()
    with ProgressBar(100, stream=stream) as bar:
        bar.update(40, epoch=1, loss=2.3, lr=5e-4, samples_per_s=1.0)
    assert stream.getvalue() == ""


def test_a_resumed_run_starts_where_it_stopped():
    terminal = Terminal()
    with ProgressBar(100, first_step=60, epochs=5, stream=terminal):
        pass
    assert "60/100" in terminal.getvalue()


def test_other_ranks_draw_nothing():
    terminal = Terminal()
    ProgressBar(100, stream=terminal, is_enabled=False).close()
    assert terminal.getvalue() == ""
