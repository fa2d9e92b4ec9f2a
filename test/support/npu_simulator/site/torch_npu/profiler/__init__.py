"""``torch_npu.profiler``: its names, its schedule and its folder, filled from torch's record of the host.

One difference shows: no kernel runs here, so each operator of the host stands for the kernel it would start.

Source: torch_npu/profiler/ of the wheels 2.6.0 to 2.14.0.
"""

from torch_npu.profiler.record import profile as profile
from torch_npu.profiler.record import tensorboard_trace_handler as tensorboard_trace_handler
from torch_npu.profiler.settings import AiCMetrics as AiCMetrics
from torch_npu.profiler.settings import ExportType as ExportType
from torch_npu.profiler.settings import ProfilerAction as ProfilerAction
from torch_npu.profiler.settings import ProfilerActivity as ProfilerActivity
from torch_npu.profiler.settings import ProfilerLevel as ProfilerLevel
from torch_npu.profiler.settings import _ExperimentalConfig as _ExperimentalConfig
from torch_npu.profiler.settings import schedule as schedule
from torch_npu.profiler.settings import supported_activities as supported_activities
