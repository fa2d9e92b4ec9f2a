"""What became of the parts of a report, and the page that says so."""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from open_clip.version import __version__
from training.doctor.findings import STATES, Finding
from training.doctor.machine import Fact
from training.doctor.parts import Conditions, Part
from training.doctor.private import hide

_LONG_TABLE = 16
_NEVER_TRIED = (
    "more than two cards, several machines, FSDP, apex, --torchcompile, published weights, and runs of more than a few "
    "minutes"
)


@dataclass
class Outcome:
    """What became of a part.

    Attributes:
        part: The part.
        findings: What it found, as far as it came.
        notes: What libraries warned of meanwhile.
        failure: Why it ended before its time; empty when it did not.
        skipped: Why it was not begun; empty when it was.
        seconds: How long it took.
    """

    part: Part
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failure: str = ""
    skipped: str = ""
    seconds: float = 0.0

    @property
    def is_bad(self) -> bool:
        """Whether something failed or is not what it should be."""
        return bool(self.failure) or any(finding.state in ("wrong", "failed") for finding in self.findings)

    def describe(self) -> str:
        """Count what was found, in one line."""
        if self.skipped:
            return f"not tried: {self.skipped}"
        counts = {state: sum(finding.state == state for finding in self.findings) for state in STATES}
        parts = [f"{count} {state}" for state, count in counts.items() if count]
        if self.failure:
            parts.append(f"stopped: {self.failure}")
        return ", ".join(parts) or "nothing found"


@dataclass
class Page:
    """A report: what was measured under which conditions, and what was found.

    Attributes:
        title: What the device is.
        conditions: What was measured.
        started: When, in UTC.
        facts: The environment.
        variables: Environment variables of the device, their values fit to be shown.
        tools: Output of the vendors' tools, by command.
        outcomes: The parts.
        seconds: What all took.
        is_whole: Whether nothing is still to come.
    """

    title: str
    conditions: Conditions
    started: datetime.datetime
    facts: list[Fact] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    is_whole: bool = False

    def write(self) -> str:
        """Lay the page out as Markdown, without what names a person or a machine."""
        lines = [f"# Device report: {self.title}", "", self._summary(), ""]
        rows = [
            (outcome.part.title, _mark(outcome), _code(outcome.describe()), f"{outcome.seconds:.0f}")
            for outcome in self.outcomes
        ]
        lines += _table(("Part", "Result", "Found", "Seconds"), rows)
        facts = [(label, "<br>".join(_code(text) for text in texts)) for label, texts in _by_label(self.facts).items()]
        lines += ["", "## Environment", "", *_table(("What", "Found"), facts)]
        lines += self._environment()
        for outcome in self.outcomes:
            if not outcome.skipped:
                lines += ["", f"## {outcome.part.title}", "", *_section(outcome)]
        lines += ["", "## What was not tried", "", *self._not_tried(), ""]
        return hide("\n".join(lines))

    def _summary(self) -> str:
        counts = [finding.state for outcome in self.outcomes for finding in outcome.findings]
        told = ", ".join(f"{counts.count(state)} {state}" for state in STATES if state in counts)
        how = f"`python -m training.doctor --report` of open_clip {__version__}, {self.started:%Y-%m-%d %H:%M} UTC"
        size = f"model {self.conditions.model} with random weights, batch {self.conditions.batch_size}"
        whole = "" if self.is_whole else " **This report is not whole: it was stopped.**"
        return f"{how}; {size}; {self.seconds:.0f} s in all. Of {len(counts)} trials: {told or 'none'}.{whole}"

    def _environment(self) -> list[str]:
        lines = []
        if self.variables:
            rows = [(_code(name), _code(value)) for name, value in self.variables.items()]
            lines += ["", *_folded("Environment variables", _table(("Variable", "Value"), rows))]
        for command, text in self.tools.items():
            lines += ["", *_folded(command, _block(text))]
        return lines

    def _not_tried(self) -> list[str]:
        reasons = [f"{outcome.part.title}: {outcome.skipped}" for outcome in self.outcomes if outcome.skipped]
        for outcome in self.outcomes:
            reasons += [f"{one.what}: {one.why}" for one in outcome.findings if one.state == "not tried"]
            if outcome.failure:
                reasons.append(f"{outcome.part.title}, what was still to come: {outcome.failure}")
        return [*(f"- {_code(reason)}" for reason in reasons), f"- No report tries {_NEVER_TRIED}."]


def _by_label(facts: list[Fact]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for fact in facts:
        grouped.setdefault(fact.label, []).append(fact.text)
    return grouped


def _mark(outcome: Outcome) -> str:
    if outcome.skipped:
        return "not tried"
    return "**see below**" if outcome.is_bad else "ok"


def _section(outcome: Outcome) -> list[str]:
    lines = [outcome.part.about, ""] if outcome.part.about else []
    columns = list(dict.fromkeys(name for finding in outcome.findings for name in finding.cells))
    rows = [
        (finding.what, *(_cell(name, finding) for name in columns), _result(finding)) for finding in outcome.findings
    ]
    whole = _table(("What", *columns, "Result"), rows) if rows else ["Nothing was found."]
    is_foldable = len(rows) > _LONG_TABLE and not outcome.is_bad
    lines += _folded(f"{len(rows)} rows", whole) if is_foldable else whole
    if outcome.failure:
        lines += ["", f"Stopped before its end: {_code(outcome.failure)}"]
    if outcome.notes:
        lines += ["", "Warnings of libraries:", "", *(f"- {_code(note)}" for note in outcome.notes)]
    return lines


def _cell(name: str, finding: Finding) -> str:
    text = finding.cells.get(name, "")
    # Figures are ours; answers quote libraries.
    return _code(text) if name in ("answer", "seen") else text


def _result(finding: Finding) -> str:
    if finding.state == "ok":
        return "ok"
    return f"**{finding.state}**: {_code(finding.why)}"


def _code(text: object) -> str:
    """Write foreign text as code in a line: there it links to nothing and calls nobody."""
    flat = " ".join(str(text).split()).replace("`", "'")
    return f"`{flat}`" if flat else ""


def _block(text: str) -> list[str]:
    """Write foreign text as a block of code."""
    return ["```text", *text.replace("```", "'''").splitlines(), "```"]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out a table; every row has a cell for each column."""

    def line(cells: Sequence[str]) -> str:
        # A stroke ends a cell even inside code.
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(columns), line(["---"] * len(columns)), *map(line, rows)]


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    """Fold lines away behind a title."""
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>"]
