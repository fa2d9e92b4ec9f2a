"""Hold the answers of both sides against each other and say which differ and by how much. Measures no time."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import torch

from benchmarks.settings import Values

# What the two sides of a row give: groups of named tensors.
Answers = dict[str, dict[str, torch.Tensor]]
Measure = Literal["identical", "absolute", "of the maximum", "relative", "on average"]


@dataclass(frozen=True)
class Rule:
    """What must hold for a group of answers.

    Attributes:
        measure: ``identical`` values; largest ``absolute`` difference; largest difference as a share ``of the
            maximum`` of the peer's tensor; largest ``relative`` difference of any value; largest difference ``on
            average`` over a tensor.
        limit: What the difference may be at most.
    """

    measure: Measure
    limit: float = 0.0


IDENTICAL = Rule("identical")
FEATURES = Rule("absolute", 5e-7)
GRADIENTS = Rule("of the maximum", 5e-6)
# Of a whole ViT-B-32 from first weights, where features are rounded in other places than the peer's: each side is up to
# 6.8e-6 from the same gradient in fp64, so that two sound sides may be further apart than 5e-6.
MODEL_GRADIENTS = Rule("of the maximum", 1e-5)
LOSSES = Rule("relative", 1e-5)
MANY_LOSSES = Rule("relative", 1e-4)


@dataclass(frozen=True)
class Verdict:
    """How far the two sides are apart in one group."""

    what: str
    measure: Measure
    limit: float
    largest: float
    worst: str
    compared: int
    holds: bool

    def as_dict(self) -> Values:
        """Return plain values."""
        return asdict(self)

    def sentence(self) -> str:
        """Say in one line what was compared and how far apart it is."""
        found = f"{self.largest:.2g} {self.measure}, limit {self.limit:.2g}"
        if self.measure == "identical":
            found = "identical" if self.holds else f"not identical, up to {self.largest:.6g} apart"
        where = "" if self.holds else f" (worst: {self.worst})"
        return f"{self.what}: {found}, {self.compared:,} values{where}"


def compare(peer: Answers, ours: Answers, rules: Mapping[str, Rule]) -> list[Verdict]:
    """Compare all groups; a group that one side lacks does not hold."""
    groups = [*rules, *(name for name in (*peer, *ours) if name not in rules)]
    return [_compare_group(name, peer.get(name), ours.get(name), rules.get(name)) for name in dict.fromkeys(groups)]


def _compare_group(
    what: str, peer: dict[str, torch.Tensor] | None, ours: dict[str, torch.Tensor] | None, rule: Rule | None
) -> Verdict:
    if not peer or not ours or rule is None or peer.keys() != ours.keys():
        lacking = sorted(set(peer or ()) ^ set(ours or ()))[:3] if rule is not None else ["no rule for it"]
        return Verdict(what, "identical", 0.0, float("inf"), f"only on one side: {lacking}", 0, False)
    largest, worst, compared = -1.0, "", 0
    for name, expected in peer.items():
        apart = _difference(expected, ours[name], rule.measure)
        compared += expected.numel()
        if not apart <= largest:
            largest, worst = apart, name
    return Verdict(what, rule.measure, rule.limit, largest, worst, compared, largest <= rule.limit)


def _difference(expected: torch.Tensor, found: torch.Tensor, measure: Measure) -> float:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return float("inf")
    if torch.equal(expected, found):
        return 0.0
    expected, found = expected.double(), found.double()
    apart = (expected - found).abs()
    if measure == "of the maximum":
        apart = apart / expected.abs().max()
    elif measure == "relative":
        apart = apart / expected.abs()
    elif measure == "on average":
        apart = apart.mean()
    # Not a number compares as false everywhere: it must not pass.
    largest = float(apart.max())
    return largest if largest == largest else float("inf")
