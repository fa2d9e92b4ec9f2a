"""Command ``python -m training.doctor``. Imports no torch, which may be broken here."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.doctor.examination import examine
from training.params.values import number, whole


def main(args: Sequence[str] | None = None) -> int:
    """Examine the machine, or report on a device, and return the exit status."""
    asked = _make_parser().parse_args(args)
    if not asked.report:
        return examine(asked.device)
    from training.doctor.report import Order, make_report

    return make_report(Order(asked.device, asked.model, asked.batch_size, asked.seconds, Path(asked.output)))


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
    section.add_argument("--output", default="doctor-report.md", metavar="FILE", help="the page (default: %(default)s)")
    section.add_argument(
        "--model", default="ViT-B-32", help="whose error and speed are measured (default: %(default)s)"
    )
    section.add_argument(
        "--batch-size",
        type=whole(),
        default=0,
        metavar="N",
        help="pairs of a timed step (default: 128 on a card, 4 on a CPU)",
    )
    section.add_argument(
        "--seconds",
        type=number(above=0.0, most=120.0),
        default=60.0,
        metavar="X",
        help="how long the fine-tuning trains; each row of speed takes a sixth of it (default: 60)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
