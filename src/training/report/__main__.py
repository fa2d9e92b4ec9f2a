"""Command ``python -m training.report RUN_DIR``: draw the report of a run again. Changes nothing else in the folder."""

import argparse
import logging
import sys
from collections.abc import Sequence

from open_clip.errors import OpenClipError
from training.report.console import setup_logging
from training.report.html import write_report

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of each folder named and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.report", description="Draw report.html of a run again.")
    parser.add_argument("run_dir", nargs="+", help="run folder: the one that holds metrics.jsonl (LOGS_DIR/NAME)")
    folders = parser.parse_args(argv).run_dir
    setup_logging(None)
    try:
        for folder in folders:
            logger.info("Wrote %s", write_report(folder))
    except OpenClipError as error:
        logger.error("%s", error)
        return error.exit_status
    except OSError as error:
        logger.error("cannot write the report: %s; choose a folder with space that can be written to", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
