import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluate.groups import group_images
from training.evaluate.ranks import count_ahead
from training.evaluate.ties import count_images_ahead, count_texts_ahead


def whole_numbers(num_rows, width=3, seed=0, high=2):
    """Features whose products are exact in float32, so that many scores tie to the last bit."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-high, high + 1, (num_rows, width), generator=generator).float()


def unit_rows(num_rows, width=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(num_rows, width, generator=generator), dim=-1)


def settled(images, texts, groups):
    """Count everything with an eye on positions."""
    pairs = np.arange(len(texts))
    by_row, by_image = count_images_ahead(images, texts, groups, pairs, 1000)
    return count_texts_ahead(images, texts, groups, pairs, 1000), by_row, by_image


class Calls(torch.overrides.TorchFunctionMode):
    """Notes the calls of some functions, and may change what the products of matrices give."""

    def __init__(self, change=lambda call, product: None):
        self.products, self.names, self._change = [], [], change

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.names.append(getattr(func, "__name__", str(func)))
        if func is torch.mm:
            self._change(len(self.products), result)
            self.products.append(tuple(result.shape))
        return result


@settings(max_examples=80, deadline=None)
@given(
    image_ids=st.lists(st.integers(0, 30), min_size=1, max_size=90),
    tile=st.one_of(st.none(), st.integers(1, 40)),
    high=st.integers(0, 3),
    seed=st.integers(0, 10_000),
)
def test_one_pass_counts_what_a_look_at_every_position_counts(image_ids, tile, high, seed):
    groups = group_images(image_ids)
    images = whole_numbers(len(groups.first_row), seed=seed, high=high)
    texts = whole_numbers(len(image_ids), seed=seed + 1, high=high)
    for found, expected in zip(count_ahead(images, texts, groups, tile), settled(images, texts, groups), strict=True):
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("captions_each", [1, 5, 33])
def test_without_ties_nothing_is_counted_twice(captions_each):
    image_ids = np.arange(60).repeat(captions_each)
    groups = group_images(image_ids)
    images, texts = unit_rows(60), unit_rows(len(image_ids), seed=1)
    with Calls() as calls:
        ranks = count_ahead(images, texts, groups, 20)
    assert "sort" not in " ".join(calls.names)
    # More than a few captions an image go the way of ties, all of them.
    assert (len(calls.products) > 0) == (captions_each < 33)
    for found, expected in zip(ranks, settled(images, texts, groups), strict=True):
        assert found.tolist() == expected.tolist()


def test_a_tie_is_settled_for_the_pairs_that_have_one():
    groups = group_images(range(64))
    images, texts = unit_rows(64), unit_rows(64, seed=1)
    texts[40] = texts[3]
    images[9] = images[50]
    for found, expected in zip(count_ahead(images, texts, groups, 16), settled(images, texts, groups), strict=True):
        assert found.tolist() == expected.tolist()


def test_all_tiles_have_one_shape_and_few_of_them_overlap():
    groups = group_images(np.arange(70).repeat(3))
    with Calls() as calls:
        count_ahead(unit_rows(70), unit_rows(210, seed=1), groups, 50)
    # 6 windows of texts for the pairs' own scores, then 2 of images against the 6.
    assert calls.products == [(35, 35)] * (6 + 2 * 6)


@pytest.mark.parametrize("change", [1e-6, -1e-6])
def test_products_that_round_differently_from_tile_to_tile_are_noticed(change):
    image_ids = np.arange(64).repeat(2)
    groups = group_images(image_ids)
    images, texts = unit_rows(64), unit_rows(128, seed=1)
    expected = settled(images, texts, groups)

    def unreliable(call, product):
        if call == 2:
            product.add_(change)

    with Calls(unreliable):
        ranks = count_ahead(images, texts, groups, 32)
    for found, right in zip(ranks, expected, strict=True):
        assert found.tolist() == right.tolist()


def test_some_pairs_get_the_places_that_they_have_among_all():
    image_ids = np.random.default_rng(0).integers(0, 12, 60)
    groups = group_images(image_ids)
    images, texts = whole_numbers(len(groups.first_row)), whole_numbers(60, seed=1)
    some = np.array([3, 59, 17, 4])
    by_row, by_image = count_images_ahead(images, texts, groups, some, 3)
    found = count_texts_ahead(images, texts, groups, some, 3), by_row, by_image
    for values, everything in zip(found, settled(images, texts, groups), strict=True):
        assert values.tolist() == everything[some].tolist()
