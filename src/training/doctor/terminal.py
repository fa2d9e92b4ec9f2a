"""What a person reads while the doctor works: labelled lines, and one that says what is running now."""

import shutil
import sys
import textwrap

_LABEL_WIDTH = 12


def say(label: str, text: str) -> None:
    """Print a line behind its label; a terminal's width breaks it under itself, a file gets it whole."""
    head = f"{label:<{_LABEL_WIDTH}} "
    if not sys.stdout.isatty():
        print(f"{head}{text}", flush=True)
        return
    clear_running()
    width = max(shutil.get_terminal_size().columns, 40)
    indent = " " * len(head)
    # Paths and commands are for copying: they are not cut apart.
    lines = textwrap.wrap(
        text, width, initial_indent=head, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    print("\n".join(lines) or head, flush=True)


def say_running(label: str, text: str) -> None:
    """Show in a terminal what is running, on a line that the next one replaces."""
    if sys.stdout.isatty():
        width = max(shutil.get_terminal_size().columns, 40) - 1
        print("\r" + f"{label:<{_LABEL_WIDTH}} {text}"[:width].ljust(width), end="", flush=True)


def clear_running() -> None:
    """Take away what :func:`say_running` left."""
    if sys.stdout.isatty():
        print("\r\x1b[K", end="")
