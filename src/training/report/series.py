"""Makes long series of points fit a chart: thinning that keeps the extremes, and smoothing. Draws nothing."""

Points = list[tuple[float, float]]

MAX_POINTS = 800
_SMOOTH_SHARE = 0.03


def thin(points: Points, limit: int = MAX_POINTS) -> Points:
    """Keep at most ``limit`` points: of each stretch its lowest and highest, and the first and last of all.

    A spike of a single step stays visible, which averaging or taking every n-th point would hide.
    """
    if len(points) <= limit:
        return list(points)
    inner = points[1:-1]
    num_stretches = max(1, (limit - 2) // 2)
    kept = [points[0]]
    for index in range(num_stretches):
        stretch = inner[index * len(inner) // num_stretches : (index + 1) * len(inner) // num_stretches]
        if stretch:
            lowest = min(range(len(stretch)), key=lambda place: stretch[place][1])
            highest = max(range(len(stretch)), key=lambda place: stretch[place][1])
            kept += [stretch[place] for place in sorted({lowest, highest})]
    return [*kept, points[-1]]


def smooth(points: Points) -> Points:
    """Average each point with those before it, weights falling off over about 3 % of the series.

    The weights are corrected at the start, so that the first points are no zero-biased guesses.
    """
    keep = 1.0 - 1.0 / max(1.0, _SMOOTH_SHARE * len(points))
    total, weight, smoothed = 0.0, 0.0, []
    for x, y in points:
        total, weight = keep * total + (1 - keep) * y, keep * weight + (1 - keep)
        smoothed.append((x, total / weight))
    return smoothed
