"""The rows: what is measured, on which inputs, and the figure to reach. Each row's code is in a file of its own."""

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from benchmarks.settings import SIDES, Settings, Side, Values

if TYPE_CHECKING:
    from benchmarks.rows.base import Row


@dataclass(frozen=True)
class Spec:
    """A row of the tables.

    Attributes:
        home: ``file:class`` of its code below this folder.
        title: What is measured, in English and in Chinese.
        options: What the class is told.
        inputs: Inputs to make, by the names of ``inputs.py``.
        rounds: Timed rounds a side; none when only memory is measured.
        target: Ratio of times (peer / ours) to reach.
        memory: Whether peak memory is measured, in fresh processes.
        memory_target: Ratio of peaks (peer / ours) to reach.
        memory_limit: Bytes that our peak must stay under.
        compute: ``host`` rows run on the CPU, ``device`` rows on an accelerator.
        timed: Sides that are timed.
    """

    home: str
    title: tuple[str, str]
    options: Values = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    rounds: int = 5
    target: float | None = None
    memory: bool = False
    memory_target: float | None = None
    memory_limit: int | None = None
    compute: Literal["host", "device"] = "host"
    timed: tuple[Side, ...] = SIDES


ROWS: dict[str, Spec] = {
    "step-short": Spec(
        "step:Step",
        ("training step, ViT-B-32, batch 32, short captions", "训练一步，ViT-B-32，批大小 32，短描述"),
        {"captions": "captions-short"},
        ("captions-short",),
        rounds=3,
        target=1.7,
    ),
    "step-web": Spec(
        "step:Step",
        ("training step, ViT-B-32, batch 32, web captions", "训练一步，ViT-B-32，批大小 32，网络描述"),
        {"captions": "captions-web"},
        ("captions-web",),
        rounds=3,
        target=1.6,
    ),
    "text-short": Spec(
        "text:EncodeText",
        ("encode_text, ViT-B-32, short captions", "encode_text，ViT-B-32，短描述"),
        {"captions": "captions-short"},
        ("captions-short",),
        target=4.0,
    ),
    "text-web": Spec(
        "text:EncodeText",
        ("encode_text, ViT-B-32, web captions", "encode_text，ViT-B-32，网络描述"),
        {"captions": "captions-web"},
        ("captions-web",),
        target=4.0,
    ),
    "tokenizer-ascii": Spec(
        "tokenizer:Tokenize",
        ("tokenizer, ASCII captions", "分词，ASCII 描述"),
        {"captions": "captions-short"},
        ("captions-short",),
        target=7.0,
    ),
    "tokenizer-mixed": Spec(
        "tokenizer:Tokenize",
        ("tokenizer, half of the captions not ASCII", "分词，一半描述含非 ASCII 字符"),
        {"captions": "captions-mixed"},
        ("captions-mixed",),
        target=3.5,
    ),
    "optimizer": Spec(
        "optimizer:Update",
        ("AdamW, 151M parameters", "AdamW，1.51 亿参数"),
        target=5.0,
    ),
    "loss": Spec(
        "loss:Contrastive",
        ("contrastive loss, forward and backward, 8,192 rows", "对比损失，前向与反向，8,192 行"),
        {"rows": 8192},
        rounds=3,
        target=1.3,
        memory=True,
        memory_target=6.0,
    ),
    "loader-500": Spec(
        "loader:Load",
        ("loader from tars, exact, 500 x 375", "从 tar 读取，精确，500 x 375"),
        {"images": "tars-500"},
        ("tars-500",),
        target=1.5,
    ),
    "loader-256": Spec(
        "loader:Load",
        ("loader from tars, exact, 256 x 256", "从 tar 读取，精确，256 x 256"),
        {"images": "tars-256"},
        ("tars-256",),
        target=1.8,
    ),
    "loader-500-near": Spec(
        "loader:LoadNear",
        ("loader from tars, near, 500 x 375", "从 tar 读取，近似，500 x 375"),
        {"images": "tars-500"},
        ("tars-500",),
        target=2.6,
    ),
    "loader-256-near": Spec(
        "loader:LoadNear",
        ("loader from tars, near, 256 x 256", "从 tar 读取，近似，256 x 256"),
        {"images": "tars-256"},
        ("tars-256",),
        target=2.6,
    ),
    "retrieval-5k": Spec(
        "retrieval:OneToOne",
        ("retrieval metrics, 5,000 pairs", "检索指标，5,000 对"),
        target=8.0,
        memory=True,
    ),
    "retrieval-25k": Spec(
        "retrieval:ManyToOne",
        ("retrieval metrics, 25,000 captions of 5,000 images, memory", "检索指标，5,000 图 25,000 描述，内存"),
        rounds=0,
        memory=True,
        memory_limit=10**9,
    ),
    "import": Spec(
        "entry:Import",
        ("import open_clip, beyond import torch", "导入 open_clip（import torch 之外）"),
        target=3.0,
    ),
    "first-model": Spec(
        "entry:FirstModel",
        ("import and the first small model, beyond import torch", "导入并建第一个小模型（import torch 之外）"),
    ),
    "zero-shot": Spec(
        "text:ZeroShot",
        ("zero-shot classifier, ViT-B-32", "零样本分类器，ViT-B-32"),
        rounds=3,
    ),
    "loss-65536": Spec(
        "loss:Repeated",
        ("contrastive loss, 65,536 rows, memory", "对比损失，65,536 行，内存"),
        {"rows": 8192, "copies": 8},
        rounds=0,
        memory=True,
        memory_limit=3 * 10**9,
    ),
}


def _device_step(model: str, batch: int, title: str, target: float | None, **options: object) -> Spec:
    is_compiled = options.get("compile", False)
    how = ("both compiled", "两边均编译") if is_compiled else ("both eager", "两边均不编译")
    captions = str(options.setdefault("captions", "captions-short"))
    kind = {"captions-short": ("short captions", "短描述"), "captions-web": ("web captions", "网络描述")}
    of_kind = kind[captions]
    return Spec(
        "device:DeviceStep",
        (
            f"training step, {title}, amp_bf16, batch {batch}, {of_kind[0]}, {how[0]}",
            f"训练一步，{title}，amp_bf16，批大小 {batch}，{of_kind[1]}，{how[1]}",
        ),
        {"model": model, "batch": batch, **options},
        (captions,),
        target=target,
        memory=True,
        compute="device",
    )


# In the order of their worth: what a budget of time leaves out stands last.
ROWS |= {
    "device-step-b32": _device_step("ViT-B-32", 1024, "B/32", 2.0),
    "device-step-b16": _device_step("ViT-B-16", 512, "B/16", 1.4),
    "device-step-l14": _device_step("ViT-L-14", 256, "L/14", 1.2),
    "device-tars-b16": Spec(
        "end_to_end:EndToEnd",
        ("trainer from tars, B/16, amp_bf16, 256 x 256", "从 tar 端到端训练，B/16，amp_bf16，256 x 256"),
        {"model": "ViT-B-16", "batch": 512, "images": "tars-256x2048", "synthetic": "device-step-b16"},
        ("tars-256x2048",),
        rounds=1,
        compute="device",
        timed=("ours",),
    ),
    "device-loss": Spec(
        "loss:Contrastive",
        ("contrastive loss, 16,384 rows", "对比损失，16,384 行"),
        {"rows": 16384},
        target=1.3,
        memory=True,
        memory_target=6.0,
        compute="device",
    ),
    "device-step-b32-web": _device_step("ViT-B-32", 1024, "B/32", None, captions="captions-web"),
    "device-step-b32-compiled": _device_step("ViT-B-32", 1024, "B/32", None, compile=True),
    "device-step-b16-compiled": _device_step("ViT-B-16", 512, "B/16", None, compile=True),
    "device-step-l14-compiled": _device_step("ViT-L-14", 256, "L/14", None, compile=True),
}


def row_class(name: str) -> type["Row"]:
    """Import the class of a row."""
    file, _, class_name = ROWS[name].home.partition(":")
    found: type[Row] = getattr(import_module(f"benchmarks.rows.{file}"), class_name)
    return found


def make_row(name: str, side: Side, settings: Settings) -> "Row":
    """Make a row for one side."""
    assert side in SIDES
    return row_class(name)(side, settings, ROWS[name].options)
