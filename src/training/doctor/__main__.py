"""Command ``python -m training.doctor``. Imports no torch, which may be broken here."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.doctor.examination import examine
from training.params.values import number, whole

#: The flags of a report with what they are when they are not given; a batch size of 0 leaves it to the device.
_OF_REPORTS: dict[str, Any] = {
    "output": Path("doctor-report.md"),
    "model": "ViT-B-32",
    "batch_size": 0,
    "seconds": 60.0,
}


def main(args: Sequence[str] | None = None) -> int:
    """Examine the machine, or report on a device, and return the exit status."""
    parser = _make_parser()
    asked = parser.parse_args(args)
    if not asked.report:
        given = [f"--{name.replace('_', '-')}" for name in _OF_REPORTS if getattr(asked, name) is not None]
        if given:
            parser.error(f"{', '.join(given)}: only with --report")
        return examine(asked.device)
    from training.doctor.report import ReportRequest, make_report

    chosen = {
        name: default if (given := getattr(asked, name)) is None else given for name, default in _OF_REPORTS.items()
    }
    return make_report(ReportRequest(device=asked.device, **chosen))


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.doctor", description="Say whether a run would start here, or report on a device."
    )
    parser.add_argument("--device", default="auto", help="the device to try: auto, cpu, cuda, npu, or with an index")
    parser.add_argument(
        "--report",
        action="store_true",
        help="measure the device for up to 10 minutes and write a page to paste into an issue",
    )
    section = parser.add_argument_group("with --report")
    section.add_argument("--output", type=Path, metavar="FILE", help=f"the page (default: {_OF_REPORTS['output']})")
    section.add_argument("--model", help=f"whose error and speed are measured (default: {_OF_REPORTS['model']})")
    section.add_argument(
        "--batch-size",
        type=whole(1),
        metavar="N",
        help="pairs of a timed step (default: 128 on a card, 4 on a CPU)",
    )
    section.add_argument(
        "--seconds",
        type=number(above=0.0, most=120.0),
        metavar="X",
        help="how long the fine-tuning trains; each row of speed takes a sixth of it (default: 60)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
