#!/usr/bin/env python3
"""Compute what training needs on 1 to 4,096 ranks and write the tables of docs/scaling.md and its twin.

The formulas are `scaling_model.py`'s, the devices `scaling_devices.py`'s. ``--check`` says whether the pages are up to
date.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from scaling_devices import (
    CAPTION_MS,
    DEVICES,
    IMAGE_MS,
    INDEX_BYTES,
    INTERRUPTIONS_PER_DEVICE_DAY,
    LARGE_IMAGE_MS,
    MEMORY_SHARE,
    NEMO_G14,
    ORDER_MB,
    SAMPLE_BYTES,
    Device,
)
from scaling_model import (
    Model,
    accelerator_kinds,
    count_model,
    loss_bytes,
    loss_flops,
    save_interval,
    sent_bytes,
    state_bytes,
    time_step,
)

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"en": ROOT / "docs" / "scaling.md", "zh": ROOT / "docs" / "scaling.zh.md"}
MODELS = ("ViT-B-32", "ViT-L-14", "ViT-H-14")
RANKS = (1, 8, 64, 512, 4096)
# Global batches of published runs end near here; a rank's own batch need not be larger than the second.
MOST_ROWS, MOST_RANK_ROWS = 131_072, 1024
# How fast one process writes a checkpoint while training waits, bytes a second. Assumed.
SAVE_RATE = 1e9
RESTART_S = 600
_MARKED = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

Rows = list[tuple[str, ...]]


def figure(value: float) -> str:
    """Write a number with three digits that count, thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1e}"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def choose_batch(model: Model, ranks: int, device: Device) -> tuple[int, bool]:
    """Choose a rank's batch, and whether it needs checkpointing: the largest power of two within memory and sense."""
    wanted = min(MOST_RANK_ROWS, MOST_ROWS // ranks)
    chosen = 0
    for checkpointing in (False, True):
        chosen = _largest(model, ranks, device, checkpointing, wanted)
        if chosen == wanted:
            return chosen, checkpointing
    return chosen, True


def _largest(model: Model, ranks: int, device: Device, checkpointing: bool, wanted: int) -> int:
    room = device.memory_gb * 1e9 * MEMORY_SHARE - sum(state_bytes(model, ranks, fsdp=False).values())
    sample = model.sample_bytes(accelerator_kinds(), checkpointing)
    batch = wanted
    while batch > 1 and batch * sample + loss_bytes(model, batch, ranks, "tiles") > room:
        batch //= 2
    return batch


def table_models() -> Rows:
    rows: Rows = []
    for model in map(count_model, MODELS):
        sides = [f"{tower.parameters / 1e6:.2f}" for tower in model.towers]
        work = [f"{tower.operations / 1e9:.2f}" for tower in model.towers]
        train = [figure(model.train_flops(checkpointing) / 1e9) for checkpointing in (False, True)]
        rows.append((model.name, str(model.embed), f"{model.parameters / 1e6:.2f}", *sides, *work, *train))
    return rows


def table_devices() -> Rows:
    return [
        (
            device.name,
            str(device.domain),
            figure(device.tflops),
            f"{device.utilisation:.2f}",
            figure(device.memory_gb),
            figure(device.fast_gbs),
            figure(device.slow_gbs),
            device.source,
        )
        for device in DEVICES
    ]


def table_states() -> Rows:
    rows: Rows = []
    for model in map(count_model, MODELS):
        for fsdp, ranks in [(False, 1), *((True, ranks) for ranks in RANKS[1:])]:
            parts = state_bytes(model, ranks, fsdp)
            cells = [figure(part / 1e9) for part in (*parts.values(), sum(parts.values()))]
            kind = f"`--fsdp`, {ranks:,}" if fsdp else "DDP"
            rows.append((model.name, kind, *cells))
    return rows


def table_samples() -> Rows:
    rows: Rows = []
    for model in map(count_model, MODELS):
        kinds = accelerator_kinds()
        bytes_of = [model.sample_bytes(kinds, checkpointing) for checkpointing in (False, True)]
        fits = []
        for device in DEVICES:
            room = device.memory_gb * 1e9 * MEMORY_SHARE - sum(state_bytes(model, 1, fsdp=False).values())
            fits.append(" / ".join(figure(room // part) for part in bytes_of))
        rows.append((model.name, *(figure(part / 1e6) for part in bytes_of), *fits))
    return rows


def table_losses() -> Rows:
    rows: Rows = []
    model = count_model("ViT-H-14")
    for ranks in RANKS:
        batch = min(MOST_RANK_ROWS // 2, MOST_ROWS // ranks)
        sizes = [figure(loss_bytes(model, batch, ranks, form) / 1e9) for form in ("tiles", "global", "local")]
        shares = [
            percent(loss_flops(model, batch, ranks, form) / (batch * model.train_flops(False)))
            for form in ("tiles", "global", "local")
        ]
        rows.append((f"{ranks:,}", f"{batch:,}", f"{batch * ranks:,}", *sizes, *shares))
    return rows


def table_wires() -> Rows:
    rows: Rows = []
    for model in map(count_model, MODELS):
        for ranks in RANKS[1:]:
            batch = min(MOST_RANK_ROWS // 2, MOST_ROWS // ranks)
            kinds = [sent_bytes(model, batch, ranks, kind) for kind in ("ddp", "ddp_bf16", "fsdp")]
            gathered = (kinds[0]["gather"], kinds[0]["gather_backward"])
            cells = [*(kind["gradients"] / 1e9 for kind in kinds), *(part / 1e9 for part in gathered)]
            rows.append((model.name, f"{ranks:,}", f"{batch:,}", *(figure(cell) for cell in cells)))
    return rows


def table_steps(name: str) -> Rows:
    model = count_model(name)
    rows: Rows = []
    for device in DEVICES:
        for ranks in RANKS:
            batch, checkpointing = choose_batch(model, ranks, device)
            step = time_step(model, batch, ranks, device, checkpointing, "ddp")
            seconds = (step.compute_s, step.gradients_s, step.features_s)
            days = [figure(samples / step.samples_per_s / 86400) for samples in (13e9, 34e9)]
            cells = (f"{batch:,}", "+" if checkpointing else "-", *(figure(1e3 * part) for part in seconds))
            rows.append(
                (device.name, f"{ranks:,}", *cells, percent(step.exposed_share), figure(step.samples_per_s), *days)
            )
    return rows


def table_published() -> Rows:
    model = count_model("ViT-g-14")
    rows: Rows = []
    for device in DEVICES:
        for number, published in enumerate(NEMO_G14.get(device.name, ())):
            ranks = 8 << number
            found = time_step(model, 64, ranks, device, False, "ddp").samples_per_s
            rows.append((device.name, str(ranks), figure(published), figure(found), f"{found / published:.2f}"))
    return rows


def table_loaders() -> Rows:
    rows: Rows = []
    core_s = (IMAGE_MS + CAPTION_MS) / 1e3
    large_s = (LARGE_IMAGE_MS + CAPTION_MS) / 1e3
    for model in map(count_model, MODELS):
        for device in DEVICES:
            batch, checkpointing = choose_batch(model, 64, device)
            rate = time_step(model, batch, 64, device, checkpointing, "ddp").samples_per_s / 64
            cells = (rate, 8 * rate, rate * core_s, rate * large_s, 8 * rate * SAMPLE_BYTES / 1e6)
            rows.append((model.name, device.name, *map(figure, cells), figure(512 * rate * SAMPLE_BYTES / 1e9)))
    return rows


def table_indexes() -> Rows:
    held = 64 * 10_000 * INDEX_BYTES / 1e6
    rows: Rows = []
    for samples, order_mb in ORDER_MB.items():
        files = samples * INDEX_BYTES / 1e6
        rows.append((f"{samples:,}", figure(order_mb), figure(min(held, files)), figure(files)))
    return rows


def table_saves() -> Rows:
    rows: Rows = []
    for model in map(count_model, MODELS):
        size = 12.0 * model.parameters
        for ranks in RANKS[1:]:
            between, young, daly = save_interval(size / SAVE_RATE, ranks, INTERRUPTIONS_PER_DEVICE_DAY)
            lost = size / SAVE_RATE / daly + (daly / 2 + RESTART_S) / between
            cells = (size / 1e9, between / 3600, size / SAVE_RATE, young / 60, daly / 60)
            rows.append((model.name, f"{ranks:,}", *map(figure, cells), percent(lost)))
    return rows


TABLES: dict[str, tuple[Callable[[], Rows], str, str]] = {
    "models": (
        table_models,
        "model|features|M parameters|image|caption|forward GFLOP, image|caption|step GFLOP|with checkpointing",
        "模型|特征维数|参数（百万）|图像塔|文本塔|前向 GFLOP：图像|文本|每样本每步 GFLOP|加重算",
    ),
    "devices": (
        table_devices,
        "device|fast domain, ranks|bf16 TFLOPS|utilisation|memory GB|in the domain GB/s|between GB/s|where from",
        "设备|高速域内进程数|bf16 TFLOPS|利用率|显存 GB|域内 GB/s|域间 GB/s|出处",
    ),
    "states": (
        table_states,
        "model|how, ranks|weights GB|gradients GB|AdamW GB|bf16 copies, gathered GB|all GB",
        "模型|方式、进程数|权重 GB|梯度 GB|AdamW GB|bf16 副本与汇集 GB|合计 GB",
    ),
    "samples": (
        table_samples,
        "model|MB a sample|with checkpointing|" + "|".join(f"fit: {device.name}" for device in DEVICES),
        "模型|每样本 MB|加重算|" + "|".join(f"可容纳：{device.name}" for device in DEVICES),
    ),
    "losses": (
        table_losses,
        "ranks|batch a rank|global batch|tiles GB|whole matrix GB|with `--local-loss` GB|tiles work|whole matrix work|"
        "with `--local-loss` work",
        "进程数|每进程批大小|全局批大小|分块 GB|完整矩阵 GB|加 `--local-loss` GB|分块计算占比|完整矩阵计算占比|"
        "加 `--local-loss` 计算占比",
    ),
    "wires": (
        table_wires,
        "model|ranks|batch a rank|DDP GB|DDP, bf16 GB|`--fsdp` GB|features GB|their gradient GB",
        "模型|进程数|每进程批大小|DDP GB|DDP bf16 GB|`--fsdp` GB|特征 GB|特征梯度 GB",
    ),
    **{
        f"steps-{name}": (
            lambda name=name: table_steps(name),  # type: ignore[misc]
            "device|ranks|batch a rank|checkpointing|compute ms|gradients ms|features ms|only wire|samples/s|days for "
            "13 B|34 B",
            "设备|进程数|每进程批大小|重算|计算 ms|梯度 ms|特征 ms|仅通信占比|样本/秒|130 亿样本天数|340 亿",
        )
        for name in MODELS
    },
    "published": (
        table_published,
        "device|ranks|published samples/s|this model|ratio",
        "设备|进程数|已发表 样本/秒|本模型|比值",
    ),
    "loaders": (
        table_loaders,
        "model|device|images/s a rank|8 ranks|cores a rank, 256 x 256|500 x 375|MB/s for 8 ranks|GB/s for 512",
        "模型|设备|每进程 图/秒|8 进程|每进程核数，256 x 256|500 x 375|8 进程 MB/s|512 进程 GB/s",
    ),
    "indexes": (
        table_indexes,
        "samples|order MB|indexes a worker holds MB|all index files MB",
        "样本数|顺序 MB|每个加载进程持有的索引 MB|全部索引文件 MB",
    ),
    "saves": (
        table_saves,
        "model|ranks|file GB|hours between failures|save s|Young min|Daly min|time lost",
        "模型|进程数|文件 GB|平均故障间隔（小时）|保存 秒|Young 分钟|Daly 分钟|损失时间",
    ),
}


def lay_out(name: str, language: str) -> str:
    """Write one table."""
    make, english, chinese = TABLES[name]
    heads = (english if language == "en" else chinese).split("|")
    words = {} if language == "en" else {device.source: device.source_zh for device in DEVICES}
    rows = [tuple(words.get(cell, cell) for cell in row) for row in make()]
    assert all(len(row) == len(heads) for row in rows)
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def renew(text: str, language: str) -> str:
    """Return a page with all its tables written anew."""
    return _MARKED.sub(lambda match: match[1] + lay_out(match[2], language) + match[3], text)


def main(words: Sequence[str] | None = None) -> int:
    """Write both pages, or check them."""
    parser = argparse.ArgumentParser(description="Write the tables of docs/scaling.md and docs/scaling.zh.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is out of date")
    options = parser.parse_args(words)
    stale = []
    for language, page in PAGES.items():
        text = page.read_text(encoding="utf-8")
        renewed = renew(text, language)
        if renewed != text:
            stale.append(page.name)
        if not options.check:
            page.write_text(renewed, encoding="utf-8")
    if options.check and stale:
        print(f"{' and '.join(stale)}: out of date; run `python tools/scaling_table.py`.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
