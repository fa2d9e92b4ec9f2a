"""Draw the loss and the learning rate of a training log: ``python tools/plot_log.py LOG --out loss.svg lr.svg``.

Reads NXTP's public logs and this trainer's: out.log, metrics.jsonl or a run folder.
"""

import argparse
import sys
from collections.abc import Sequence

from open_clip.errors import DataError, OpenClipError, printable
from open_clip.files import write_whole
from training.dialects.nxtp.chart import draw_chart
from training.dialects.nxtp.log import read_curves


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description="Draw the loss and the learning rate of a training log.")
    parser.add_argument("log", help="a log of NXTP's, out.log, metrics.jsonl, or a run folder")
    parser.add_argument("--out", nargs=2, default=("loss.svg", "lr.svg"), metavar=("LOSS", "LR"), help="files to write")
    args = parser.parse_args(arguments)
    try:
        curves = read_curves(args.log)
        write_whole(args.out[0], draw_chart("Training loss", curves.loss, x_name=curves.x_name, is_noisy=True))
        write_whole(args.out[1], draw_chart("Learning rate", curves.lr, x_name=curves.x_name))
    except OpenClipError as error:
        print(f"[Error] {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"[Error] {printable(error.filename or args.out)}: {error.strerror}", file=sys.stderr)
        return DataError.exit_status
    print(f"{len(curves.loss):,} points: {printable(args.out[0])}, {printable(args.out[1])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
