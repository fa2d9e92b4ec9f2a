"""What evaluations show beside their figures, drawn from its JSON form alone; trusts nothing in it."""

import re

from open_clip.checked_json import is_number
from training.report.gallery_section import draw_gallery, show_thumbnail
from training.report.jsonl import Record
from training.report.markup import escape, section, user_text
from training.report.run_files import RunFiles, list_of, record_of, records_in

_MAX_ROWS = 200
_MAX_COLUMNS = 60
_MAX_IMAGES = 100
_TITLES = {"retrieval": "Gallery"}


def parts_sections(run: RunFiles) -> list[tuple[str, str, str]]:
    """Draw a section for each evaluation that shows something: its anchor, its name in the menu, its markup."""
    sections = []
    for name, parts in run.parts.items():
        title = _TITLES.get(name, name.replace("-", " ").capitalize())
        anchor = "gallery" if name == "retrieval" else "shown-" + re.sub("[^a-z0-9]+", "-", name.lower())
        drawn = section(anchor, title, *(_draw(part) for part in parts))
        if drawn:
            sections.append((anchor, title, drawn))
    return sections


def _draw(part: Record) -> str:
    kind = part.get("kind")
    if kind == "note":
        return f'<p class="intro">{user_text(part.get("text", ""), 2000)}</p>'
    if kind == "table":
        return _draw_table(part)
    if kind == "images":
        return _draw_images(part)
    # Of a kind that this version does not know, nothing.
    return draw_gallery(part) if kind == "gallery" else ""


def _heading(part: Record) -> str:
    note = part.get("note")
    said = f'<p class="intro">{user_text(note, 600)}</p>' if note else ""
    return f"<h3>{user_text(part.get('title', ''), 160)}</h3>{said}"


def _draw_table(part: Record) -> str:
    rows = [one[:_MAX_COLUMNS] for one in list_of(part.get("rows")) if isinstance(one, list)][:_MAX_ROWS]
    if not rows:
        return ""
    head_part = "".join(_heading_cells(list_of(part.get("head"))[:_MAX_COLUMNS], rows[0]))
    is_shaded = part.get("is_shaded") is True
    body = "".join(f"<tr>{''.join(_cells(row, is_shaded))}</tr>" for row in rows)
    css_class = "plain matrix" if is_shaded else "plain"
    return (
        f'{_heading(part)}<div class="scroll"><table class="{css_class}"><thead><tr>{head_part}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _heading_cells(names: list[object], first_row: list[object]) -> list[str]:
    """Write headings on the side where the cells under them stand."""
    numbers = [is_number(value) for value in first_row] + [False] * len(names)
    sides = (' class="number"' if one else "" for one in numbers)
    return [f'<th scope="col"{side}>{user_text(name, 60)}</th>' for name, side in zip(names, sides, strict=False)]


def _cells(row: list[object], is_shaded: bool) -> list[str]:
    total = sum(one for one in row if is_number(one) and one > 0)
    cells = []
    for value in row:
        if not is_number(value):
            cells.append(f"<td>{user_text('' if value is None else value, 120)}</td>")
            continue
        shown = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
        share = round(100 * value / total) if is_shaded and total > 0 and value > 0 else 0
        style = f' style="--share:{share}%"' if is_shaded else ""
        cells.append(f'<td class="number"{style}>{escape(shown)}</td>')
    return cells


def _draw_images(part: Record) -> str:
    items = []
    for one in records_in(part.get("images"))[:_MAX_IMAGES]:
        said = "".join(f"<p>{user_text(line, 120)}</p>" for line in list_of(one.get("lines")))
        items.append(f"<li>{show_thumbnail(record_of(one.get('thumbnail')), 'image')}{said}</li>")
    return f'{_heading(part)}<ol class="shown">{"".join(items)}</ol>' if items else ""
