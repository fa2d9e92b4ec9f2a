"""``python -m benchmarks [ROW ...]``: choose rows, measure them, print and write the figures."""

import argparse
import fnmatch
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.device_run import DeviceRun
from benchmarks.driver import check_libraries, run_row, sentence, settings_of
from benchmarks.inputs import describe_inputs
from benchmarks.pair import ROOT, SideError
from benchmarks.results import RowResult, describe_commit, describe_machine, write_results
from benchmarks.rows import ROWS
from benchmarks.settings import Settings, Side, Values

# Leaves a minute of eight for installing and for the last row's end.
_DEVICE_BUDGET_S = 400.0


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="*", help="names of rows, or patterns such as 'loader-*'; all when none is given")
    parser.add_argument("--list", action="store_true", help="list the rows and end")
    parser.add_argument("--rounds", type=int, help="timed rounds a side; a row's own number when not given")
    parser.add_argument("--seed", type=int, default=0, help="starts every random generator")
    parser.add_argument("--captions", help="text file with one caption a line, used in place of made-up captions")
    parser.add_argument("--images", help="folder of JPEGs, used in place of made-up images")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch, the same for both sides")
    parser.add_argument("--checked-steps", type=int, default=3, help="training steps whose losses are compared")
    parser.add_argument("--device", help="run an accelerator's rows on it: a name, auto, or cpu to try them out")
    parser.add_argument("--size", action="append", default=[], metavar="NAME=VALUE", help="replace a size of the rows")
    parser.add_argument("--budget-s", type=float, help="start no further row after so many seconds")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--folder", help="where inputs lie while it runs; the system's temporary folder if not given")
    parser.add_argument("--profile", type=Path, help="folder for a trace of one round of each side")
    parser.add_argument("--tiny", action="store_true", help="sizes of the tests: everything runs, no figure means much")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Measure; return 1 when a row's two sides differ or a row failed."""
    options = make_parser().parse_args(words)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if options.list:
        for name, spec in ROWS.items():
            print(f"{name:<26}{spec.title[0]}")
        return 0
    peer_path = os.environ.get("OPENCLIP_PEER_PATH")
    if not peer_path:
        print(
            "OPENCLIP_PEER_PATH must name a folder that holds open_clip_torch 3.3.0; `make bench` makes one.",
            file=sys.stderr,
        )
        return 2
    libraries: dict[Side, Path] = {"peer": Path(peer_path), "ours": ROOT / "src"}
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        settings = Settings(
            folder=folder,
            seed=options.seed,
            threads=options.threads,
            captions=options.captions and os.path.abspath(options.captions),
            images=options.images and os.path.abspath(options.images),
            checked_steps=options.checked_steps,
            sizes=_read_sizes(options.size),
        )
        try:
            return _run(options, libraries, settings)
        except SideError as error:
            print(error, file=sys.stderr)
            return 1


def _run(options: argparse.Namespace, libraries: dict[Side, Path], settings: Settings) -> int:
    versions, device = check_libraries(libraries, settings.threads, options.device)
    settings = replace(settings, device=device)
    run = {
        "machine": describe_machine(settings.threads),
        "versions": versions,
        "commit": describe_commit(ROOT),
        "device": settings.device,
        **describe_inputs(settings),
    }
    names = choose_rows(options.rows, "host" if options.device is None else "device")
    if options.device is not None:
        device_run = DeviceRun(libraries, settings, options.budget_s or _DEVICE_BUDGET_S)
        results = device_run.run(names, options.rounds, options.tiny, _tell)
        run["peak"] = device_run.peak
    else:
        results = _run_host_rows(names, options, libraries, settings)
    if options.json is not None:
        write_results(options.json, run, results)
    return int(any(result.status in ("unequal", "failed") for result in results))


def _run_host_rows(
    names: Sequence[str], options: argparse.Namespace, libraries: dict[Side, Path], settings: Settings
) -> list[RowResult]:
    results = []
    started = time.monotonic()
    for name in names:
        spent = time.monotonic() - started
        if options.budget_s is not None and spent > options.budget_s:
            result = RowResult(name, reason=f"no time was left after {spent:.0f} s")
        else:
            of_row = settings_of(settings, name, options.tiny)
            result = run_row(name, libraries, of_row, options.rounds, options.profile)
        _tell(result)
        results.append(result)
    return results


def _tell(result: RowResult) -> None:
    print("\n".join(sentence(result)), flush=True)


def choose_rows(patterns: Sequence[str], compute: str) -> list[str]:
    """Return the rows that patterns name, in the order of the tables.

    Args:
        patterns: Names, perhaps with asterisks; none for all.
        compute: ``host`` or ``device``.

    Raises:
        SystemExit: A pattern names no row.
    """
    known = [name for name, spec in ROWS.items() if spec.compute == compute]
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            sys.exit(f"there is no row {pattern} here; the rows are {', '.join(known)}")
    return [name for name in known if not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def _read_sizes(words: Sequence[str]) -> Values:
    """Read NAME=VALUE words; numbers become numbers."""
    pairs = (word.partition("=") for word in words)
    return {name: int(value) if value.isdigit() else value for name, _, value in pairs}


if __name__ == "__main__":
    sys.exit(main())
