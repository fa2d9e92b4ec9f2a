"""Small pieces of HTML: escaping, tables, lists of facts. The only place that decides what text may become markup."""

import datetime
import html
from collections.abc import Sequence

from open_clip.checked_json import is_number

MAX_TEXT = 300


def escape(value: object, limit: int | None = None) -> str:
    """Write a value as text that HTML cannot take for markup, cut at ``limit`` characters.

    Characters that no HTML page may hold (control characters, lone surrogates) become a replacement character.
    """
    text = str(value)
    if limit is not None and len(text) > limit:
        text = text[: limit - 1].rstrip() + "\u2026"
    clean = "".join(one if one in "\t\n" or _is_allowed(one) else "\ufffd" for one in text)
    return html.escape(clean, quote=True)


def user_text(value: object, limit: int = MAX_TEXT) -> str:
    """Write text from the outside; its writing direction cannot leak into the page around it."""
    return f"<bdi>{escape(value, limit)}</bdi>"


def short_path(value: object, limit: int = 48) -> str:
    """Write a path that is too long with its middle left out, its end in sight and the whole of it under the pointer.

    Other text comes back as :func:`user_text` writes it.
    """
    text = str(value)
    if len(text) <= limit or "/" not in text or any(one.isspace() for one in text):
        return user_text(text)
    *_, folder, name = text.rsplit("/", 2) if text.count("/") > 1 else ("", text)
    tail = f"/{folder}/{name}" if len(folder) + len(name) + 2 <= limit * 2 // 3 else f"/{name}"
    if len(tail) > limit:
        tail = f"{tail[: limit // 2]}\u2026{tail[-limit // 2 :]}"
    head = text[: max(1, limit - len(tail) - 1)]
    shown = f"{head}\u2026{tail}" if len(head) + len(tail) < len(text) else text
    return f'<bdi title="{escape(text, 4 * MAX_TEXT)}">{escape(shown, MAX_TEXT)}</bdi>'


def moment(seconds: object, form: str) -> str:
    """Write a time in seconds since 1970; nothing for what is none."""
    try:
        return datetime.datetime.fromtimestamp(seconds).strftime(form) if is_number(seconds) else ""
    except (ValueError, OverflowError, OSError):
        return ""


def percent(share: float) -> str:
    """Write a share of one in per cent."""
    return f"{100 * share:.1f}\u00a0%"


def section(anchor: str, title: str, *content: str, intro: str = "") -> str:
    """Wrap content into a section; an empty string when there is none."""
    body = "".join(content)
    if not body:
        return ""
    intro_part = f'<p class="intro">{escape(intro)}</p>' if intro else ""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{intro_part}{body}</section>'


def fact_list(facts: Sequence[tuple[str, object]]) -> str:
    """Lay out names and values in two columns; facts that are None are left out."""
    rows = [
        f"<div><dt>{escape(name)}</dt><dd>{short_path(value)}</dd></div>" for name, value in facts if value is not None
    ]
    return f'<dl class="facts">{"".join(rows)}</dl>' if rows else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], css_class: str = "") -> str:
    """Lay out rows of ready markup under plain-text headings; wide tables scroll by themselves."""
    if not rows:
        return ""
    head_part = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body_part = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="{css_class}"><thead><tr>{head_part}</tr></thead>'
        f"<tbody>{body_part}</tbody></table></div>"
    )


def _is_allowed(character: str) -> bool:
    code = ord(character)
    return code >= 0x20 and not 0x7F <= code <= 0x9F and not 0xD800 <= code <= 0xDFFF and code & 0xFFFE != 0xFFFE
