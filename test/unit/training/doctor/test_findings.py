import math

import pytest
import torch

from training.doctor.findings import Deviation, compare, judge, latency_cells, percentile


def test_a_difference_has_the_four_figures_of_a_report():
    found = compare(torch.tensor([1.0, 2.0, 2.5]), torch.tensor([1.0, 2.0, 2.0]))
    assert found == Deviation(
        0.5, pytest.approx(0.5 / 3), pytest.approx(0.5 / 3.0), pytest.approx(10 / (3 * math.sqrt(11.25)))
    )


def test_zeros_and_infinities_are_compared_too():
    zeros = torch.zeros(3)
    assert compare(zeros, zeros) == Deviation(0.0, 0.0, 0.0, 1.0)
    assert not compare(torch.tensor([math.inf]), torch.ones(1)).within(10.0)
    assert not compare(torch.tensor([math.nan]), torch.ones(1)).within(10.0)
    assert judge("x", compare(torch.tensor([math.nan]), torch.ones(1)), 1.0).state == "wrong"


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"shape \(3,\) where \(3, 1\)"):
        compare(torch.ones(3), torch.ones(3, 1))


@pytest.mark.parametrize("part,expected", [(0, 1.0), (50, 3.0), (90, 4.6), (100, 5.0)])
def test_percentiles_fall_between_values(part, expected):
    assert percentile([5.0, 1.0, 2.0, 4.0, 3.0], part) == pytest.approx(expected)


def test_latency_is_in_milliseconds_and_throughput_in_samples_a_second():
    cells = latency_cells([0.1, 0.1, 0.4], samples=8, tokens=100)
    assert cells == {
        "steps": "3",
        "avg ms": "200.00",
        "p50 ms": "100.00",
        "p90 ms": "340.00",
        "p95 ms": "370.00",
        "samples/s": "40.0",
        "tokens/s": "500",
    }
