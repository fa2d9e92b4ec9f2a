"""All rows of an accelerator in one pair of processes within a budget of seconds; what is not done is said so."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.driver import Unequal, check_sides, measure_rounds, settings_of
from benchmarks.inputs import make_inputs
from benchmarks.pair import SideError, SideProcess, SideTimeout, prepare_all, start_sides
from benchmarks.results import RowResult
from benchmarks.rows import ROWS, row_class
from benchmarks.settings import SIDES, Settings, Side, Values

# bfloat16 without sparsity, 1e12 operations a second, by a word of the device's name; sources: docs/scaling.md.
PUBLISHED_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "910B": 313, "910C": 376}
# A row that has not ended by then is given up, so that the rows after it are measured.
_ROW_LIMIT_S = 150.0


class DeviceRun:
    """Runs rows one after the other on processes that live as long as they can."""

    def __init__(self, libraries: Mapping[Side, Path], settings: Settings, budget_s: float) -> None:
        self.libraries = libraries
        self.settings = settings
        self._ends = time.monotonic() + budget_s
        self._stack = contextlib.ExitStack()
        self._sides: dict[Side, SideProcess] | None = None
        self.peak: Values = {}

    def run(
        self, names: Sequence[str], rounds: int | None, tiny: bool, tell: Callable[[RowResult], None]
    ) -> list[RowResult]:
        """Measure the device's peak, then the rows; each result is told when it is there."""
        results: list[RowResult] = []
        try:
            self._measure_peak(tiny)
            for name in names:
                result = RowResult(name, unit=row_class(name).unit)
                self._run_row(result, rounds, tiny)
                add_rates(result, self.peak, results)
                results.append(result)
                tell(result)
        finally:
            self._stack.close()
        return results

    def _measure_peak(self, tiny: bool) -> None:
        sides = self._started()
        self.peak = sides["ours"].ask("peak", side="ours", device=self.settings.device, tiny=tiny)
        names = [word for word in PUBLISHED_TFLOPS if word in self.peak["name"]]
        self.peak["published_flops"] = PUBLISHED_TFLOPS[names[0]] * 1e12 if names else None

    def _run_row(self, result: RowResult, rounds: int | None, tiny: bool) -> None:
        started = time.monotonic()
        left = self._ends - started
        if left < min(20.0, _ROW_LIMIT_S):
            result.reason = "no time was left for it"
            return
        try:
            self._measure(result, rounds, tiny, min(left, _ROW_LIMIT_S))
            result.status = "measured"
        except Unequal:
            result.status, result.reason = "unequal", "the two sides gave different answers"
        except SideTimeout as error:
            result.status, result.reason = "not measured", str(error)
            self._restart()
        except SideError as error:
            result.status, result.reason = "failed", str(error)
            self._restart()
        result.took_s = round(time.monotonic() - started, 1)

    def _measure(self, result: RowResult, rounds: int | None, tiny: bool, limit_s: float) -> None:
        name, spec = result.name, ROWS[result.name]
        settings = settings_of(self.settings, name, tiny)
        make_inputs(spec.inputs, settings)
        sides = self._started()
        for process in sides.values():
            process.give_time(limit_s)
        prepared = prepare_all(sides, name, settings)
        result.facts = {**prepared["peer"]["facts"], **prepared["ours"]["facts"]}
        check_sides(result, sides, settings, row_class(name).rules)
        timed = {side: sides[side] for side in spec.timed}
        measure_rounds(result, timed, spec.rounds if rounds is None else rounds)
        if spec.memory:
            result.memory = {side: process.ask("memory") for side, process in timed.items()}
        for process in sides.values():
            process.ask("close")

    def _started(self) -> dict[Side, SideProcess]:
        if self._sides is None:
            self._sides = self._stack.enter_context(start_sides(self.libraries, self.settings.threads))
        return self._sides

    def _restart(self) -> None:
        """End the processes; what a failed row left on the device goes with them."""
        self._stack.close()
        self._sides = None


def add_rates(result: RowResult, peak: Values, earlier: Sequence[RowResult]) -> None:
    """Put samples a second into the facts, operations a second on the peer's count, and shares of the peaks."""
    batch = result.facts.get("batch")
    if result.status != "measured" or not result.a_unit or batch is None:
        return
    each = 1 if result.unit == "samples" else batch
    rates = {side: each / _clock(result.a_unit[side]) for side in SIDES if side in result.a_unit}
    result.facts["samples a second"] = {side: round(rate, 1) for side, rate in rates.items()}
    operations = result.facts.get("peer's operations a sample and step")
    if operations:
        for side, rate in rates.items():
            flops = rate * operations
            shares = {"TFLOP a second": round(flops / 1e12, 1), "of the measured peak": flops / peak["flops"]}
            if peak.get("published_flops"):
                shares["of the published peak"] = flops / peak["published_flops"]
            result.facts[side] = {name: round(value, 4) for name, value in shares.items()}
    synthetic = ROWS[result.name].options.get("synthetic")
    for row in earlier:
        if row.name == synthetic and row.status == "measured":
            result.facts["of the synthetic rate"] = round(rates["ours"] / row.facts["samples a second"]["ours"], 3)


def _clock(figures: Mapping[str, float]) -> float:
    return figures.get("device_s") or figures["wall_s"]
