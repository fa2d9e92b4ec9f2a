"""Start one process a device, each pinned to cores of its own by taskset, with a log each; the first failure counts.

The first process of the machine writes to this one's output, the others to train_<rank>.log. What torchrun does is done
here without it: nobody is restarted, no address is negotiated.
"""

from training.early_signals import answer_early_signals, run_begins

if __name__ == "__main__":
    answer_early_signals()

import argparse
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from open_clip.errors import OpenClipError
from training.parents import signal_when_parent_ends
from wrapper_cores import format_cpu_list, read_nodes, read_shares, share_cores
from wrapper_logs import RunLog, Start

_STOPPED = 75
_POLL_S = 0.05
# After a failure the others may end by themselves, then are asked to, then are killed; all within a minute.
_ALONE_S = 4.0
_ASKED_S = 20.0


@dataclass(frozen=True, eq=False)
class Rank:
    """One process: its number among all, its cores, its log (None for this process's output)."""

    number: int
    cpus: str
    log_path: Path | None
    variables: Mapping[str, str]


class RankGroup:
    """The processes of this machine."""

    def __init__(self, ranks: Sequence[Rank], command: Sequence[str], append: bool) -> None:
        """Start them all; ``append`` continues their logs."""
        self._ranks = ranks
        self._logs: list[RunLog] = []
        self._start_note = Start(Path(os.environ.get("OPEN_CLIP_RUN_FILE") or os.devnull), self._begin_logs)
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            for rank in ranks:
                self._processes.append(self._start(rank, command, append))
        except (OSError, OpenClipError):
            self.send(signal.SIGKILL)
            raise

    def _start(self, rank: Rank, command: Sequence[str], append: bool) -> subprocess.Popen[bytes]:
        log = None if rank.log_path is None else RunLog(rank.log_path, append=append)
        if log is not None:
            self._logs.append(log)
        parent = os.getpid()
        return subprocess.Popen(
            ["taskset", "-c", rank.cpus, *command],
            stdin=subprocess.DEVNULL,
            stdout=None if log is None else log.file,
            stderr=None if log is None else subprocess.STDOUT,
            env={**os.environ, **rank.variables, **({} if log is None else {"OPEN_CLIP_LOG_FILE": ""})},
            # The run saves and ends when this process is killed.
            preexec_fn=lambda: signal_when_parent_ends(signal.SIGTERM, parent),
        )

    def _begin_logs(self) -> None:
        for log in self._logs:
            log.begin()

    def send(self, number: int) -> None:
        """Send a signal to all that still run."""
        for process in self._processes:
            process.send_signal(number)

    def wait(self) -> int:
        """Wait for all; give the first failing status, else that of a stop, else 0; 128 + N when signal N ended one."""
        failed: tuple[int, Rank] | None = None
        was_stopped = False
        limits: list[tuple[float, int]] = []
        running = dict(zip(self._ranks, self._processes, strict=True))
        while running:
            self._start_note.look()
            ended = [(process.returncode, rank) for rank, process in running.items() if process.poll() is not None]
            # Of those that end at once one that was killed is the cause; its fellows miss it.
            for status, rank in sorted(ended, key=lambda one: one[0]):
                del running[rank]
                if status == _STOPPED and not was_stopped and failed is None:
                    was_stopped, limits = True, _limits(status)
                elif status not in (0, _STOPPED) and failed is None:
                    failed, limits = (status if status >= 0 else 128 - status, rank), _limits(status)
            if limits and time.monotonic() > limits[0][0]:
                self.send(limits.pop(0)[1])
            time.sleep(_POLL_S)
        if failed is None:
            return _STOPPED if was_stopped else 0
        if failed[1].log_path is not None:
            path = next(log.path for log in self._logs if log.final == failed[1].log_path)
            print(_blame(*failed, path), file=sys.stderr, flush=True)
        return failed[0]


def make_ranks(options: argparse.Namespace, shares: Sequence[Sequence[int]]) -> list[Rank]:
    """Say what each process of this machine is told about its place."""
    count = options.nproc_per_node
    ranks = []
    for local_rank, share in enumerate(shares):
        number = options.node_rank * count + local_rank
        variables = {
            "RANK": str(number),
            "LOCAL_RANK": str(local_rank),
            "WORLD_SIZE": str(count * options.nnodes),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": options.master_addr,
            "MASTER_PORT": str(options.master_port),
            "PYTHONSAFEPATH": "1",  # a folder named `training` where the user stands is not the trainer
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(len(share)),
        }
        log_path = options.output_dir / f"train_{number}.log" if local_rank else None
        ranks.append(Rank(number, format_cpu_list(share), log_path, variables))
    return ranks


def main(words: list[str] | None = None) -> int:
    """Start the processes and give their status."""
    parser = argparse.ArgumentParser(description="Start one pinned process a device.")
    parser.add_argument("--nnodes", type=int, required=True, help="machines")
    parser.add_argument("--node_rank", type=int, required=True, help="number of this machine")
    parser.add_argument("--nproc_per_node", type=int, required=True, help="processes a machine")
    parser.add_argument("--master_addr", required=True, help="address of the first machine")
    parser.add_argument("--master_port", type=int, required=True, help="port to meet at")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the logs")
    parser.add_argument("--cpu_lists", default="", help="cores of each process; empty: even shares")
    parser.add_argument("command", nargs="+", help="what each process runs, behind --")
    options = parser.parse_args(words)
    try:
        if options.cpu_lists:
            shares = read_shares(options.cpu_lists, options.nproc_per_node)
        else:
            shares = share_cores(read_nodes(), options.nproc_per_node)
    except OpenClipError as error:
        print(f"[Error] {error}", file=sys.stderr)
        return error.exit_status
    ranks = make_ranks(options, shares)
    print("\n".join(_layout(ranks, shares)), flush=True)
    # Statuses are seen here, in their order.
    os.environ.pop("OPEN_CLIP_STATUS_FILE", None)
    append = any(word == "--resume" or word.startswith("--resume=") for word in options.command)
    # A request that comes before all are started is passed on afterwards.
    early: list[int] = []
    stops = (signal.SIGINT, signal.SIGTERM)
    for stop in stops:
        signal.signal(stop, lambda got, _frame: early.append(got))
    run_begins()
    try:
        group = RankGroup(ranks, options.command, append)
    except OpenClipError as error:
        print(f"[Error] {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"[Error] {error.filename}: {error.strerror}", file=sys.stderr)
        return 2

    def pass_on(number: int, _frame: FrameType | None) -> None:
        group.send(number)

    for stop in stops:
        signal.signal(stop, pass_on)
    for number in early:
        group.send(number)
    return group.wait()


def _limits(status: int) -> list[tuple[float, int]]:
    """Say when the others get which signal after one ended with a status."""
    now = time.monotonic()
    if status == _STOPPED:  # they were asked already; the first may still save
        patience_s = float(os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600"))
        return [(now + patience_s, signal.SIGKILL)]
    return [(now + _ALONE_S, signal.SIGTERM), (now + _ALONE_S + _ASKED_S, signal.SIGKILL)]


def _layout(ranks: Sequence[Rank], shares: Sequence[Sequence[int]]) -> list[str]:
    lines = [f"process {rank.number} on cores {rank.cpus}" for rank in ranks]
    most = max(Counter(cpu for share in shares for cpu in share).values())
    if most > 1:
        cores = len({cpu for share in shares for cpu in share})
        lines.append(f"[Warning] {len(ranks)} processes on {cores} cores: up to {most} share one.")
    return lines


def _blame(status: int, rank: Rank, log_path: Path) -> str:
    lines = log_path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    said = f": {lines[-1]}" if lines else ""
    return f"[Error] process {rank.number} ended first, with status {status}; see {log_path}{said}"


if __name__ == "__main__":
    sys.exit(main())
