"""The flight recorder of hccl: the last collectives of this process, in a ring of TORCH_HCCL_TRACE_BUFFER_SIZE entries.

Source: Ascend/pytorch, torch_npu/csrc/distributed/TraceUtils.h and Init.cpp, from 2.6 on.
"""

import json
import os
import time
from collections import deque

_entries: deque = deque(maxlen=int(os.environ.get("TORCH_HCCL_TRACE_BUFFER_SIZE", "0")))
_records = 0
_STATES = ("last_enqueued_collective", "last_started_collective", "last_completed_collective")
_groups: dict[str, dict[str, str]] = {}


def record_call(group: int, sequence: int, name: str, inputs, outputs, timeout_s: float, is_p2p: bool) -> dict:
    """Enter a call that was given to the device and return its entry, for :func:`record_end`."""
    global _records
    entry = {
        "record_id": _records,
        "pg_id": group,
        "pg_name": [str(group), "default_pg" if group == 0 else "undefined"],
        "collective_seq_id": 0 if is_p2p else sequence,
        "p2p_seq_id": sequence if is_p2p else 0,
        "op_id": sequence,
        "profiling_name": f"hccl:{name}",
        "time_created_ns": time.time_ns(),
        "input_sizes": [list(tensor.shape) for tensor in inputs],
        "input_dtypes": [str(tensor.dtype).removeprefix("torch.") for tensor in inputs],
        "output_sizes": [list(tensor.shape) for tensor in outputs],
        "output_dtypes": [str(tensor.dtype).removeprefix("torch.") for tensor in outputs],
        "state": "scheduled",
        "time_discovered_started_ns": None,
        "time_discovered_completed_ns": None,
        "retired": False,
        "timeout_ms": int(timeout_s * 1000),
        "is_p2p": is_p2p,
    }
    _records += 1
    status = _groups.setdefault(str(group), dict.fromkeys(_STATES, "-1"))
    status["last_enqueued_collective"] = str(sequence)
    _entries.append(entry)
    return entry


def record_end(entry: dict) -> None:
    """Say that a call is done."""
    now = time.time_ns()
    entry.update(state="completed", retired=True, time_discovered_started_ns=now, time_discovered_completed_ns=now)
    _groups[str(entry["pg_id"])].update(dict.fromkeys(_STATES[1:], str(entry["op_id"])))


def _dump_hccl_trace_json(includeCollectives=None, onlyActive=None) -> bytes:  # noqa: N803 (the real names)
    """Return the record as JSON in bytes; with ``onlyActive`` only of calls that are under way."""
    dump = {"version": "2.4", "pg_config": {}, "pg_status": _groups}
    if includeCollectives is None or includeCollectives:
        dump["entries"] = [entry for entry in list(_entries) if not (onlyActive and entry["state"] == "completed")]
    return json.dumps(dump).encode()
