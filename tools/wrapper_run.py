"""Run the trainer for a wrapper: keep its log, pass signals and its exit status on, write ModelZoo's result files.

Reads no training parameters: the wrappers in ``test/`` give it the finished command line.
"""

from training.early_signals import answer_early_signals, run_begins

if __name__ == "__main__":
    answer_early_signals()  # the rest is answered by what starts the trainer

import argparse
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path

import modelzoo_summary
from open_clip.errors import DataError, OpenClipError
from wrapper_logs import RunLog, Start
from wrapper_streams import run_logged

_USAGE = 2
_STOPPED = 75


def main(words: list[str] | None = None) -> int:
    """Run the command behind ``--`` and give its exit status."""
    options = _parse(words)
    output_dir: Path = options.output_dir
    run_begins()
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        # Named after this machine: machines may share the folder.
        log = RunLog(output_dir / f"train_{options.first_rank}.log", append=_goes_on(options.command))
        status, run_dir = _train(options, log)
        if status == 0:
            log.begin()
        log.close()
    except OpenClipError as error:
        _tell(f"[Error] {error}")
        return error.exit_status
    except OSError as error:
        _tell(f"[Error] {error.filename or output_dir}: {error.strerror}")
        return 2
    if status == 0 and options.first_rank != 0:
        return 0  # the first machine writes the results
    if status == 0:
        return _write_results(options, run_dir)
    if status != _STOPPED:
        _tell(f"[Error] training ended with status {status}; its output is in {log.path}")
    if status != _USAGE:
        _print_how_to_go_on(run_dir, options)
    return status


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the trainer and write ModelZoo's result files.")
    parser.add_argument("--job", choices=("finetune", "pretrain"), required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--case_name", default="", help="name in the result files; empty: from batch and processes")
    parser.add_argument("--planned_batch", type=int, required=True, help="samples of one step by the parameters")
    parser.add_argument("--planned_ranks", type=int, required=True, help="processes by the parameters")
    parser.add_argument("--first_rank", type=int, default=0, help="number of this machine's first process among all")
    parser.add_argument("--started", type=int, default=int(time.time()), help="unix time at which the script started")
    parser.add_argument("--again", default="", help="command that repeats this run, for the message after a stop")
    parser.add_argument("command", nargs="+", help="the trainer's command line, behind --")
    return parser.parse_args(words)


def _remove_old_results(options: argparse.Namespace) -> None:
    """Take away the results of the run before, so that a failed run leaves none that look like its own."""
    case = options.case_name or modelzoo_summary.case_name_of(options.planned_batch, options.planned_ranks)
    for path in modelzoo_summary.result_files(options.output_dir, case):
        path.unlink(missing_ok=True)


def _train(options: argparse.Namespace, log: RunLog) -> tuple[int, Path | None]:
    """Run the trainer; give its status, and its run folder where it got so far."""

    def begin() -> None:
        log.begin()
        if options.first_rank == 0:
            _remove_old_results(options)

    # torchrun ends with status 1 whatever the trainer said, so the trainer leaves its status in a file; not on the disk
    # of the results, which may be full by then.
    with tempfile.TemporaryDirectory(prefix="open_clip_status_", ignore_cleanup_errors=True) as folder:
        status_path, note = Path(folder) / "status", Path(folder) / "run"
        env = dict(os.environ, OPEN_CLIP_STATUS_FILE=str(status_path), OPEN_CLIP_RUN_FILE=str(note))
        # A folder named `training` where the user stands must not be taken for the trainer.
        env.setdefault("PYTHONSAFEPATH", "1")
        start = Start(note, begin)
        status, was_asked = run_logged(options.command, log, env, start.look)
        start.look()
        if status != 0 and status_path.is_file():
            text = status_path.read_text(encoding="utf-8").strip()
            status = int(text) if text.isdecimal() and int(text) > 0 else status
        elif status != 0 and was_asked and start.run_dir is None:
            # The launcher, which has no answer to signals either while it is imported.
            _tell("[Error] stopped before training began. The same command starts it.")
            status = _STOPPED
    return status, start.run_dir


def _goes_on(command: list[str]) -> bool:
    return any(word == "--resume" or word.startswith("--resume=") for word in command)


def _write_results(options: argparse.Namespace, run_dir: Path | None) -> int:
    output_dir: Path = options.output_dir
    if run_dir is None:
        _tell(f"[Error] training ended well but left no run folder under {output_dir / 'logs'}")
        return 1
    case = options.case_name
    try:
        outcome = modelzoo_summary.read_outcome(run_dir, int(time.time()) - options.started)
        case = case or outcome.default_case_name
        outcome = modelzoo_summary.write_results(run_dir, output_dir, outcome, options.job, case)
    except (DataError, OSError, ValueError, KeyError, TypeError) as error:
        words = [sys.executable, modelzoo_summary.__file__, str(run_dir), "--output_dir", str(output_dir)]
        words += ["--job", options.job, *(["--case_name", case] if case else [])]
        _tell(f"[Error] the results could not be written: {error}")
        _tell(f"The run itself is sound. Write them with: {shlex.join(words)}")
        return 1
    try:
        print("\n".join(modelzoo_summary.closing_block(outcome, options.job)), flush=True)
    except BrokenPipeError:  # the reader went away; the files are written
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _print_how_to_go_on(run_dir: Path | None, options: argparse.Namespace) -> None:
    if run_dir is None or not any((run_dir / "checkpoints").glob("*.pt")):
        return
    command = options.again.rstrip()
    separator = "" if " -- " in f"{command} " else " --"
    flags = ["--name", run_dir.name, "--resume", "latest"]
    if shlex.split(command)[-len(flags) :] != flags:
        command += f"{separator} {shlex.join(flags)}"
    _tell(f"Go on with the wrapper: {command}")


def _tell(text: str) -> None:
    try:
        print(text, file=sys.stderr)
    except OSError:  # the terminal is gone; the status still counts
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


if __name__ == "__main__":
    sys.exit(main())
