"""Compile the simulated npu once and print what to put on PYTHONPATH.

    export PYTHONPATH=$(python test/support/npu_simulator/build.py)

The library is kept under ``.cache/npu-simulator/`` by torch version, Python, compiler and source; a change of any
builds anew. Needs g++ 12 or newer and ninja. Two jobs at most, at low priority.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = sorted((HERE / "csrc").glob("*.cpp"))
SITE = HERE / "site"
CACHE = HERE.parents[2] / ".cache" / "npu-simulator"
MODULE = "npusim_native"
FLAGS = [
    "-O1",
    "-g0",
    "-std=c++20",
    "-DAT_PER_OPERATOR_HEADERS",
    "-Wno-deprecated-declarations",
    "-Wno-stringop-overflow",
]


def python_path() -> str:
    """Build if need be and return the two folders that PYTHONPATH needs.

    Raises:
        RuntimeError: No compiler, or it failed; the message ends with what it said.
    """
    folder = CACHE / _fingerprint()
    library = folder / f"{MODULE}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "build.flock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not library.exists():
                _compile(folder / "work")
                os.replace(folder / "work" / library.name, library)
                shutil.rmtree(folder / "work")
    return os.pathsep.join([str(SITE), str(folder)])


def _fingerprint() -> str:
    """Name a build by all it depends on, without importing torch."""
    from importlib.metadata import version

    compiler = os.environ.get("CXX", "g++")
    try:
        banner = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"the simulated npu needs a C++20 compiler; {compiler} does not run: {error}") from error
    parts = [version("torch"), sys.version, banner.splitlines()[0], " ".join(FLAGS)]
    digest = hashlib.sha256("\n".join(parts).encode())
    for path in [*SOURCES, HERE / "csrc" / "simulator.h"]:
        digest.update(path.read_bytes())
    return f"torch-{version('torch')}-{digest.hexdigest()[:16]}"


def _compile(folder: Path) -> None:
    """Run torch's extension builder in a process of its own, so that the caller's torch stays as it is."""
    # A build that was killed leaves a lock behind on which the next one would wait for ever.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    script = (
        "import sys\n"
        "from torch.utils.cpp_extension import load\n"
        "folder, name, flags, *sources = sys.argv[1:]\n"
        "load(name=name, sources=sources, build_directory=folder, extra_cflags=flags.split(), with_cuda=False,\n"
        "     is_python_module=False, is_standalone=False, verbose=True)\n"
    )
    # ninja comes with the environment that runs this, which need not be the activated one.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "MAX_JOBS": "2", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    command = [sys.executable, "-c", script, str(folder), MODULE, " ".join(FLAGS), *map(str, SOURCES)]
    done = subprocess.run(["nice", "-n", "10", *command], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the simulated npu did not compile:\n{(done.stdout + done.stderr)[-6000:]}")


if __name__ == "__main__":
    # The tests leave the simulated npu out where there is no compiler; only a compiler that fails is an error then.
    if "--if-possible" in sys.argv[1:] and shutil.which(os.environ.get("CXX", "g++")) is None:
        print("no C++ compiler here: the tests of the simulated npu will be skipped (install g++ 12 or newer)")
    else:
        print(python_path())
