#!/usr/bin/env python3
"""Write docs/flags.md from the trainer's own help texts; ``--check`` says whether the page is up to date.

Writes the English page only: docs/flags.zh.md is written by hand and held to the same flags by a test.
"""

import argparse
import re
import sys
from pathlib import Path

from training.params import make_parser
from training.params.plugins import class_names, find_class

PAGE = Path(__file__).resolve().parents[1] / "docs" / "flags.md"
_HEAD = """\
# Trainer flags

[中文](flags.zh.md) · [README](../README.md)

All flags of `python -m training.main`. Names, meanings and defaults are those of OpenCLIP's trainer where it has them.
A flag may be shortened while it stays unambiguous, a misspelt one stops the run and names the nearest, and
`--config FILE` reads any of them from YAML (`batch_size: 128`). This page is written by `python tools/flag_pages.py`
from the flags' own help texts.
"""
_GENERAL = "General"
_DEFAULT = re.compile(r"\s*\(default: (.+)\)$")


def write_page() -> str:
    """Lay out every flag of the parser, a table a group."""
    parts = [_HEAD]
    for group in (*make_parser()._action_groups, *recipe_groups()):
        actions = [action for action in group._group_actions if action.dest != "help"]
        if actions:
            title = _GENERAL if group.title in ("options", "optional arguments") else group.title
            parts.append(f"\n## {title}\n\n| flag | default | meaning |\n| --- | --- | --- |\n")
            parts += [_row(action) for action in actions]
    return "".join(parts)


def recipe_groups() -> list[argparse._ArgumentGroup]:
    """Give the flags that recipes declare themselves, under headings that say with which ``--task`` they are there."""
    groups = []
    for name in class_names("training.tasks"):
        own = getattr(find_class(name, "--task", "training.tasks"), "Flags", None)
        if own is not None:
            group = make_parser(own)._action_groups[-1]
            group.title = f"{group.title} (`--task {name}`)"
            groups.append(group)
    return groups


def _row(action: argparse.Action) -> str:
    flags = ", ".join(f"`{option}`" for option in action.option_strings)
    text = (action.help or "").replace("%%", "%")
    stated = _DEFAULT.search(text)
    meaning = _DEFAULT.sub("", text)
    if action.choices:
        meaning += f"; one of {', '.join(f'`{choice}`' for choice in action.choices)}"
    cells = (flags, _default(action, stated[1] if stated else None), meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _default(action: argparse.Action, stated: str | None) -> str:
    if action.nargs == 0:
        return "off"
    if action.default is None:
        return stated or "-"
    if action.default in ("", {}):
        return "-"
    return "`TAB`" if action.default == "\t" else f"`{action.default}`"


def main(words: list[str] | None = None) -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description="Write docs/flags.md from the trainer's help texts.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page is out of date")
    options = parser.parse_args(words)
    page = write_page()
    if not options.check:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page:
        return 0
    print("docs/flags.md is out of date; run `python tools/flag_pages.py`.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
