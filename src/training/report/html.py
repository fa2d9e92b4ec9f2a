"""Writes ``report.html``: one file that shows a whole run and opens without network. Changes nothing else."""

import base64
import hashlib
import logging
from importlib.resources import files
from pathlib import Path

from open_clip.errors import DataError
from open_clip.files import write_whole
from training.report.details import configuration, events, hardware
from training.report.markup import escape
from training.report.parts import parts_sections
from training.report.run_curves import evaluation_curves, training_curves
from training.report.run_files import RunFiles, read_run
from training.report.sections import headline, key_figures, recall_name, recall_section, title_of

logger = logging.getLogger(__name__)

REPORT_NAME = "report.html"


def write_report(run_dir: str | Path) -> Path:
    """Read a run folder and write its report, whole or not at all.

    Pieces of the run that are missing (no evaluation yet) are left out of the page.

    Returns:
        Path of the report.

    Raises:
        DataError: The folder is not there.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise DataError(f"no run folder at {folder}; give the folder that holds metrics.jsonl (LOGS_DIR/NAME)")
    path = folder / REPORT_NAME
    write_whole(path, render_page(read_run(folder)))
    return path


def render_page(run: RunFiles) -> str:
    """Write the page of a run as HTML."""
    sections = [
        ("figures", "", key_figures(run)),
        ("recall", recall_name(run), recall_section(run)),
        ("curves", "Training", training_curves(run)),
        ("evaluations", "Evaluation", evaluation_curves(run)),
        *parts_sections(run),
        ("configuration", "Configuration", configuration(run)),
        ("hardware", "Hardware", hardware(run)),
        ("events", "Events", events(run)),
    ]
    body = "".join(drawn for _, _, drawn in sections)
    named = [(anchor, name) for anchor, name, drawn in sections if name and drawn]
    menu = "".join(f'<a href="#{anchor}">{escape(name, 40)}</a>' for anchor, name in named)
    style, script = _read_part("page.css"), _read_part("page.js")
    # The page may load nothing and run nothing but its own script, whatever a caption tries.
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<title>{escape(title_of(run), 120)}</title><link rel="icon" href="data:,"><style>{style}</style></head>\n'
        f"<body><main>{headline(run)}<nav>{menu}</nav>{body}"
        "<footer>Figures come from metrics.jsonl, summary.json and evaluations.json beside this file; "
        "<code>python -m training.report RUN_DIR</code> draws it again.</footer></main>\n"
        f"<script>{script}</script></body></html>\n"
    )


def _read_part(name: str) -> str:
    return files("training.report").joinpath(name).read_text(encoding="utf-8")
