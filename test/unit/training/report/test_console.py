import io
import logging
import re
import resource
import sys

import pytest

from training.report.console import STEP_LINE, TrainLine, format_eval_line, format_train_line, setup_logging

LINE = TrainLine(
    epoch=1,
    samples=1280,
    samples_per_epoch=157_915,
    percent=0.81,
    data_time_s=0.0123,
    step_time_s=0.25,
    samples_per_s=512.0,
    samples_per_s_per_device=256.0,
    lr=5e-5,
    logit_scale=14.2857,
    losses={"contrastive_loss": (2.5, 3.25), "loss": (2.5, 3.25)},
)


def test_the_openclip_line_is_upstreams():
    assert format_train_line(LINE) == (
        "Train Epoch: 1 [  1280/157915 (1%)] Data (t): 0.012 Batch (t): 0.250, 512.000/s, 256.000/s/gpu "
        "LR: 0.000050 Logit Scale: 14.286 Contrastive_loss: 2.5000 (3.2500) Loss: 2.5000 (3.2500)"
    )


def test_the_modelzoo_line_can_be_cut_by_its_scripts():
    line = format_train_line(LINE, "modelzoo")
    assert line.split("Time: ")[1].split(",")[0] == "0.250"
    assert "Data_time: 0.012 Time: 0.250, " in line
    assert line.split(" Loss: ")[1] == "2.5000 (3.2500)"
    assert line.count("Time") == 1


def test_a_task_without_logit_scale_leaves_it_out():
    assert "Logit Scale" not in format_train_line(TrainLine(**{**vars(LINE), "logit_scale": None}))


def test_the_eval_line_has_four_decimals_and_tabs():
    line = format_eval_line({"image_to_text_R@5": 0.7771, "image_to_text_R@10": 0.9, "num_samples": 1000}, epoch=2)
    assert line == "Eval Epoch: 2 image_to_text_R@5: 0.7771\timage_to_text_R@10: 0.9000\tnum_samples: 1000.0000"


def test_lines_carry_upstreams_prefix_in_file_and_on_stderr(tmp_path, monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    setup_logging(tmp_path / "run" / "out.log")
    logging.getLogger("training.anything").info("Start epoch 0")
    text = (tmp_path / "run" / "out.log").read_text()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d,\d\d:\d\d:\d\d \| INFO \| Start epoch 0\n", text)
    assert stderr.getvalue() == text


def test_other_ranks_only_warn_and_say_who_they_are(tmp_path):
    setup_logging(tmp_path / "out.log", rank=3)
    logging.getLogger("training").info("not heard")
    logging.getLogger("training").warning("heard")
    assert (tmp_path / "out.log").read_text().endswith("| WARNING | rank 3: heard\n")
    assert "not heard" not in (tmp_path / "out.log").read_text()


def test_setting_up_twice_writes_each_line_once(tmp_path):
    setup_logging(tmp_path / "out.log", "debug")
    setup_logging(tmp_path / "out.log", "info")
    logging.getLogger("training").info("once")
    assert (tmp_path / "out.log").read_text().count("once") == 1


def test_python_warnings_reach_the_log_file(tmp_path):
    import warnings

    setup_logging(tmp_path / "out.log")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("an old name", stacklevel=1)
    assert "an old name" in (tmp_path / "out.log").read_text()


def test_a_disk_without_room_is_complained_of_once(tmp_path, monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    setup_logging(tmp_path / "out.log")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        for _ in range(3):
            logging.getLogger("training").info("a line")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert stderr.getvalue().count("the run goes on") == 1
    assert "Traceback" not in stderr.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def log_one_step(folder, stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    setup_logging(folder / "out.log")
    logging.getLogger("training").info("a step", extra=STEP_LINE)
    logging.getLogger("training").info("an epoch")
    return stream.getvalue(), (folder / "out.log").read_text()


def test_a_terminal_leaves_step_lines_to_the_file(tmp_path, monkeypatch):
    shown, written = log_one_step(tmp_path, Terminal(), monkeypatch)
    assert "a step" not in shown
    assert "an epoch" in shown
    assert "a step" in written


def test_a_pipe_gets_step_lines(tmp_path, monkeypatch):
    assert "a step" in log_one_step(tmp_path, io.StringIO(), monkeypatch)[0]


def test_the_log_of_a_wrapper_gets_what_the_file_of_the_run_gets(tmp_path, monkeypatch):
    (tmp_path / "train_0.log").write_text("a start\n")
    monkeypatch.setenv("OPEN_CLIP_LOG_FILE", str(tmp_path / "train_0.log"))
    written = log_one_step(tmp_path, Terminal(), monkeypatch)[1]
    assert "a step" in written
    assert (tmp_path / "train_0.log").read_text() == "a start\n" + written


@pytest.mark.parametrize(
    "hostile",
    ["\x1b[2J\x1b[31mred", "a\rb", "\x9b5n", "a\x08b", "\u202egpj.exe", "\x07", "\ud800", "\u2028x", "\x00", "\u200bx"],
    ids=ascii,
)
def test_nothing_that_is_logged_can_steer_a_terminal(tmp_path, monkeypatch, hostile):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    # pytest's own handlers keep the raw text, and a worker of pytest-xdist cannot send half a surrogate pair.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    setup_logging(tmp_path / "out.log")
    logging.getLogger("open_clip").warning("%s\n\tand more \u56fe", hostile)
    try:
        raise ValueError(hostile)
    except ValueError:
        logging.getLogger("training").exception("failed")
    for text in (stderr.getvalue(), (tmp_path / "out.log").read_bytes().decode()):
        assert all(one.isprintable() or one in "\n\t" for one in text)
        assert "\n\tand more \u56fe\n" in text


def test_no_secret_reaches_the_console_or_the_log(tmp_path, monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    setup_logging(tmp_path / "out.log")
    logging.getLogger("training").error("cannot open https://me:hunter2@host/x.tar?token=hunter2 (403)")
    for text in (stderr.getvalue(), (tmp_path / "out.log").read_text()):
        assert "hunter2" not in text
        assert "@host/x.tar" in text
        assert "(403)" in text


def test_a_planted_link_is_not_written_through(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "out.log").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="link"):
        setup_logging(tmp_path / "out.log")
    assert (tmp_path / "victim").read_text() == "precious"
