"""The collective backend ``hccl``: gloo, on copies of the tensors, so that a result comes later, as from a card.

A call returns at once. Its result is written a little later by a thread that stands for the stream of the
communicator, and is there for who waits for the work, and for all after a synchronisation of the device. Under
NPUSIM_RACES=error, using it without having waited is an error. Work holds the npu tensors themselves, because DDP's
reducer reads them there. What the card's library refuses is refused.

Source: Ascend/pytorch, torch_npu/csrc/distributed/ProcessGroupHCCL.cpp.
"""

import itertools
import os
import queue
import threading
import time

import npusim_native as _native
import torch
import torch.distributed as dist
from torch._C import _distributed_c10d as c10d

from torch_npu._C._distributed_c10d import record_call, record_end

# How much later a result comes, so that code which does not wait for it meets what was there before.
_LATENCY_S = float(os.environ.get("NPUSIM_HCCL_MS", "1")) / 1000
_REDUCED = (
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.bfloat16,
)
_MOVED = (*_REDUCED, torch.uint8, torch.bool, torch.float64)
_REFUSED_OPS = ("BAND", "BOR", "BXOR")
_OPS = ("SUM", "AVG", "MIN", "MAX", "PRODUCT")
_groups = itertools.count()


def _flat(value):
    """List the tensors in a tensor or a nested list."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for item in value for tensor in _flat(item)]


def _map(change, value):
    """Change the tensors in a tensor or a nested list."""
    return change(value) if isinstance(value, torch.Tensor) else [_map(change, item) for item in value]


def _check_tensor(tensor, taken, name):
    if tensor.device.type != "npu":
        raise RuntimeError(f"hccl takes npu tensors, and got one on {tensor.device}; start cpu:gloo,npu:hccl for both")
    if not tensor.is_contiguous():
        raise RuntimeError("Tensors must be contiguous")
    if tensor.dtype not in _MOVED:
        raise RuntimeError("Unsupported data type for HCCL process group")
    if tensor.dtype not in taken:
        raise RuntimeError(f"HCCL {name}: Unsupported data type {tensor.dtype}")


def _check_op(op):
    for name in _REFUSED_OPS:
        if op == getattr(dist.ReduceOp, name):
            raise RuntimeError(f"Cannot use ReduceOp.{name} with HCCL")
    if not any(op == getattr(dist.ReduceOp, name) for name in _OPS):
        raise RuntimeError("Unhandled ReduceOp")


def _collective(name, *, inputs=1, reduces=False):
    """Make a method that starts gloo's method of the same name on copies.

    Args:
        name: The method.
        inputs: How many leading arguments hold tensors; the first of them is written and becomes the work's value.
        reduces: Whether numbers are computed, which takes fewer dtypes, by an operation that options name.
    """

    def method(self, *args, **options):
        _native.check_usable()
        tensors, rest = args[:inputs], args[inputs:]
        for tensor in _flat(tensors):
            _check_tensor(tensor, _REDUCED if reduces else _MOVED, name)
        for chosen in (*rest, *options.values()):
            if hasattr(chosen, "reduceOp"):
                _check_op(chosen.reduceOp)
        hosts = _map(_native.to_host, tensors)
        copies = _map(torch.clone, hosts)
        started = getattr(self._gloo, name)(*copies, *rest, **options)
        written = zip(_flat(hosts[0]), _flat(copies[0]), strict=True)
        return self._work(name, started, _flat(tensors[0]), list(written), _flat(tensors[1:]))

    method.__name__ = name
    return method


class ProcessGroupHCCL(c10d.Backend):
    """Gloo behind the name of hccl."""

    # Left to the base class these properties ask the Python object again, for ever.
    supports_splitting = False
    supports_coalescing = False
    supports_time_estimate = False
    supports_shrinking = False
    supports_reconfigure = False
    supports_window = False

    def __init__(self, store, rank, size, timeout):
        super().__init__(rank, size)
        self._gloo = dist.ProcessGroupGloo(store, rank, size, timeout)
        self._timeout_s = timeout.total_seconds()
        self._number = next(_groups)
        self._calls = 0
        self._started: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._finish_in_order, daemon=True).start()

    def _finish_in_order(self):
        while (begun := self._started.get()) is not None:
            begun.set_result(None)

    def _work(self, name, started, value, written, others=()):
        """Return the work of a call that gloo has started.

        Args:
            name: What was called.
            started: Gloo's work.
            value: The npu tensors that the work is for.
            written: Pairs of the memory to write and the copy that holds the result.
            others: Tensors that were only read.
        """
        self._calls += 1
        is_p2p = name in ("send", "recv")
        entry = record_call(self._number, self._calls, name, others or value, value, self._timeout_s, is_p2p)
        for tensor in value:
            _native.note_under_way(tensor)

        def finish(_):
            try:
                started.wait()
                time.sleep(_LATENCY_S)
                for memory, copy in written:
                    memory.copy_(copy)
                # On the stream that the work's waiters are going to wait for.
                for tensor in value:
                    _native.note_written(tensor)
                record_end(entry)
            finally:
                _native.collective_finished()
            return value

        # A callback's error fails its future for those who wait in C++ too; set_exception would tell Python alone.
        begun = torch.futures.Future(devices=sorted({tensor.device for tensor in value}, key=str))
        work = begun.then(finish)
        _native.collective_started()
        self._started.put(begun)
        return c10d._create_work_from_future(work)

    allreduce = _collective("allreduce", reduces=True)
    allreduce_coalesced = _collective("allreduce_coalesced", reduces=True)
    broadcast = _collective("broadcast")
    reduce = _collective("reduce", reduces=True)
    allgather = _collective("allgather", inputs=2)
    allgather_coalesced = _collective("allgather_coalesced", inputs=2)
    all_gather_single = _allgather_base = _collective("all_gather_single", inputs=2)
    all_gather_single_coalesced = _collective("all_gather_single_coalesced", inputs=2)
    allgather_into_tensor_coalesced = all_gather_single_coalesced
    reduce_scatter = _collective("reduce_scatter", inputs=2, reduces=True)
    reduce_scatter_single = _reduce_scatter_base = _collective("reduce_scatter_single", inputs=2, reduces=True)
    reduce_scatter_single_coalesced = _collective("reduce_scatter_single_coalesced", inputs=2, reduces=True)
    scatter = _collective("scatter", inputs=2)
    alltoall = _collective("alltoall", inputs=2)
    all_to_all_single = alltoall_base = _collective("all_to_all_single", inputs=2)
    recv = _collective("recv")

    def send(self, tensors, *args):
        """Start a send; it reads a copy, so its tensors are free at once."""
        _check_tensor(*tensors, _MOVED, "send")
        copies = [_native.to_host(tensor).clone() for tensor in tensors]
        return self._work("send", self._gloo.send(copies, *args), [], [], tensors)

    def barrier(self, opts=None):
        """Wait for all ranks."""
        return self._work("barrier", self._gloo.barrier(opts if opts is not None else c10d.BarrierOptions()), [], [])

    def supports_tensor_alloc(self, device):
        """Say that communication buffers are ordinary tensors."""
        return False

    def eager_connect_single_device(self, device):
        """Do nothing: gloo has connected."""

    def name(self):
        """Return the backend's name."""
        return "hccl"

    getBackendName = _get_backend_name = name  # noqa: N815 (torch's spelling)

    def _set_sequence_number_for_group(self):
        self._calls = 0

    def _get_sequence_number_for_group(self):
        return self._calls

    getSequenceNumberForGroup = _get_sequence_number_for_group  # noqa: N815 (torch's spelling)

    def abort(self):
        """Give up what is under way."""
        self._gloo.abort()

    def shutdown(self):
        """Close the connections."""
        self._started.put(None)
        self._gloo.shutdown()


def _make_group(store, rank, size, timeout):
    try:
        return ProcessGroupHCCL(store, rank, size, timeout)
    except TypeError as error:
        raise RuntimeError(
            f"the simulated hccl needs torch 2.14 or later, which takes backends in Python; this is {torch.__version__}"
        ) from error


def register() -> None:
    """Make ``hccl`` the backend of npu tensors."""
    dist.Backend.register_backend("hccl", _make_group, devices=["npu"])
