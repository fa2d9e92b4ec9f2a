"""Door: logging under upstream's name and signature; it is set up in ``training.report.console``."""

import logging
import platform
from pathlib import Path

from training.report import console


def setup_logging(log_file: str | Path | None, level: int | str, include_host: bool = False) -> None:
    """Send log lines to stderr and to ``log_file``; ``include_host`` says once on which machine."""
    console.setup_logging(log_file, level)
    if include_host:
        logging.getLogger(__name__).info("host %s", platform.node())
