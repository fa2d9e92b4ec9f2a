"""Start torchrun agents as the nodes of one run, find their processes, and read what they said."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from runs import trainer_environment

TRAINER = ("-m", "training.main")


@dataclass
class Agent:
    """One torchrun agent, the leader of a process group of its own."""

    process: subprocess.Popen
    log: Path

    def output(self):
        """What the agent and its processes said so far."""
        return self.log.read_text(errors="replace")

    def wait(self, timeout_s):
        """Wait for the end; give the status."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the agent did not end in {timeout_s} s:\n{self.output()[-6000:]}") from None

    def kill(self):
        """End the agent and all it started, as a machine does that loses power."""
        for pid in (self.process.pid, *descendants(self.process.pid)):
            send(pid, signal.SIGKILL)
        self.process.wait(30)


def start_agent(flags, log, *arguments, program=TRAINER, **environ):
    """Start an agent with these torchrun arguments; its words go to ``log``."""
    with Path(log).open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *map(str, arguments), *program, *flags],
            env=trainer_environment(**environ),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Agent(process, Path(log))


def node_arguments(port, processes=1):
    """Torchrun's arguments of one of two nodes that meet on this machine."""
    endpoint = f"127.0.0.1:{port}"
    return ["--nnodes", 2, "--nproc_per_node", processes, "--rdzv_backend", "c10d", "--rdzv_endpoint", endpoint]


def children(pid):
    """Process numbers of the direct children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def descendants(pid):
    """Process numbers of children, their children and so on."""
    return [one for child in children(pid) for one in (child, *descendants(child))]


def rank_pid(agents, rank):
    """Process number of a rank started by one of the agents."""
    for agent in agents:
        for pid in children(agent.process.pid):
            try:
                environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"RANK={rank}".encode() in environ:
                return pid
    raise AssertionError(f"rank {rank} runs under none of the agents")


def send(pid, number):
    """Send a signal; a process that is gone needs none."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
