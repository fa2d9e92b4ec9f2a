import math

import pytest
import torch

from benchmarks.equality import FEATURES, GRADIENTS, IDENTICAL, LOSSES, Rule, compare


def verdict(rule, peer, ours):
    (found,) = compare({"g": {"t": torch.tensor(peer)}}, {"g": {"t": torch.tensor(ours)}}, {"g": rule})
    return found


@pytest.mark.parametrize(
    "rule, peer, ours, largest, holds",
    [
        (IDENTICAL, [1, 2], [1, 2], 0.0, True),
        (IDENTICAL, [1, 2], [1, 3], 1.0, False),
        (FEATURES, [0.25, 0.5], [0.25, 0.5 + 4e-7], 4e-7, True),
        (FEATURES, [0.25, 0.5], [0.25, 0.5 + 1e-6], 1e-6, False),
        (GRADIENTS, [100.0, 0.0], [100.0, 4e-4], 4e-6, True),
        (GRADIENTS, [100.0, 0.0], [100.0, 1e-3], 1e-5, False),
        (LOSSES, [3.0, 6.0], [3.0, 6.00005], 8.3e-6, True),
        (LOSSES, [3.0, 6.0], [3.0, 6.0001], 1.67e-5, False),
        (Rule("on average", 0.5), [1, 1, 1, 1], [1, 1, 1, 3], 0.5, True),
        (Rule("on average", 0.4), [1, 1, 1, 1], [1, 1, 1, 3], 0.5, False),
    ],
)
def test_a_rule_holds_up_to_its_limit(rule, peer, ours, largest, holds):
    found = verdict(rule, peer, ours)
    assert found.largest == pytest.approx(largest, rel=0.2)
    assert found.holds is holds


@pytest.mark.parametrize("rule", [IDENTICAL, FEATURES, GRADIENTS, LOSSES, Rule("on average", 1.0)])
def test_what_is_not_a_number_never_holds(rule):
    assert not verdict(rule, [1.0, 2.0], [1.0, math.nan]).holds


def test_another_shape_or_type_never_holds():
    assert not verdict(FEATURES, [1.0, 1.0], [[1.0, 1.0]]).holds
    assert not verdict(IDENTICAL, [1.0], [1]).holds


def test_the_worst_tensor_is_named():
    peer = {"g": {"near": torch.zeros(2), "far": torch.zeros(2)}}
    ours = {"g": {"near": torch.full((2,), 1e-9), "far": torch.ones(2)}}
    (found,) = compare(peer, ours, {"g": FEATURES})
    assert found.worst == "far"
    assert found.compared == 4
    assert "worst: far" in found.sentence()


@pytest.mark.parametrize(
    "peer, ours", [({"a": {"t": torch.ones(1)}}, {}), ({"a": {}}, {"a": {}}), ({}, {"a": {"t": torch.ones(1)}})]
)
def test_a_group_that_a_side_lacks_does_not_hold(peer, ours):
    assert not all(found.holds for found in compare(peer, ours, {"a": FEATURES}))


def test_a_group_without_a_rule_does_not_hold():
    same = {"a": {"t": torch.ones(1)}}
    (found,) = compare(same, same, {})
    assert not found.holds


def test_tensors_that_only_one_side_has_do_not_hold():
    peer = {"g": {"a": torch.ones(1), "b": torch.ones(1)}}
    (found,) = compare(peer, {"g": {"a": torch.ones(1)}}, {"g": FEATURES})
    assert not found.holds
    assert "'b'" in found.worst
