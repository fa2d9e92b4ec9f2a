"""Draw the ratios of a run as one SVG, by hand: bars on a scale of doublings. Reads no file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT = 540, 14, 78
_ROW, _HEAD, _FOOT, _SECTION = 44, 74, 30, 34
_INK, _FAINT, _GRID, _BAR, _MEMORY, _SLOW = "#1f2328", "#59636e", "#d8dee4", "#2f6fb3", "#7a5aa8", "#b35900"
_FONT = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'Noto Sans CJK SC', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Bar:
    """One ratio: median, range and the figure to reach."""

    label: str
    median: float
    low: float
    high: float
    target: float | None = None
    is_memory: bool = False


@dataclass(frozen=True)
class Words:
    """What stands beside the bars, in one language."""

    title: str
    times: str
    memory: str
    legend: str


ENGLISH = Words(
    "How many times less than open_clip_torch 3.3.0",
    "Processor time, same machine, in turn",
    "Peak memory beyond the inputs",
    "bar: median of rounds · line: lowest to highest · dashed: figure to reach",
)
CHINESE = Words(
    "相对 open_clip_torch 3.3.0 节省的倍数",
    "处理器时间，同一台机器，交替测量",
    "输入之外的内存峰值",
    "条：各轮中位数 · 线：最低到最高 · 虚线：目标值",
)


def draw(bars: Sequence[Bar], words: Words) -> str:
    """Draw the bars of time, then those of memory."""
    groups = [(words.times, [bar for bar in bars if not bar.is_memory])]
    groups.append((words.memory, [bar for bar in bars if bar.is_memory]))
    groups = [(name, group) for name, group in groups if group]
    height = _HEAD + sum(_SECTION + _ROW * len(group) for _, group in groups) + _FOOT
    scale = _Scale(bars)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" role="img" aria-label="{escape(words.title)}" font-family="{_FONT}">',
        f'<rect width="{_WIDTH}" height="{height}" rx="6" fill="#ffffff"/>',
        _text(_LEFT, 28, words.title, size=17, weight=600),
        _text(_LEFT, 50, words.legend, size=13, color=_FAINT),
    ]
    parts += [
        f'<path d="M{scale.x(tick):.1f} {_HEAD}V{height - _FOOT}" stroke="{_INK if tick == 1 else _GRID}" '
        f'stroke-width="1"/>{_text(scale.x(tick), height - 10, f"{tick:g}", size=12.5, color=_FAINT, anchor="middle")}'
        for tick in scale.ticks
    ]
    top = float(_HEAD)
    for name, group in groups:
        parts.append(_label_ground(top + 4, name))
        parts.append(_text(_LEFT, top + 21, name, size=13.5, weight=600, color=_FAINT))
        top += _SECTION
        for bar in group:
            parts.append(_row(bar, top, scale))
            top += _ROW
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Scale:
    """Doublings from a half or less to the largest ratio."""

    def __init__(self, bars: Sequence[Bar]) -> None:
        values = [value for bar in bars for value in (bar.low, bar.high, bar.target or 1.0)]
        self._first = min(0, math.floor(math.log2(min([1.0, *values]))))
        self._last = max(1, math.ceil(math.log2(max([2.0, *values]))))
        self.ticks = [2.0**power for power in range(self._first, self._last + 1)]

    def x(self, value: float) -> float:
        """Return where a ratio stands."""
        share = (math.log2(value) - self._first) / (self._last - self._first)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _row(bar: Bar, top: float, scale: _Scale) -> str:
    color = _SLOW if bar.median < 1 else _MEMORY if bar.is_memory else _BAR
    start, end = sorted((scale.x(1.0), scale.x(bar.median)))
    middle = top + 29
    drawn = [
        _label_ground(top + 2, bar.label, size=15),
        _text(_LEFT, top + 16, bar.label, size=15),
        f'<rect x="{start:.1f}" y="{middle - 7}" width="{max(end - start, 1):.1f}" height="14" fill="{color}"/>',
        f'<path d="M{scale.x(bar.low):.1f} {middle}H{scale.x(bar.high):.1f}" stroke="{_INK}" stroke-width="2"/>',
    ]
    if bar.target is not None:
        place = scale.x(bar.target)
        line = f'stroke="{_INK}" stroke-width="2" stroke-dasharray="4 2"'
        drawn.append(f'<path d="M{place:.1f} {middle - 11}V{middle + 11}" stroke="#ffffff" stroke-width="5"/>')
        drawn.append(f'<path d="M{place:.1f} {middle - 11}V{middle + 11}" {line}/>')
    digits = 1 if bar.median >= 10 else 2
    drawn.append(_text(_WIDTH - 12, middle + 6, f"{bar.median:.{digits}f}×", size=17, weight=600, anchor="end"))
    return "".join(drawn)


def _label_ground(top: float, text: str, size: float = 13.5) -> str:
    """Keep the lines of the grid out from behind a text, whose width is guessed: wide characters are square."""
    width = sum(size if ord(char) > 0x2E80 else 0.56 * size for char in text)
    return f'<rect x="{_LEFT}" y="{top}" width="{width + 4:.0f}" height="19" fill="#ffffff"/>'


def _text(
    x: float, y: float, text: str, *, size: float, weight: int = 400, color: str = _INK, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{color}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
