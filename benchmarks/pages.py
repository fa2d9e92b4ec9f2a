"""Write the tables of docs/performance.md and its twin, and their plots, from the files of figures.

``python -m benchmarks.pages`` writes them anew, ``--check`` says whether they are up to date.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.plot import CHINESE, ENGLISH, Bar, draw
from benchmarks.results import RowResult, read_results
from benchmarks.rows import ROWS
from benchmarks.settings import Values

DOCS = Path(__file__).resolve().parents[1] / "docs"
FIGURES, DEVICE_FIGURES = "performance.json", "performance-device.json"
LANGUAGES = ("en", "zh")
_MARKED = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_CLOCKS = ("cpu_s", "wall_s")

Run = Values
Rows = list[tuple[str, ...]]


def _pick(language: str, english: str, chinese: str) -> str:
    return english if language == "en" else chinese


def _title(row: RowResult, language: str) -> str:
    return ROWS[row.name].title[LANGUAGES.index(language)]


def _ratio(row: RowResult, clock: str) -> str:
    found = row.ratios.get(clock)
    return "" if found is None else f"{found['median']:.2f} ({found['low']:.2f}–{found['high']:.2f})"


def _seconds(value: float) -> str:
    if value >= 0.1:
        return f"{value:.3g} s"
    return f"{value * 1e3:.3g} ms" if value >= 1e-4 else f"{value * 1e6:.3g} µs"


def _megabytes(value: int | None) -> str:
    return "" if value is None else f"{value / 1e6:,.0f}"


def _reached(row: RowResult, language: str) -> str:
    if row.status != "measured":
        words = {"unequal": ("answers differ", "结果不一致"), "failed": ("failed", "失败")}
        return _pick(language, *words.get(row.status, ("not measured", "未测")))
    found = row.reached()
    return "" if found is None else _pick(language, *(("yes", "是") if found else ("no", "否")))


def table_times(run: Run, rows: Sequence[RowResult], language: str) -> Rows:
    """List times and their ratios."""
    found: Rows = []
    for row in rows:
        target = ROWS[row.name].target
        sides = [_seconds(row.a_unit[side]["cpu_s"]) if side in row.a_unit else "" for side in ("peer", "ours")]
        if row.ratios or row.status != "measured":
            ratios = [_ratio(row, clock) for clock in _CLOCKS]
            cells = (f"`{row.name}`", _title(row, language), *sides, *ratios, f"{target:g}" if target else "")
            found.append((*cells, _reached(row, language)))
    return found


def table_memory(run: Run, rows: Sequence[RowResult], language: str) -> Rows:
    """List peaks of memory."""
    found: Rows = []
    for row in rows:
        peer, ours, spec = row.used_bytes("peer"), row.used_bytes("ours"), ROWS[row.name]
        if ours is None:
            continue
        ratio = "" if peer is None else f"{peer / max(ours, 1):.1f}"
        target = "" if spec.memory_target is None else f"1/{spec.memory_target:g}"
        if spec.memory_limit is not None:
            target = f"< {spec.memory_limit / 1e6:,.0f} MB"
        cells = (f"`{row.name}`", _title(row, language), _megabytes(peer), _megabytes(ours), ratio, target)
        found.append((*cells, _memory_reached(row, peer, ours, language)))
    return found


def _memory_reached(row: RowResult, peer: int | None, ours: int, language: str) -> str:
    spec = ROWS[row.name]
    answers: list[bool] = []
    if spec.memory_target is not None and peer is not None:
        answers.append(peer / max(ours, 1) >= spec.memory_target)
    if spec.memory_limit is not None:
        answers.append(ours < spec.memory_limit)
    return _pick(language, *(("yes", "是") if all(answers) else ("no", "否"))) if answers else ""


def table_equality(run: Run, rows: Sequence[RowResult], language: str) -> Rows:
    """List what was compared and how far apart it was."""
    measures = {
        "identical": "完全一致",
        "absolute": "绝对差",
        "of the maximum": "占张量最大值",
        "relative": "相对差",
        "on average": "平均差",
    }
    found: Rows = []
    for row in rows:
        for verdict in row.equality:
            measure = _pick(language, verdict["measure"], measures[verdict["measure"]])
            largest = f"{verdict['largest']:.2g}" if verdict["largest"] else "0"
            limit = f"{verdict['limit']:.2g}" if verdict["limit"] else "0"
            counted = f"{verdict['compared']:,}"
            found.append((f"`{row.name}`", verdict["what"], measure, largest, limit, counted))
    return found


def table_inputs(run: Run, rows: Sequence[RowResult], language: str) -> Rows:
    """List the token lengths of each row that reads captions."""
    found: Rows = []
    for row in rows:
        lengths = row.facts.get("token lengths")
        if lengths:
            found.append((f"`{row.name}`", *(f"{lengths[name]:g}" for name in ("mean", "p95", "max"))))
    return found


def table_machine(run: Run, rows: Sequence[RowResult], language: str) -> Rows:
    """Say what the figures were measured on."""
    machine, versions = run["machine"], run["versions"]
    named = "processor|cores|torch threads|memory GB|system|load at the start|commit|seed|captions|images"
    chinese = "处理器|核数|torch 线程|内存 GB|系统|开始时的负载|提交|种子|描述|图像"
    values = [machine[name] for name in ("processor", "cores", "threads", "memory_gb", "system", "load")]
    values += [run[name] for name in ("commit", "seed", "captions", "images")]
    found: Rows = [
        (name, str(value)) for name, value in zip(_pick(language, named, chinese).split("|"), values, strict=True)
    ]
    found += [
        (name, f"{versions['peer'].get(name, '-')} / {versions['ours'][name]}") for name in sorted(versions["ours"])
    ]
    return found


def table_device(run: Run, rows: Sequence[RowResult], language: str) -> Rows:
    """List rates on an accelerator; one line that says so where none was measured."""
    if not rows:
        return [
            (_pick(language, "not measured yet: no accelerator was at hand", "尚未测量：没有可用的加速器"), *[""] * 7)
        ]
    found: Rows = []
    for row in rows:
        rates, ours = row.facts.get("samples a second", {}), row.facts.get("ours", {})
        cells = [f"{rates[side]:,.0f}" if side in rates else "" for side in ("peer", "ours")]
        cells.append(_ratio(row, "device_s") or _ratio(row, "wall_s"))
        cells += [f"{100 * ours[name]:.1f} %" if name in ours else "" for name in _PEAKS]
        tars = row.facts.get("of the synthetic rate")
        cells.append("" if tars is None else f"{100 * tars:.0f} %")
        found.append((_title(row, language), *cells, _reached(row, language)))
    return found


_PEAKS = ("of the measured peak", "of the published peak")
TABLES: dict[str, tuple[Callable[[Run, Sequence[RowResult], str], Rows], str, str, str]] = {
    "times": (
        table_times,
        FIGURES,
        "row|what|peer, CPU a unit|ours, CPU a unit|CPU ratio|wall ratio|to reach|reached",
        "行|内容|对方每单位 CPU|本项目每单位 CPU|CPU 比值|墙钟比值|目标|达到",
    ),
    "memory": (
        table_memory,
        FIGURES,
        "row|what|peer MB|ours MB|ratio|to reach|reached",
        "行|内容|对方 MB|本项目 MB|比值|目标|达到",
    ),
    "inputs": (table_inputs, FIGURES, "row|mean tokens|p95|max", "行|平均词元数|p95|最大"),
    "equality": (
        table_equality,
        FIGURES,
        "row|compared|how|largest difference|limit|values",
        "行|比较对象|方式|最大差|上限|数值个数",
    ),
    "machine": (table_machine, FIGURES, "what|value (peer / ours for versions)", "项目|值（版本为对方 / 本项目）"),
    "device": (
        table_device,
        DEVICE_FIGURES,
        "row|peer samples/s|ours samples/s|ratio|ours, of the measured peak|of the published peak|of the synthetic rate"
        "|reached",
        "行|对方 样本/秒|本项目 样本/秒|比值|本项目占实测峰值|占公布峰值|占合成数据速率|达到",
    ),
}


def lay_out(name: str, language: str, docs: Path) -> str:
    """Write one table."""
    make, file, english, chinese = TABLES[name]
    heads = _pick(language, english, chinese).split("|")
    run, rows = read_results(docs / file) if (docs / file).exists() else ({}, [])
    cells = make(run, rows, language) if rows or file == DEVICE_FIGURES else []
    assert all(len(row) == len(heads) for row in cells)
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in cells)]) + "\n"


def make_bars(rows: Sequence[RowResult], language: str) -> list[Bar]:
    """Choose what the plot shows: ratios of time, and of memory where both sides were measured."""
    bars = []
    for row in rows:
        if row.status != "measured":
            continue
        spec, found = ROWS[row.name], row.ratios.get("cpu_s")
        if found is not None:
            bars.append(Bar(_title(row, language), found["median"], found["low"], found["high"], spec.target))
        peer, ours = row.used_bytes("peer"), row.used_bytes("ours")
        if peer is not None and ours is not None:
            ratio = peer / max(ours, 1)
            bars.append(Bar(_title(row, language), ratio, ratio, ratio, spec.memory_target, is_memory=True))
    return bars


def renew(docs: Path) -> dict[Path, str]:
    """Return what each page and each plot should hold."""
    _, rows = read_results(docs / FIGURES) if (docs / FIGURES).exists() else ({}, [])
    wanted = {}
    for language, suffix, words in (("en", "", ENGLISH), ("zh", ".zh", CHINESE)):
        page = docs / f"performance{suffix}.md"
        text = page.read_text(encoding="utf-8")

        def write(match: re.Match[str], language: str = language) -> str:
            return match[1] + lay_out(match[2], language, docs) + match[3]

        wanted[page] = _MARKED.sub(write, text)
        wanted[docs / f"performance{suffix}.svg"] = draw(make_bars(rows, language), words)
    return wanted


def main(words: Sequence[str] | None = None) -> int:
    """Write the pages and plots, or check them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is out of date")
    options = parser.parse_args(words)
    stale = []
    for path, text in renew(DOCS).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if not options.check:
                path.write_text(text, encoding="utf-8")
    if options.check and stale:
        print(f"out of date: {', '.join(stale)}; run `python -m benchmarks.pages`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
