"""Write the result files of Ascend ModelZoo from a finished run folder, and print its closing block.

Reads ``summary.json`` and ``metrics.jsonl`` only: no log line is parsed. Names and keys follow ModelZoo's OpenCLIP
wrappers and their CLIP and Chinese-CLIP siblings.
"""

import argparse
import contextlib
import math
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from open_clip.checked_json import numbers_of, read_json
from open_clip.errors import DataError, printable
from open_clip.files import write_whole
from training.report.jsonl import iterate_metrics

_ACCURACY = "image_to_text_R@5"


@dataclass(frozen=True)
class Outcome:
    """The figures of one finished run in ModelZoo's terms."""

    ranks: int
    batch: int
    fps: int
    training_time_s: float
    e2e_time_s: int
    loss: float
    metrics: Mapping[str, float]

    @property
    def default_case_name(self) -> str:
        """ModelZoo's name of this run."""
        return case_name_of(self.batch, self.ranks)


def case_name_of(batch: int, ranks: int) -> str:
    """Name a run by the samples of one step and the processes; ModelZoo says ``acc`` for short runs too."""
    return f"open_clip_bs{batch}_{ranks}p_acc"


def result_files(output_dir: Path, case: str) -> tuple[Path, Path, Path]:
    """Give the three files a finished run leaves: results, speed, losses."""
    return (
        output_dir / f"{case}.log",
        output_dir / f"{case}_perf_report.log",
        output_dir / f"train_{case}_loss.txt",
    )


def read_outcome(run_dir: Path, e2e_time_s: int | None = None) -> Outcome:
    """Read a run folder.

    Args:
        run_dir: Folder that holds ``summary.json``.
        e2e_time_s: Wall seconds of the script; the trainer's own figure counts when None or when it is larger, since
            after a resume it holds the time before as well.

    Raises:
        DataError: When the summary is missing, damaged or that of an unfinished run.
    """
    path = run_dir / "summary.json"
    try:
        loaded: dict[str, Any] = read_json(path)
        if loaded["status"] != "finished":
            raise DataError(f"{run_dir} is a run that {printable(loaded['status'], 40)}, so it has no result yet.")
        # Of the last 100 steps for every job, as the run's own closing block says it; ModelZoo's pretraining scripts
        # count all steps, the compilation in the first one included.
        if loaded["fps"] is None:
            raise DataError(f"{run_dir} is a run that trained no step, so it has no speed.")
        summary = numbers_of(loaded)
        return Outcome(
            ranks=int(summary["world_size"]),
            batch=int(summary["global_batch"]),
            fps=int(summary["fps"]),
            training_time_s=float(summary["train_time_s"]),
            e2e_time_s=max(int(summary["e2e_time_s"]), e2e_time_s or 0),
            loss=float(summary["loss"]),
            metrics=numbers_of(loaded.get("metrics")),
        )
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a run folder, LOGS/NAME.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no summary of a finished run: {printable(repr(error), 200)}.") from error


def result_lines(outcome: Outcome, job: str, case: str) -> list[str]:
    """Give ``key = value`` lines: the keys of all three ModelZoo wrappers; what was not measured is left out."""
    values: dict[str, object] = {
        "Network": "open_clip",
        "RankSize": outcome.ranks,
        "BatchSize": outcome.batch,
        "DeviceType": platform.machine(),
        "CaseName": case,
    }
    if job == "finetune" and _ACCURACY in outcome.metrics:
        values["TrainAccuracy"] = f"{outcome.metrics[_ACCURACY]:.4f}"
    if job == "pretrain":
        values["TrainLoss"] = f"{outcome.loss:#.5g}"
    values["ActualFPS"] = outcome.fps
    values["TrainingTime"] = f"{outcome.training_time_s:.3f}"
    values["ActualLoss"] = f"{outcome.loss:#.5g}"
    values["E2ETrainingTime"] = outcome.e2e_time_s
    for direction in ("text_to_image", "image_to_text"):
        if f"{direction}_R@5" in outcome.metrics:
            values[f"{direction}_acc_r5"] = f"{outcome.metrics[f'{direction}_R@5']:.4f}"
    return [f"{key} = {value}" for key, value in values.items()]


def loss_lines(run_dir: Path) -> Iterator[str]:
    """Give each logged step's loss as ``last (average of the epoch)``, five significant digits."""
    for record in iterate_metrics(run_dir / "metrics.jsonl", "train"):
        # A loss that was not finite is written as nothing.
        numbers = numbers_of(record)
        loss, average = (numbers.get(name, math.nan) for name in ("loss", "loss_avg"))
        yield f"{loss:#.5g} ({average:#.5g})"


def write_results(run_dir: Path, output_dir: Path, outcome: Outcome, job: str, case: str) -> Outcome:
    """Write the three result files; each whole, or not at all.

    Returns:
        The outcome they tell. Of a finished run that was only looked at again, which took a moment, the files keep the
        wall time that they had.
    """
    paths = result_files(output_dir, case)
    outcome = _with_time_of(paths[0], outcome, job, case)
    lines = result_lines(outcome, job, case)
    speed = ("ActualFPS", "TrainingTime", "E2ETrainingTime")
    contents = (lines, [line for line in lines if line.startswith(speed)], list(loss_lines(run_dir)))
    for path, content in zip(paths, contents, strict=True):
        write_whole(path, "".join(f"{line}\n" for line in content))
    return outcome


def _with_time_of(path: Path, outcome: Outcome, job: str, case: str) -> Outcome:
    """Take the wall time over from a result file that tells the same outcome with a longer one."""
    with contextlib.suppress(OSError, ValueError):
        before = path.read_text(encoding="utf-8").splitlines()
        found = [line.partition(" = ")[2] for line in before if line.startswith("E2ETrainingTime = ")]
        same = replace(outcome, e2e_time_s=int(found[0])) if len(found) == 1 else outcome
        if same.e2e_time_s > outcome.e2e_time_s and result_lines(same, job, case) == before:
            return same
    return outcome


def closing_block(outcome: Outcome, job: str) -> list[str]:
    """Give the four lines a ModelZoo wrapper ends with."""
    lines = [
        "------------------ Final result ------------------",
        f"Final Performance images/sec : {outcome.fps}",
    ]
    if job == "pretrain":
        lines.append(f"Train loss : {outcome.loss:#.5g}")
    elif _ACCURACY in outcome.metrics:
        lines.append(f"Final Train Accuracy : {outcome.metrics[_ACCURACY]:.4f}")
    lines.append(f"E2E Training Duration sec : {outcome.e2e_time_s}")
    return lines


def main(words: list[str] | None = None) -> int:
    """Write the result files of one run folder."""
    parser = argparse.ArgumentParser(description="Write ModelZoo's result files from a finished run folder.")
    parser.add_argument("run_dir", type=Path, help="run folder, LOGS/NAME")
    parser.add_argument("--output_dir", type=Path, help="where the files go (default: the run folder)")
    parser.add_argument("--case_name", help="name in the files (default: open_clip_bs<batch>_<processes>p_acc)")
    parser.add_argument("--job", choices=("finetune", "pretrain"), default="finetune")
    options = parser.parse_args(words)
    try:
        outcome = read_outcome(options.run_dir)
        case = options.case_name or outcome.default_case_name
        outcome = write_results(options.run_dir, options.output_dir or options.run_dir, outcome, options.job, case)
    except DataError as error:
        print(f"[Error] {error}", file=sys.stderr)
        return error.exit_status
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"[Error] the results could not be written: {error}", file=sys.stderr)
        return 1
    print("\n".join(closing_block(outcome, options.job)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
