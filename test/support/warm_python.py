"""Programs in forked children of a process that imported torch and the trainer once, so that a start costs no import.

A child runs what ``python PROGRAM`` would run, with the environment, the folder and the output of a process of its own.
Started as ``python warm_python.py``, this file reads a job a line (JSON) and answers it with how its processes ended.
"""

import atexit
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

# Read while modules are imported, so that a child cannot be given others.
_READ_AT_IMPORT = ("PYTHONPATH", "NPUSIM_BROKEN", "NPUSIM_HCCL_MS", "TORCH_HCCL_TRACE_BUFFER_SIZE")
# torchrun lets the processes that are left save before it ends them for good.
_GRACE_S = 30


def run_warm(program, environ, *, processes=1, timeout_s=240, cwd="."):
    """Run a program to its end, as one process or as the ranks of one machine.

    Args:
        program: ``("-m", module, *words)`` or ``(path, *words)``.
        environ: All of its environment; ranks get their place in addition.
        processes: How many ranks; 1 is a process that knows of no others.
        timeout_s: When they are killed.
        cwd: Their folder.

    Returns:
        (status of each process, negative for a signal; what they wrote to stdout and stderr together)

    Raises:
        AssertionError: They did not end in time.
    """
    server = _find_server({name: environ[name] for name in _READ_AT_IMPORT if name in environ})
    with tempfile.NamedTemporaryFile() as output:
        job = {"program": [str(word) for word in program], "environ": environ, "cwd": str(Path(cwd).resolve())}
        job |= {"output": output.name, "ranks": processes, "limit_s": timeout_s}
        answer = server.ask(job)
        said = Path(output.name).read_text(errors="replace")
    assert not answer["late"], f"{program} did not end in {timeout_s} s:\n{said}"
    return answer["statuses"], said


class ForkServer:
    """A process that answers jobs; what it imported once, its children have.

    Args:
        command: Words behind ``python``: a program that calls :func:`serve`.
        environ: Its environment.
    """

    def __init__(self, command, environ):
        self._process = subprocess.Popen(
            [sys.executable, *command], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, job):
        """Have a job done and give the answer: ``statuses`` by rank, and whether they were too ``late``."""
        print(json.dumps(job), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the server of forked processes is gone"
        return json.loads(answer)

    def close(self):
        """End it."""
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


# By what they read as they began, the last used last: one for the CPU, one for the simulated npu, one of odd settings.
_servers = {}


def _find_server(read_at_import):
    key = tuple(read_at_import.items())
    if key in _servers:
        _servers[key] = _servers.pop(key)
    else:
        if len(_servers) == 3:
            _servers.pop(next(iter(_servers))).close()
        environ = {name: value for name, value in os.environ.items() if name not in _READ_AT_IMPORT} | read_at_import
        environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        _servers[key] = ForkServer([__file__], environ)
    return _servers[key]


@atexit.register
def _close_servers():
    for server in _servers.values():
        server.close()


def free_port():
    """Find a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(become, look):
    """Answer jobs until the input ends.

    Args:
        become: What a forked child does with its job and its rank; it never returns.
        look: Called again and again while processes are left, with the job, their numbers, and the statuses by rank.
    """
    for line in sys.stdin:
        job = json.loads(line)
        place = {} if job["ranks"] == 1 else {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        children = {}
        for rank in range(job["ranks"]):
            child = os.fork()
            if child == 0:
                _take_place(job, rank, place)
                become(job, rank)
            children[child] = rank
        print(json.dumps(_wait(job, children, look)), flush=True)


def _take_place(job, rank, place):
    """Give a child its output and its place among the ranks."""
    if "environ" in job:
        os.environ.clear()
        os.environ.update(job["environ"])
    if place:
        size = str(job["ranks"])
        place = {**place, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    os.environ.update(place)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for path, opening, descriptors in ((job["output"], flags, (1, 2)), (os.devnull, os.O_RDONLY, (0,))):
        opened = os.open(path, opening)
        for descriptor in descriptors:
            os.dup2(opened, descriptor)
        os.close(opened)


def _wait(job, children, look):
    """Wait until all ranks have ended."""
    statuses, ends, late = [None] * len(children), time.monotonic() + job["limit_s"], False
    while children:
        for child in [*children]:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                statuses[children.pop(child)] = os.waitstatus_to_exitcode(status)
        look(job, children, statuses)
        if time.monotonic() > ends:
            late = True
            signal_all(children, signal.SIGKILL)
        time.sleep(0.002)
    return {"statuses": statuses, "late": late}


def signal_all(children, number):
    """Send a signal to each of some processes."""
    for child in children:
        os.kill(child, number)


def _become_program(job, _rank):
    """Be the process that ``python PROGRAM`` is, and end as it does."""
    os.chdir(job["cwd"])
    module, *words = job["program"][1:] if job["program"][0] == "-m" else job["program"]
    sys.argv[:] = [module, *words]
    status = 0
    try:
        if job["program"][0] == "-m":
            sys.path.insert(0, os.getcwd())
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(module).parent.resolve()))
            runpy.run_path(module, run_name="__main__")
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _end_as_torchrun(job, children, statuses):
    """Ask the others to stop when one has failed, and do not wait for them for ever."""
    if not children or not any(statuses):
        return
    if "asked" not in job:
        job["asked"] = time.monotonic()
        signal_all(children, signal.SIGTERM)
    elif time.monotonic() > job["asked"] + _GRACE_S:
        signal_all(children, signal.SIGKILL)


def _prepare():
    """Import what programs import, and make what each would make for itself and keep."""
    from training.device.startup import import_torch

    import_torch()
    import torch

    from open_clip import get_tokenizer
    from open_clip.transform.resample import load_resampler
    from training import doctor, session  # noqa: F401
    from training.data.fast_jpeg import load_jpeg_decoder

    # Imports torch's compiler.
    torch.use_deterministic_algorithms(False)
    load_resampler()
    load_jpeg_decoder()
    get_tokenizer("ViT-micro-8-32")(["an image"])


if __name__ == "__main__":
    # A child has the folder of its program here.
    del sys.path[0]
    _prepare()
    serve(_become_program, _end_as_torchrun)
