"""Run rows: make their inputs, hold the answers of both sides against each other, time them in turn."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.equality import MANY_LOSSES, Rule, compare
from benchmarks.inputs import make_inputs
from benchmarks.pair import SideError, SideProcess, alternate, ask_all, prepare_all, start_sides
from benchmarks.results import RowResult
from benchmarks.rows import ROWS, row_class
from benchmarks.settings import SIDES, Settings, Side

_LOG = logging.getLogger(__name__)
_MANY_STEPS = 5
_LINES_SHOWN = 8


class Unequal(Exception):
    """The two sides of a row gave different answers; the figures would mean nothing."""


def run_row(
    name: str, libraries: Mapping[Side, Path], settings: Settings, rounds: int | None, profile: Path | None = None
) -> RowResult:
    """Measure one row; never raises for what the sides do, the result's status tells."""
    result = RowResult(name, unit=row_class(name).unit)
    started = time.monotonic()
    try:
        make_inputs(ROWS[name].inputs, settings)
        _measure(result, libraries, settings, ROWS[name].rounds if rounds is None else rounds, profile)
        result.status = "measured"
    except Unequal:
        result.status = "unequal"
        result.reason = "the two sides gave different answers"
    except SideError as error:
        result.status, result.reason = "failed", str(error)
    result.took_s = round(time.monotonic() - started, 1)
    return result


def _measure(
    result: RowResult, libraries: Mapping[Side, Path], settings: Settings, rounds: int, profile: Path | None
) -> None:
    name, spec = result.name, ROWS[result.name]
    with start_sides(libraries, settings.threads) as sides:
        prepared = prepare_all(sides, name, settings)
        result.facts = prepared["ours"]["facts"]
        check_sides(result, sides, settings, row_class(name).rules)
        measure_rounds(result, sides, rounds if spec.rounds else 0)
        if profile is not None:
            for side, process in sides.items():
                process.ask("profile", path=str(profile / f"{name}-{side}.json"))
    if spec.memory:
        measured: list[Side] = [side for side in SIDES if side in libraries and (side == "ours" or spec.rounds)]
        for side in measured:
            with start_sides({side: libraries[side]}, settings.threads) as sides:
                prepare_all(sides, name, settings)
                result.memory[side] = sides[side].ask("memory")


def measure_rounds(result: RowResult, sides: Mapping[Side, SideProcess], rounds: int) -> None:
    """Time the rounds, A B B A."""
    result.add_rounds([dict(alternate(sides, number)) for number in range(rounds)])


def settings_of(settings: Settings, name: str, tiny: bool) -> Settings:
    """Return the settings of one row: with the sizes of the tests, if asked for, under those of the command line."""
    return replace(settings, sizes={**(row_class(name).tiny if tiny else {}), **settings.sizes})


def check_sides(
    result: RowResult, sides: Mapping[Side, SideProcess], settings: Settings, rules: Mapping[str, Rule]
) -> None:
    """Let both sides answer and compare.

    Raises:
        Unequal: An answer is further away than its rule allows.
    """
    files = {side: settings.path / f"{result.name}-{side}.pt" for side in sides}
    # One after the other: side by side each would take its time from the other's.
    for side, process in sides.items():
        process.ask("check", path=str(files[side]))
    peer, ours = (torch.load(files[side], weights_only=True, mmap=True) for side in SIDES)
    verdicts = compare(peer, ours, _rules_for(rules, settings))
    del peer, ours
    for path in files.values():
        path.unlink()
    if not result.judge(verdicts):
        raise Unequal
    for verdict in verdicts:
        _LOG.info("%s", verdict.sentence())


def _rules_for(rules: Mapping[str, Rule], settings: Settings) -> dict[str, Rule]:
    """Allow losses the rounding of many steps."""
    if settings.checked_steps <= _MANY_STEPS or "losses" not in rules:
        return dict(rules)
    return {**rules, "losses": MANY_LOSSES}


def check_libraries(
    libraries: Mapping[Side, Path], threads: int, device: str | None
) -> tuple[dict[str, dict[str, str]], str]:
    """Ask both sides what they run on; the same torch, and the peer at its pinned version.

    Args:
        libraries: Where each side's library is.
        threads: Threads of each process.
        device: As our trainer takes it; None for the CPU.

    Returns:
        Versions by side, and the device as torch names it.

    Raises:
        SideError: The versions are other ones, or the device cannot be used.
    """
    with start_sides(libraries, threads) as sides:
        answers = ask_all(sides, "versions", device=device)
    found = {side: answer["versions"] for side, answer in answers.items()}
    if "peer" in found and found["peer"]["open_clip"] != "3.3.0":
        raise SideError(
            f"{libraries['peer']} gives open_clip {found['peer']['open_clip']} of {found['peer']['open_clip_folder']}, "
            "not open_clip_torch 3.3.0; `make bench` installs that into .cache/peer"
        )
    if len({versions["torch"] for versions in found.values()}) > 1:
        raise SideError(f"the two sides run on different versions of torch: {found}")
    kept: dict[str, dict[str, str]] = {
        side: {name: value for name, value in versions.items() if not name.endswith("folder")}
        for side, versions in found.items()
    }
    return kept, str(answers["ours"].get("device", "cpu"))


def sentence(result: RowResult) -> Sequence[str]:
    """Say in lines for a person what a row gave."""
    lines = [f"{result.name}: {ROWS[result.name].title[0]}  [{result.took_s:.0f} s]"]
    if result.facts:
        lines.append("  " + ", ".join(f"{name} {value}" for name, value in result.facts.items()))
    if result.reason:
        said = result.reason.splitlines()
        lines += [f"  {result.status.upper()}: {said[0]}", *(f"    {line}" for line in said[1:][-_LINES_SHOWN:])]
    for verdict in result.equality:
        mark = "equal " if verdict["holds"] else "UNEQUAL"
        lines.append(
            f"  {mark} {verdict['what']}: {verdict['largest']:.3g} {verdict['measure']}, limit {verdict['limit']:.3g}, "
            f"{verdict['compared']:,} values" + ("" if verdict["holds"] else f", worst: {verdict['worst']}")
        )
    for clock, ratio in result.ratios.items():
        spread = f"({ratio['low']:.2f} to {ratio['high']:.2f})"
        sides = ", ".join(f"{side} {result.a_unit[side][clock]:.4g} s" for side in result.a_unit)
        lines.append(f"  {clock}: peer / ours {ratio['median']:.2f} {spread}; a unit: {sides} [{result.unit}]")
    for side in result.memory:
        lines.append(f"  peak memory, {side}: {(result.used_bytes(side) or 0) / 1e6:.0f} MB beyond its inputs")
    reached = result.reached()
    if reached is not None:
        lines.append(f"  figure to reach: {'reached' if reached else 'NOT reached'} ({describe_target(result.name)})")
    return lines


def describe_target(name: str) -> str:
    """Say what a row is to reach."""
    spec = ROWS[name]
    parts = [f"{spec.target:g} times faster"] if spec.target else []
    if spec.memory_target:
        parts.append(f"1/{spec.memory_target:g} of the memory")
    if spec.memory_limit:
        parts.append(f"under {spec.memory_limit / 1e9:g} GB")
    return ", ".join(parts)
