"""Leave out of a page what names a person, a machine or its place in a network. Knows nothing of reports."""

import contextlib
import getpass
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from open_clip.redaction import HIDDEN, redact

_ADDRESSES = (
    # IPv4 but loopback and any, and not the four numbers of a version.
    re.compile(
        r"(?<!version )(?<!driver )(?<!firmware )(?<!cann )(?<![\w.=-])(?!127\.|0\.0\.0\.0)"
        r"(?:\d{1,3}\.){3}\d{1,3}(?![\w.])"
    ),
    re.compile(r"(?i)(?<![\w:])(?:[0-9a-f]{2}:){5}[0-9a-f]{2}(?![\w:])"),
    re.compile(r"(?i)\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"),
)
# Variables whose values are an address or a machine's name, whatever they look like, or secret by their name.
_TELLING = re.compile(r"ADDR|_IP$|HOST|ENDPOINT|NODE|TOKEN|SECRET|PASS|KEY|CREDENTIAL", re.IGNORECASE)
_ANY_HOME = re.compile(r"/(?:home|Users)/[^/\s:;'\"`|,)]+")
# Names that are words, or everybody's.
_COMMON = {"", "root", "user", "admin", "ubuntu", "test", "localhost", "host", "model", "main"}
_SHORTEST = 3


def hide(text: str) -> str:
    """Replace secrets, this user's and machine's names, home folders and network addresses."""
    text = redact(text)
    for found, shown in _own_paths():
        text = re.sub(rf"{re.escape(found)}(?![\w.-])", shown, text)
    text = _ANY_HOME.sub("~", text)
    for pattern in _ADDRESSES:
        text = pattern.sub(HIDDEN, text)
    # A machine's full name holds its short one.
    for name in sorted(_own_names(), key=len, reverse=True):
        text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", HIDDEN, text)
    return text


def hide_value(name: str, value: str) -> str:
    """Hide an environment variable's value where its name says that it is nobody's business."""
    return HIDDEN if _TELLING.search(name) else hide(value)


def _own_paths() -> Iterator[tuple[str, str]]:
    """Give the folders of this user and installation, longest first, and what stands in their place."""
    project = Path(__file__).resolve().parents[3]
    found = {str(project): "<project>", sys.prefix: "<python>", os.path.expanduser("~"): "~", os.getcwd(): "."}
    for path in sorted(found, key=len, reverse=True):
        if len(path) > 1:
            yield path, found[path]


def _own_names() -> set[str]:
    """Give the names of this user and of this machine that are not everybody's."""
    host = socket.gethostname()
    names = {host, host.partition(".")[0], os.environ.get("HOSTNAME", ""), os.environ.get("SUDO_USER", "")}
    # A container's user need not have a name.
    with contextlib.suppress(OSError, KeyError):
        names.add(getpass.getuser())
    return {name for name in names if len(name) >= _SHORTEST and name.lower() not in _COMMON}
