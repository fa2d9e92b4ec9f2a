"""Tables and code of a Markdown page, with foreign text in it that cannot break out or call anybody. No report."""

from collections.abc import Iterable, Sequence


def code(text: object) -> str:
    """Write foreign text as code in a line: there it links to nothing and calls nobody."""
    flat = " ".join(str(text).split()).replace("`", "'")
    return f"`{flat}`" if flat else ""


def block(text: str) -> list[str]:
    """Write foreign text as a block of code."""
    return ["```text", *text.replace("```", "'''").splitlines(), "```"]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out a table; every row has a cell for each column."""

    def line(cells: Sequence[str]) -> str:
        # A stroke ends a cell even inside code.
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(columns), line(["---"] * len(columns)), *map(line, rows)]


def folded(title: str, lines: Sequence[str]) -> list[str]:
    """Fold lines away behind a title."""
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>"]
