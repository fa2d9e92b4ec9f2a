"""Figures of rows: medians and ranges of paired ratios, what they were measured on, and the JSON file of all of it."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.equality import Verdict
from benchmarks.rows import ROWS
from benchmarks.settings import Side, Values

SCHEMA = 1
Status = Literal["measured", "unequal", "failed", "not measured"]


@dataclass
class RowResult:
    """What is known of a row after a run.

    Attributes:
        status: ``unequal`` when the two sides gave different answers; its figures then mean nothing.
        rounds: Seconds and units of each round by side.
        ratios: By clock (``wall_s``, ``cpu_s``, ``device_s``): median, low and high of peer / ours over the rounds.
        a_unit: Seconds of one unit by side and clock, of the round whose ratio is the median: they divide to it.
        memory: Bytes before and at the peak by side, in fresh processes.
        equality: What was compared and how far apart it was.
        facts: What a reader must know of the inputs, token lengths above all.
        reason: Why there are no figures.
    """

    name: str
    unit: str = ""
    status: Status = "not measured"
    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)
    ratios: dict[str, dict[str, float]] = field(default_factory=dict)
    a_unit: dict[str, dict[str, float]] = field(default_factory=dict)
    memory: dict[str, dict[str, int]] = field(default_factory=dict)
    equality: list[Values] = field(default_factory=list)
    facts: Values = field(default_factory=dict)
    reason: str = ""
    took_s: float = 0.0

    def judge(self, verdicts: Sequence[Verdict]) -> bool:
        """Keep what was compared; return whether all of it holds."""
        self.equality = [verdict.as_dict() for verdict in verdicts]
        return all(verdict.holds for verdict in verdicts)

    def add_rounds(self, rounds: Sequence[Mapping[Side, Mapping[str, float]]]) -> None:
        """Keep the rounds and what follows from them."""
        self.rounds = [{side: dict(figures) for side, figures in one.items()} for one in rounds]
        if not rounds:
            return
        clocks = [clock for clock in ("wall_s", "cpu_s", "device_s") if clock in next(iter(rounds[0].values()))]
        sides = list(rounds[0])
        for clock in clocks:
            units = [{side: _per_unit(one[side], clock) for side in sides} for one in rounds]
            if len(sides) < 2:
                self.a_unit.setdefault(sides[0], {})[clock] = statistics.median(unit[sides[0]] for unit in units)
                continue
            units.sort(key=lambda unit: unit["peer"] / unit["ours"])
            ratios = [unit["peer"] / unit["ours"] for unit in units]
            self.ratios[clock] = {"median": statistics.median_low(ratios), "low": ratios[0], "high": ratios[-1]}
            for side, seconds in units[(len(units) - 1) // 2].items():
                self.a_unit.setdefault(side, {})[clock] = seconds

    def used_bytes(self, side: str) -> int | None:
        """Return a side's peak beyond what was in use before; None when it was not measured."""
        found = self.memory.get(side)
        return None if found is None else found["peak_bytes"] - found["before_bytes"]

    def reached(self) -> bool | None:
        """Say whether the figures to reach were reached, on processor time on a host; None when there is none."""
        spec = ROWS[self.name]
        answers: list[bool] = []
        if spec.target is not None and self.ratios:
            answers.append(self.headline()["median"] >= spec.target)
        ours, peer = self.used_bytes("ours"), self.used_bytes("peer")
        if spec.memory_target is not None and ours is not None and peer is not None:
            answers.append(peer / max(ours, 1) >= spec.memory_target)
        if spec.memory_limit is not None and ours is not None:
            answers.append(ours < spec.memory_limit)
        return all(answers) if answers and self.status == "measured" else None

    def headline(self) -> dict[str, float]:
        """Return the ratio that is compared with the target: device time where there is a device, else processor's."""
        return self.ratios.get("device_s") or self.ratios["cpu_s"]


def _per_unit(figures: Mapping[str, float], clock: str) -> float:
    return max(figures[clock], 1e-9) / figures["units"]


def describe_machine(threads: int) -> Values:
    """Describe the machine by what decides speed; nothing that tells who owns it."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()[0].split()[1]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "memory_gb": round(int(memory) * 1024 / 1e9, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "load": round(os.getloadavg()[0], 2),
    }


def describe_commit(root: Path) -> str:
    """Return the commit of the working tree, with a mark when files differ from it."""
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(words, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def write_results(path: Path, run: Values, rows: Sequence[RowResult]) -> None:
    """Write the file of a run, without a path of this machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [asdict(row) | {"reason": row.reason.strip().rpartition("\n")[2]} for row in rows]
    whole = {"schema": SCHEMA, "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "run": dict(run)}
    text = json.dumps({**whole, "rows": kept}, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_results(path: Path) -> tuple[Values, list[RowResult]]:
    """Read what :func:`write_results` wrote."""
    whole = json.loads(path.read_text(encoding="utf-8"))
    if whole.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {whole.get('schema')}, not {SCHEMA}: measure again")
    return whole["run"], [RowResult(**row) for row in whole["rows"]]
