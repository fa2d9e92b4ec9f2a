"""The doctor's command line. Imports no torch, which may be broken here."""

import argparse
from collections.abc import Sequence

from training.doctor.examination import examine


def main(args: Sequence[str] | None = None) -> int:
    """Examine the machine, or report on a device, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.doctor", description="Say whether a run would start here."
    )
    parser.add_argument("--device", default="auto", help="the device to try: auto, cpu, cuda, npu, or with an index")
    asked = parser.parse_args(args)
    return examine(asked.device)
