"""A curve as an SVG file of its own, for pages of light and of dark background. Reads no log."""

from training.report.curves import format_ticks, nice_ticks
from training.report.markup import escape
from training.report.series import Points, smooth, thin

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 20, 44, 52
_SMOOTH_FROM = 100  # with fewer points the smoothed line would be the line itself
_STYLE = """
text{font:13px system-ui,sans-serif;fill:#444}.title{font-size:16px;font-weight:600;fill:#111}
.grid{stroke:#ddd}.line{fill:none;stroke:#1668b8;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.faint{stroke-width:1;opacity:.35}.page{fill:#fff}
@media (prefers-color-scheme:dark){text{fill:#bbb}.title{fill:#eee}.grid{stroke:#444}.line{stroke:#6cb6ff}
.page{fill:#0d1117}}
"""


def draw_chart(title: str, points: Points, *, x_name: str, is_noisy: bool = False) -> str:
    """Draw one curve, with a smoothed one above it where it is noisy and long.

    Args:
        title: Stands above it.
        points: (x, y) by rising x; at least one.
        x_name: What runs along the bottom.
        is_noisy: Whether to smooth.
    """
    lines = [("line", points)]
    if is_noisy and len(points) >= _SMOOTH_FROM:
        lines = [("line faint", points), ("line", smooth(points))]
    low = min(0.0, *(y for _, y in points))
    y_ticks = nice_ticks(low, max(y for _, y in points), 6)
    first, last = points[0][0], points[-1][0]
    x_ticks = [tick for tick in nice_ticks(first, last, 6, is_whole=True) if first <= tick <= last]

    def across(x: float) -> float:
        share = (x - first) / (last - first) if last > first else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def down(y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><style>{_STYLE}</style><rect class="page" width="100%" height="100%"/>',
        f'<text class="title" x="{_LEFT}" y="26">{escape(title)}</text>',
    ]
    for tick, label in zip(y_ticks, format_ticks(y_ticks), strict=True):
        parts.append(f'<path class="grid" d="M{_LEFT} {down(tick):.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{down(tick) + 4:.1f}" text-anchor="end">{label}</text>')
    for tick in x_ticks:
        label = f"{tick:,.0f}" if last < 10_000 else f"{tick / 1000:g}k"
        parts.append(f'<text x="{across(tick):.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{label}</text>')
    for style, one in lines:
        places = [f"{across(x):.1f} {down(y):.1f}" for x, y in thin(one)]
        # A line of no length with round ends shows a single point.
        path = f"M{'L'.join(places)}" if len(places) > 1 else f"M{places[0]}h0"
        parts.append(f'<path class="{style}" d="{path}"/>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(x_name)}</text></svg>\n')
    return "".join(parts)
