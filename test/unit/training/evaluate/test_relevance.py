import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from open_clip.errors import DataError, NumericsError
from training.evaluate import Relevance, relevance_metrics, retrieval_metrics


def whole_numbers(num_rows, seed, high=1, width=3):
    """Features whose products are exact, so that many scores tie to the last bit."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-high, high + 1, (num_rows, width), generator=generator).float()


def recalls_of_a_stable_sort(queries, candidates, right, top_k):
    """Sort all candidates of each query that has a right answer, best first, and look for any of them."""
    order = np.argsort(-(queries @ candidates.T).numpy(), axis=1, kind="stable")
    firsts = [next(i for i, c in enumerate(order[q]) if c in right[q]) for q in sorted(right)]
    return [np.mean([first < k for first in firsts]) for k in top_k], float(np.median(firsts) + 1)


@settings(max_examples=120, deadline=None)
@given(
    num_images=st.integers(1, 25),
    num_texts=st.integers(1, 25),
    data=st.data(),
    tile=st.one_of(st.none(), st.integers(1, 9)),
    high=st.integers(0, 2),
)
def test_every_figure_is_that_of_a_stable_sort_over_sets(num_images, num_texts, data, tile, high):
    one = st.tuples(st.integers(0, num_images - 1), st.integers(0, num_texts - 1))
    pairs = data.draw(st.lists(one, min_size=1, max_size=60))
    images, texts = whole_numbers(num_images, 0, high), whole_numbers(num_texts, 1, high)
    relevance = Relevance.from_pairs(range(num_images), range(num_texts), pairs)
    found = relevance_metrics(images, texts, relevance, top_k=(1, 3, 10), tile=tile)
    of_image = {image: {t for i, t in pairs if i == image} for image, _ in pairs}
    of_text = {text: {i for i, t in pairs if t == text} for _, text in pairs}
    for name, asked in (("text", (images, texts, of_image)), ("image", (texts, images, of_text))):
        recalls, median = recalls_of_a_stable_sort(*asked, (1, 3, 10))
        assert [found[f"{name}_retrieval_recall@{k}"] for k in (1, 3, 10)] == pytest.approx(recalls)
        assert found[f"{name}_retrieval_mean_recall"] == pytest.approx(np.mean(recalls))
        assert found[f"{name}_retrieval_median_rank"] == median
    assert found["num_images_without_text"] == num_images - len(of_image)
    assert found["num_texts_without_image"] == num_texts - len(of_text)


def test_one_image_a_text_gives_the_recall_of_any_caption():
    image_ids = np.arange(30).repeat(3)
    images, texts = whole_numbers(30, 2, high=9, width=8), whole_numbers(90, 3, high=9, width=8)
    expected = retrieval_metrics(images[torch.from_numpy(image_ids)], texts, image_ids)
    relevance = Relevance.from_pairs(range(30), range(90), list(zip(image_ids.tolist(), range(90), strict=True)))
    found = relevance_metrics(images, texts, relevance)
    for way in ("text", "image"):
        for k in (1, 5, 10):
            assert found[f"{way}_retrieval_recall@{k}"] == expected[f"{way}_retrieval_recall@{k}"]


def test_texts_without_an_image_are_named_and_do_not_lower_the_recall(caplog):
    features = torch.eye(4)
    relevance = Relevance.from_pairs(
        ["a", "b", "c", "d"], ["one", "two", "three", "lost"], [("a", "one"), ("b", "two")]
    )
    with caplog.at_level(logging.WARNING):
        found = relevance_metrics(features, features, relevance)
    assert found["image_retrieval_recall@1"] == 1.0
    assert (found["num_images_without_text"], found["num_texts_without_image"]) == (2, 2)
    assert "2 of 4 texts have no image and are not asked with: three, lost" in caplog.text


def test_images_that_no_text_has_are_candidates_all_the_same():
    images = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    texts = torch.tensor([[1.0, 0.0]])
    found = relevance_metrics(images, texts, Relevance.from_pairs([0, 1], [0], [(1, 0)]))
    assert (found["image_retrieval_recall@1"], found["image_retrieval_recall@5"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    "images, texts, pairs, told",
    [
        ([1, 2], [5], [(1, 5), (3, 5)], r"1 of 2 right pairs .* not in the set: \(3, 5\)"),
        ([1, 1], [5], [(1, 5)], "1 image ids stand more than once: 1"),
        ([1, 2], [5], [], "nothing to measure"),
        ([1, 2, 3], [5], [(1, 5)], r"each of 3 images and 1 texts, got image features \[2, 2\]"),
    ],
)
def test_answers_that_do_not_fit_are_named(images, texts, pairs, told):

    def measure():
        return relevance_metrics(torch.eye(2), torch.eye(1, 2), Relevance.from_pairs(images, texts, pairs))

    with pytest.raises(DataError, match=told):
        measure()


def test_a_feature_that_is_not_finite_is_refused():
    broken = torch.tensor([[torch.nan, 0.0], [0.0, 1.0]])
    relevance = Relevance.from_pairs([0, 1], [0, 1], [(0, 0)])
    with pytest.raises(NumericsError, match="1 of 2 image features"):
        relevance_metrics(broken, torch.eye(2), relevance)
