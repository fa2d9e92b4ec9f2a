"""The trainer: `python -m training.main`. Importing it makes sure that `open_clip` is the library it came with."""

import importlib.util
import re
import sys
from pathlib import Path

_OWN_MARK = "+portable"


def name_other_library() -> str | None:
    """Say which other project answers to `import open_clip` here and what to do; None when it is this one's library.

    open_clip_torch has the same import name: installed over this project, or first on the path, it takes its place.
    """
    spec = importlib.util.find_spec("open_clip")
    own_folder = Path(__file__).resolve().parent.parent
    if spec is None or spec.origin is None:
        return (
            f"`import open_clip` finds nothing. This trainer needs the one beside it: put {own_folder} on PYTHONPATH."
        )
    folder = Path(spec.origin).parent
    try:
        text = (folder / "version.py").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    found = re.search(r"^__version__ = ['\"](.+?)['\"]", text, re.MULTILINE)
    version = found[1] if found else "of an unknown version"
    if _OWN_MARK in version:
        return None
    return (
        f"`import open_clip` finds another project of that name, {version} in {folder}. This trainer needs the library "
        "it came with. Run `pip uninstall open_clip_torch`, then `pip install -e .` in the folder of this project; or "
        f"put {own_folder} first on PYTHONPATH."
    )


def _refuse_other_library() -> None:
    message = name_other_library()
    if message is None:
        return
    if sys.argv[:1] == ["-m"]:
        # A command of ours is starting: its user gets the sentence, not a traceback.
        sys.stderr.write(f"{message}\n")
        raise SystemExit(2)
    raise ImportError(message)


_refuse_other_library()
