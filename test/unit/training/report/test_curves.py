import json
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.report.curves import Series, format_ticks, format_value, line_chart, nice_ticks
from training.report.series import smooth, thin

numbers = st.floats(-1e9, 1e9, allow_nan=False, allow_infinity=False)


def test_a_chart_has_axes_labels_and_values_without_any_script():
    chart = line_chart("Loss", [Series("logged", [(1, 2.0), (50, 4.0), (100, 3.0)])], x_name="step")
    for part in ("<h3>Loss</h3>", "3.000", ">2.0<", ">4.0<", ">40<", ">100<", ">step<", 'aria-label="Loss"'):
        assert part in chart


def test_a_chart_without_points_is_nothing():
    assert line_chart("Loss", [Series("logged", [])], x_name="step") == ""


def test_shares_are_shown_in_per_cent_and_end_at_one_hundred():
    chart = line_chart("R", [Series("R@5", [(1, 0.2), (2, 1.0)])], x_name="epoch", is_share=True, y_from_zero=True)
    assert "100\u00a0%" in chart
    assert "120\u00a0%" not in chart


@settings(max_examples=60, deadline=None)
@given(points=st.lists(st.tuples(st.integers(0, 10**7), numbers), min_size=1, max_size=40))
def test_any_points_stay_inside_the_chart(points):
    points = sorted(points)
    chart = line_chart("any", [Series("a", points)], x_name="step")
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.extend(value for name, value in attrs if tag == "path" and name == "d")
            found.extend(json.loads(value) for name, value in attrs if name == "data-chart")

    Reader().feed(chart)
    line = next(one for one in found[1:] if "L" in one or "h0" in one)
    for place in line.removeprefix("M").replace("h0", "").split("L"):
        assert all(-0.1 <= float(one) <= 1000.1 for one in place.split())


@settings(max_examples=60, deadline=None)
@given(low=numbers, size=st.floats(1e-9, 1e9))
def test_ticks_cover_the_range_and_are_few(low, size):
    ticks = nice_ticks(low, low + size, 5)
    assert ticks[0] <= low + 1e-6 * abs(low) + 1e-6 * size
    assert ticks[-1] >= (low + size) - 1e-6 * abs(low) - 1e-6 * size
    assert len(ticks) <= 8


def test_tick_labels_of_one_axis_are_written_alike():
    assert format_ticks([0, 0.00025, 0.0005]) == ["0", "0.00025", "0.00050"]
    assert format_ticks([1.5, 2.0, 2.5]) == ["1.5", "2.0", "2.5"]
    assert format_ticks([0, 2000, 4000]) == ["0", "2,000", "4,000"]
    assert format_ticks([0, 2e-6, 4e-6]) == ["0", "2.0e-6", "4.0e-6"]
    assert format_ticks([0, 0.2], is_share=True) == ["0\u00a0%", "20\u00a0%"]


@pytest.mark.parametrize(
    "value, text", [(0.0, "0"), (2.34567, "2.346"), (12345.6, "12,346"), (5e-5, "5.00e-5"), (587.54, "587.5")]
)
def test_values_have_four_digits_whatever_their_size(value, text):
    assert format_value(value) == text


@settings(max_examples=60, deadline=None)
@given(values=st.lists(numbers, max_size=3000), limit=st.integers(4, 200))
def test_thinning_keeps_order_ends_and_extremes(values, limit):
    points = list(enumerate(values))
    thinned = thin(points, limit)
    assert len(thinned) <= max(limit, 4)
    assert thinned == sorted(thinned)
    assert set(thinned) <= set(points)
    if points:
        assert (thinned[0], thinned[-1]) == (points[0], points[-1])
        assert min(y for _, y in thinned) == min(values)
        assert max(y for _, y in thinned) == max(values)


def test_smoothing_keeps_a_constant_and_starts_without_bias():
    assert [y for _, y in smooth([(x, 3.0) for x in range(100)])] == pytest.approx([3.0] * 100)
    assert smooth([(0, 5.0), (1, 1.0)])[0] == (0, 5.0)
