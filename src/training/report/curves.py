"""Line charts as HTML and SVG without any library; readable without scripts, hover values with ``page.js``.

The SVG stretches to the width it gets while labels are HTML and lines keep their width: text stays the same size on a
phone. Knows nothing of runs.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from training.report.markup import escape
from training.report.series import Points, thin

_LARGEST = 1e18
_SIDE = 1000  # SVG units each way; stretched by CSS.


@dataclass(frozen=True)
class Series:
    """One line of a chart; ``style`` is a CSS class: main, faint, second or third. ``has_dots`` marks each point."""

    name: str
    points: Points
    style: str = "main"
    has_dots: bool = False


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_name: str,
    is_share: bool = False,
    y_from_zero: bool = False,
) -> str:
    """Draw a chart; an empty string when there is no point at all.

    Args:
        title: Shown above the chart.
        series: Drawn in order, the last on top.
        x_name: What runs along the bottom, singular, as in ``step``.
        is_share: Whether values are shares of one, shown in per cent.
        y_from_zero: Whether the y axis starts at zero.
    """
    series = [Series(one.name, thin(_drawable(one.points)), one.style, one.has_dots) for one in series]
    series = [one for one in series if one.points]
    if not series:
        return ""
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    x_low, x_high = min(xs), max(xs)
    y_ticks = nice_ticks(0.0 if y_from_zero else min(ys), max(ys), 5)
    if is_share:
        y_ticks = [tick for tick in y_ticks if tick <= 1 + 1e-9]
    y_low, y_high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)
    x_ticks = [tick for tick in nice_ticks(x_low, x_high, 6, is_whole=True) if x_low <= tick <= x_high]
    frame = _Frame(x_low, x_high, y_low, y_high)
    figure = [f'<figure class="chart" data-chart="{escape(_chart_data(series, frame, x_name, is_share))}">']
    figure.append(_caption(title, series, is_share))
    figure.append('<div class="plot"><div class="y-axis" aria-hidden="true">')
    figure += [
        f'<span style="bottom:{100 * frame.up(tick):.2f}%">{label}</span>'
        for tick, label in zip(y_ticks, format_ticks(y_ticks, is_share), strict=True)
    ]
    figure.append(f'</div><div class="area">{_svg(title, series, frame, y_ticks)}<i class="cross" hidden></i></div>')
    figure.append('<div class="x-axis" aria-hidden="true">')
    figure += [
        _x_label(frame.along(tick), f"{tick:,.0f}" if x_high < 10_000 else f"{tick / 1000:g}k") for tick in x_ticks
    ]
    figure.append(f'</div><div class="x-name">{escape(x_name)}</div></div></figure>')
    return "".join(figure)


def _drawable(points: Points) -> Points:
    """Leave out values of a damaged file whose range no axis could show."""
    return [(x, y) for x, y in points if abs(x) < _LARGEST and abs(y) < _LARGEST]


def nice_ticks(low: float, high: float, count: int, is_whole: bool = False) -> list[float]:
    """Choose round numbers that cover a range, about ``count`` of them."""
    if high <= low:
        high = low + (1.0 if is_whole else abs(low) * 0.1 or 1.0)
    rough = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    if is_whole:
        step = max(1.0, float(round(step)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def format_ticks(ticks: Sequence[float], is_share: bool = False) -> list[str]:
    """Write the labels of an axis alike: the same number of decimals, or all with an exponent."""
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else abs(ticks[0]) or 1.0
    if is_share:
        decimals = 0 if step >= 0.01 else 1
        return [f"{100 * tick:.{decimals}f}\u00a0%" for tick in ticks]
    if step < 1e-5:
        return ["0" if tick == 0 else f"{tick:.1e}".replace("e-0", "e-") for tick in ticks]
    exact = next((places for places in range(7) if abs(round(step, places) - step) < 1e-3 * step), 7)
    return ["0" if tick == 0 else f"{tick:,.{exact}f}" for tick in ticks]


def format_value(value: float, is_share: bool = False) -> str:
    """Write one value as the chart's script does: four digits, whatever its size."""
    if is_share:
        return f"{100 * value:.1f}\u00a0%"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3:
        return f"{value:.2e}".replace("e-0", "e-")
    return f"{value:,.0f}" if size >= 1000 else f"{value:#.4g}".rstrip(".")


@dataclass(frozen=True)
class _Frame:
    """Ranges of both axes, and a value's place in them as a share."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def along(self, x: float) -> float:
        return (x - self.x_low) / (self.x_high - self.x_low) if self.x_high > self.x_low else 0.5

    def up(self, y: float) -> float:
        return (y - self.y_low) / (self.y_high - self.y_low) if self.y_high > self.y_low else 0.5

    def place(self, x: float, y: float) -> str:
        return f"{_SIDE * self.along(x):.1f} {_SIDE * (1 - self.up(y)):.1f}"


def _svg(title: str, series: Sequence[Series], frame: _Frame, y_ticks: Sequence[float]) -> str:
    parts = [f'<svg viewBox="0 0 {_SIDE} {_SIDE}" preserveAspectRatio="none" role="img" aria-label="{escape(title)}">']
    for tick in y_ticks:
        height = _SIDE * (1 - frame.up(tick))
        parts.append(f'<path class="grid" d="M0 {height:.1f}H{_SIDE}"/>')
    for one in series:
        places = [frame.place(x, y) for x, y in one.points]
        parts.append(f'<path class="line {one.style}" d="M{"L".join(places)}"/>')
        if one.has_dots or len(places) == 1:
            # A line of no length with round ends: a dot that the stretched SVG cannot squash.
            dots = "".join(f"M{place}h0" for place in places)
            parts.append(f'<path class="dots {one.style}" d="{dots}"/>')
    return "".join([*parts, "</svg>"])


def _x_label(share: float, text: str) -> str:
    # A label centred on the right end would stand out of a phone's screen.
    side = ' class="end"' if share > 0.93 else ""
    return f'<span{side} style="left:{100 * share:.2f}%">{text}</span>'


def _caption(title: str, series: Sequence[Series], is_share: bool) -> str:
    keys = "".join(
        f'<span class="key {one.style}">{escape(one.name)} <b>{format_value(one.points[-1][1], is_share)}</b></span>'
        for one in series
    )
    return f'<figcaption><h3>{escape(title)}</h3><p class="keys">{keys}</p></figcaption>'


def _chart_data(series: Sequence[Series], frame: _Frame, x_name: str, is_share: bool) -> str:
    """Write the points for the script; six digits are more than a screen shows."""
    lines = [{"x": [x for x, _ in one.points], "y": [float(f"{y:.6g}") for _, y in one.points]} for one in series]
    data = {"xName": x_name, "isShare": is_share, "low": frame.x_low, "high": frame.x_high, "lines": lines}
    return json.dumps(data, separators=(",", ":"))
