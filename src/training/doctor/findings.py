"""What a trial found: figures by column, and whether they are as they should be. Imports no torch at its top."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

#: How a trial can end. ``wrong``: it ran and its figures are not what they should be.
STATES = ("ok", "wrong", "failed", "not tried")

#: Plain values by name, as a JSON line or file holds them.
Answer = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """One line of a table.

    Attributes:
        what: What was tried.
        cells: Figures by the names of their columns.
        state: One of ``STATES``.
        why: Why it is not ``ok``; foreign text is allowed.
    """

    what: str
    cells: dict[str, str] = field(default_factory=dict)
    state: str = "ok"
    why: str = ""

    def to_json(self) -> Answer:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Deviation:
    """How far numbers are from the ones expected.

    Attributes:
        max_abs: Largest absolute difference.
        mean_abs: Mean absolute difference.
        relative: Norm of the difference over the norm of what was expected.
        cosine: Cosine between the two, as vectors.
    """

    max_abs: float
    mean_abs: float
    relative: float
    cosine: float

    def within(self, bound: float) -> bool:
        """Tell whether the relative difference is a number and at most ``bound``."""
        return math.isfinite(self.relative) and self.relative <= bound

    def cells(self) -> dict[str, str]:
        """Return the figures under the names that reports of the field use."""
        return {
            "max_abs_error": f"{self.max_abs:.3e}",
            "mean_abs_error": f"{self.mean_abs:.3e}",
            "relative_error": f"{self.relative:.3e}",
            "cosine_similarity": f"{self.cosine:.6f}",
        }


def compare(found: "Tensor", expected: "Tensor") -> Deviation:
    """Compare two tensors of one shape, of any device and float type, in double precision on the host.

    Raises:
        ValueError: Their shapes differ.
    """
    if found.shape != expected.shape:
        raise ValueError(f"shape {tuple(found.shape)} where {tuple(expected.shape)} was expected")
    # A device need not have double precision: it is converted on the host.
    a, b = (x.detach().cpu().double().flatten() for x in (found, expected))
    apart = (a - b).abs()
    norms = float(a.norm()), float(b.norm())
    product = norms[0] * norms[1]
    relative = float(apart.norm()) / norms[1] if norms[1] else float(apart.norm())
    # Two tensors of zeros are alike.
    cosine = float(a @ b) / product if product else float(norms[0] == norms[1])
    return Deviation(float(apart.max()), float(apart.mean()), relative, cosine)


def judge(what: str, difference: Deviation, bound: float, **cells: str) -> Finding:
    """Make a finding of a difference: ``ok`` when its relative error is within ``bound``."""
    is_good = difference.within(bound)
    why = "" if is_good else f"relative error {difference.relative:.2e} is over {bound:g}"
    return Finding(what, {**cells, **difference.cells(), "bound": f"{bound:g}"}, "ok" if is_good else "wrong", why)


def latency_cells(seconds: Sequence[float], samples: int = 0, tokens: int = 0) -> dict[str, str]:
    """Give mean, p50, p90 and p95 of a step in milliseconds, and what passes in a second.

    Args:
        seconds: How long each timed step took.
        samples: Images or texts of one step; 0 leaves their column out.
        tokens: Text tokens of one step, without padding; likewise.
    """
    mean = statistics.fmean(seconds)
    cells = {"steps": str(len(seconds)), "avg ms": f"{mean * 1e3:.2f}"}
    cells |= {f"p{part} ms": f"{percentile(seconds, part) * 1e3:.2f}" for part in (50, 90, 95)}
    if samples:
        cells["samples/s"] = f"{samples / mean:,.1f}"
    if tokens:
        cells["tokens/s"] = f"{tokens / mean:,.0f}"
    return cells


def percentile(values: Sequence[float], part: float) -> float:
    """Give the value below which ``part`` per cent of the values lie, between two of them where it falls there."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * part / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
