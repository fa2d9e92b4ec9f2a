"""The process of one side: waits for a line on the standard input before everything it does.

A line is a JSON object with the key ``do``; the answer is one JSON line. What libraries print goes to the standard
error, so that nothing mixes with the answers.
"""

import contextlib
import gc
import json
import os
import sys
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

from benchmarks.settings import Values


class Worker:
    """Does what the lines ask for."""

    def __init__(self) -> None:
        self.row: Any = None
        self.device = "cpu"

    def answer(self, asked: Values) -> Values:
        """Do one thing and return what to say about it."""
        result: Values = getattr(self, f"do_{asked['do']}")(asked)
        return result

    def do_versions(self, asked: Values) -> Values:
        """Say what this process runs on; our side also finds the device that was asked for."""
        said: Values = {"versions": versions()}
        if asked.get("side") == "ours" and asked.get("device") is not None:
            from training.device import select_device

            said["device"] = select_device(asked["device"]).torch_device().type
        return said

    def do_peak(self, asked: Values) -> Values:
        """Measure what a matrix product reaches on a device, and say which one it is."""
        import torch

        from benchmarks.rows.product import SIZE, TINY_SIZE, measure_product_flops

        found: Values = {
            "flops": measure_product_flops(asked["device"], torch.bfloat16, TINY_SIZE if asked["tiny"] else SIZE),
            "dtype": "bfloat16",
            "device": asked["device"],
        }
        if asked["side"] == "ours":
            from training.device import select_device

            info = select_device(asked["device"]).info()
            found |= {"name": info.name, "memory_bytes": info.memory_bytes, "versions": info.versions}
        return found

    def do_prepare(self, asked: Values) -> Values:
        """Make a row."""
        import torch

        from benchmarks.rows import make_row
        from benchmarks.settings import Settings

        settings = Settings(**asked["settings"])
        self.device = settings.device
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self.row = make_row(asked["row"], asked["side"], settings)
        return {"facts": self.row.prepare()}

    def do_check(self, asked: Values) -> Values:
        """Write the answers of the untimed work into a file, then warm up."""
        import torch

        answers = self.row.check()
        kept = {
            name: {key: value.detach().cpu().contiguous() for key, value in group.items()}
            for name, group in answers.items()
        }
        torch.save(kept, asked["path"])
        self.row.warm_up()
        return {}

    def do_round(self, asked: Values) -> Values:
        """Do the timed work of a round."""
        from benchmarks.meter import measure

        # Garbage of the round before is not this round's work.
        gc.collect()
        figures = measure(lambda: self.row.round(asked["number"]), self.device)
        return {**figures, **self.row.measured_round()}

    def do_memory(self, asked: Values) -> Values:
        """Do the work of a round in this process, which has done none yet, and measure its peak."""
        from benchmarks.meter import measure_memory

        gc.collect()
        return dict(measure_memory(lambda: self.row.round(0), self.device))

    def do_profile(self, asked: Values) -> Values:
        """Record one round as a trace that chrome://tracing or Perfetto open."""
        import torch

        path = Path(asked["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        with torch.profiler.profile() as profile:
            self.row.round(0)
        profile.export_chrome_trace(str(path))
        return {}

    def do_close(self, asked: Values) -> Values:
        """Let go of the row and of the device memory it held."""
        if self.row is not None:
            self.row.close()
        self.row = None
        gc.collect()
        if self.device != "cpu":
            import torch

            torch.get_device_module(self.device).empty_cache()
        return {}


def versions() -> dict[str, str]:
    """Return what this process runs on."""
    import numpy as np
    import PIL
    import torch

    import open_clip

    faster = {}
    for name in ("simplejpeg", "numba", "triton"):
        with contextlib.suppress(PackageNotFoundError):
            faster[name] = version(name)
    return {
        **faster,
        "open_clip": str(open_clip.__version__),
        "open_clip_folder": str(Path(str(open_clip.__file__)).parent.parent),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": str(PIL.__version__),
    }


def serve(lines: TextIO, answers: TextIO) -> None:
    """Answer line after line until there is none."""
    worker = Worker()
    for line in lines:
        try:
            said = worker.answer(json.loads(line))
        # The driver names the row and shows the reason; this process goes on with the next line.
        except Exception:
            said = {"error": traceback.format_exc()}
        answers.write(json.dumps(said) + "\n")
        answers.flush()
    worker.do_close({})


if __name__ == "__main__":
    kept_output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, kept_output)
