"""The collective backend ``hccl``: gloo on the host memory under npu tensors, so nothing is copied.

Every call but a send or a receive is finished when it returns, for all streams: that a stream waits for the work is not
checked. Its work holds the npu tensors themselves, because DDP's
reducer reads them there.
"""

import npusim_native as _native
import torch
import torch.distributed as dist
from torch._C import _distributed_c10d as c10d


def _flat(value):
    """List the tensors in a tensor or a nested list."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for item in value for tensor in _flat(item)]


def _host(value):
    """Replace npu tensors by CPU tensors over the same memory, in nested lists too."""
    if isinstance(value, torch.Tensor):
        if value.device.type != "npu":
            raise RuntimeError(
                f"hccl takes npu tensors, and got one on {value.device}; start cpu:gloo,npu:hccl for both"
            )
        return _native.to_host(value)
    return [_host(item) for item in value]


def _done(tensors) -> c10d.Work:
    """Return a finished work whose value is these tensors."""
    future = torch.futures.Future()
    future.set_result(tensors)
    return c10d._create_work_from_future(future)


def _collective(name, *, returns=0, inputs=1):
    """Make a method that runs gloo's method of the same name.

    Args:
        name: The method.
        returns: Which argument the work's value is.
        inputs: How many leading arguments hold tensors.
    """

    def method(self, *args, **options):
        _native.check_usable()
        self._calls += 1
        tensors, rest = args[:inputs], args[inputs:]
        getattr(self._gloo, name)(*(_host(value) for value in tensors), *rest, **options).wait()
        _native.note_collective()
        return _done(_flat(tensors[returns]))

    method.__name__ = name
    return method


def _point_to_point(name):
    """Make a method that starts gloo's method of the same name; neighbours that exchange must not wait in the send."""

    def method(self, tensors, *args):
        _native.check_usable()
        self._calls += 1
        return getattr(self._gloo, name)(_host(tensors), *args)

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
        self._calls = 0

    allreduce = _collective("allreduce")
    allreduce_coalesced = _collective("allreduce_coalesced")
    broadcast = _collective("broadcast")
    reduce = _collective("reduce")
    allgather = _collective("allgather", inputs=2)
    allgather_coalesced = _collective("allgather_coalesced", inputs=2)
    all_gather_single = _allgather_base = _collective("all_gather_single", inputs=2)
    all_gather_single_coalesced = _collective("all_gather_single_coalesced", inputs=2)
    allgather_into_tensor_coalesced = all_gather_single_coalesced
    reduce_scatter = _collective("reduce_scatter", inputs=2)
    reduce_scatter_single = _reduce_scatter_base = _collective("reduce_scatter_single", inputs=2)
    reduce_scatter_single_coalesced = _collective("reduce_scatter_single_coalesced", inputs=2)
    gather = _collective("gather", inputs=2)
    scatter = _collective("scatter", inputs=2)
    alltoall = _collective("alltoall", inputs=2)
    all_to_all_single = alltoall_base = _collective("all_to_all_single", inputs=2)
    send = _point_to_point("send")
    recv = _point_to_point("recv")

    def barrier(self, opts=None):
        """Wait for all ranks."""
        self._gloo.barrier(opts if opts is not None else c10d.BarrierOptions()).wait()
        return _done([])

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
        self._gloo.shutdown()


def register() -> None:
    """Make ``hccl`` the backend of npu tensors."""
    dist.Backend.register_backend(
        "hccl", lambda store, rank, size, timeout: ProcessGroupHCCL(store, rank, size, timeout), devices=["npu"]
    )
