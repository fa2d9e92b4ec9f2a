import pytest

from open_clip import tuples, utils
from open_clip.transformer import to_2tuple


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_number_is_repeated_and_a_tuple_is_left_alone(count):
    make = getattr(tuples, f"to_{count}tuple")
    assert make(5) == (5,) * count
    assert make((1, 2, 3, 4, 5)) == (1, 2, 3, 4, 5)


def test_the_functions_are_found_where_programs_look_for_them():
    assert utils.to_2tuple is to_2tuple is tuples.to_2tuple
