"""Processes that meet on the loopback address listen nowhere else, and find each other still."""

import json
import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from runs import free_port
from training.device import select_device
from training.distributed import World, start_process_group, stop_process_group

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net")
LOOPBACK = ("0100007F", "00000000000000000000000001000000")


def listening_at():
    """Give the addresses, in the kernel's hexadecimal, that this process listens at."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in links:
                found.append(fields[1].partition(":")[0])
    return found


def run_rank(rank, folder, method, environ):
    os.environ.update(environ)
    world = World(rank, rank, 2, 2)
    store = start_process_group(select_device("cpu"), world, init_method=method, timeout_s=60)
    store.set(f"note-{rank}", "here")
    assert store.get(f"note-{1 - rank}") == b"here"
    total = torch.tensor([rank + 1.0])
    dist.all_reduce(total)
    Path(folder, f"{rank}.json").write_text(json.dumps([total.item(), listening_at()]))
    dist.barrier()
    stop_process_group()
    os._exit(0)


@pytest.mark.parametrize("how", ["env 127.0.0.1", "env localhost", "tcp", "nothing said"])
def test_processes_of_one_machine_listen_on_loopback_only(how, tmp_path):
    port = str(free_port())
    environ, method = {"MASTER_PORT": port}, None
    if how.startswith("env"):
        environ["MASTER_ADDR"] = how.split()[1]
    if how == "tcp":
        method = f"tcp://127.0.0.1:{port}"
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=run_rank, args=(rank, tmp_path, method, environ)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [total for total, _ in told] == [3.0, 3.0]
    assert len(told[0][1]) >= 2  # the store and gloo
    assert all(address in LOOPBACK for _, addresses in told for address in addresses)
