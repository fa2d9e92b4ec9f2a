import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from open_clip.errors import DataError, NumericsError
from training.evaluate.groups import group_images
from training.evaluate.retrieval import retrieval_metrics
from training.evaluate.ties import count_texts_ahead


def unit_features(num_rows, width=16, seed=0, dtype=torch.float64):
    """Random unit vectors; float64 draws keep float32 scores apart, so there are no ties by accident."""
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(num_rows, width, generator=generator, dtype=dtype), dim=-1).float()


def shared_images(image_ids, seed=0):
    """Features in which rows of the same id hold the same image."""
    groups = group_images(image_ids)
    return unit_features(len(groups.first_row), seed=seed)[torch.from_numpy(groups.image_of)]


def brute_force_one_to_one(images, texts):
    """Sort everything and look up the position of the diagonal, as upstream does."""
    scores = images @ texts.T
    metrics = {}
    for name, matrix in (("image_to_text", scores), ("text_to_image", scores.T)):
        order = matrix.argsort(dim=1, descending=True)
        ranks = (order == torch.arange(len(matrix))[:, None]).nonzero()[:, 1].numpy()
        metrics[f"{name}_mean_rank"] = ranks.mean() + 1
        metrics[f"{name}_median_rank"] = math.floor(np.median(ranks)) + 1
        for k in (1, 5, 10):
            metrics[f"{name}_R@{k}"] = (ranks < k).mean()
    return metrics


def brute_force_benchmark(images, texts, image_ids):
    """Take the K best of the score matrix of unique images and look for any right answer."""
    ids = list(image_ids)
    unique = list(dict.fromkeys(ids))
    unique_images = images[[ids.index(one) for one in unique]]
    right = torch.tensor([[one == owner for owner in ids] for one in unique])
    scores = unique_images @ texts.T
    metrics = {}
    for k in (1, 5, 10):
        best_texts = scores.topk(min(k, scores.shape[1]), dim=1).indices
        best_images = scores.T.topk(min(k, scores.shape[0]), dim=1).indices
        metrics[f"text_retrieval_recall@{k}"] = right.gather(1, best_texts).any(dim=1).double().mean().item()
        metrics[f"image_retrieval_recall@{k}"] = right.T.gather(1, best_images).any(dim=1).double().mean().item()
    return metrics


@settings(max_examples=40, deadline=None)
@given(num_pairs=st.integers(1, 70), tile=st.one_of(st.none(), st.integers(1, 80)), seed=st.integers(0, 10_000))
def test_one_to_one_metrics_equal_a_full_sort(num_pairs, tile, seed):
    images, texts = unit_features(num_pairs, seed=seed), unit_features(num_pairs, seed=seed + 1)
    metrics = retrieval_metrics(images, texts, list(range(num_pairs)), tile=tile)
    for name, value in brute_force_one_to_one(images, texts).items():
        assert metrics[name] == pytest.approx(value, abs=1e-12), name


@settings(max_examples=40, deadline=None)
@given(
    image_ids=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    tile=st.one_of(st.none(), st.integers(1, 70)),
    seed=st.integers(0, 10_000),
)
def test_benchmark_metrics_equal_a_top_k_over_unique_images(image_ids, tile, seed):
    images, texts = shared_images(image_ids, seed), unit_features(len(image_ids), seed=seed + 1)
    metrics = retrieval_metrics(images, texts, torch.tensor(image_ids), tile=tile)
    for name, value in brute_force_benchmark(images, texts, image_ids).items():
        assert metrics[name] == pytest.approx(value, abs=1e-12), name
    assert (metrics["num_images"], metrics["num_texts"]) == (len(set(image_ids)), len(image_ids))


def whole_features(num_rows, width=3, seed=0, high=1):
    """Small whole numbers: their products are exact in float32, so many scores tie to the last bit."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-high, high + 1, (num_rows, width), generator=generator).float()


def stable_places(scores):
    """Give each column's place in its row's stable order of descending scores."""
    order = np.argsort(-scores, axis=1, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(scores.shape[1])[None, :], axis=1)
    return places


def stable_sort_metrics(images, texts, image_ids):
    """Sort whole score matrices stably, rows against rows and unique images against texts."""
    ids = np.array(image_ids)
    unique = list(dict.fromkeys(image_ids))
    first_rows = [image_ids.index(one) for one in unique]
    own_image = np.array([unique.index(one) for one in image_ids])
    scores = (images @ texts.T).numpy()
    ranks = {
        "image_to_text": np.diag(stable_places(scores)),
        "text_to_image": np.diag(stable_places(scores.T)),
    }
    best_caption = [stable_places(scores[first_rows])[place, ids == one].min() for place, one in enumerate(unique)]
    best_image = stable_places(scores[first_rows].T)[np.arange(len(ids)), own_image]
    metrics = {f"{name}_mean_rank": one.mean() + 1 for name, one in ranks.items()}
    metrics |= {f"{name}_median_rank": math.floor(np.median(one)) + 1 for name, one in ranks.items()}
    for k in (1, 5, 10):
        metrics |= {f"{name}_R@{k}": np.mean(one < k) for name, one in ranks.items()}
        metrics[f"text_retrieval_recall@{k}"] = np.mean(np.array(best_caption) < k)
        metrics[f"image_retrieval_recall@{k}"] = np.mean(best_image < k)
    return metrics


@settings(max_examples=100, deadline=None)
@given(
    image_ids=st.lists(st.integers(0, 9), min_size=1, max_size=50),
    is_sorted=st.booleans(),
    tile=st.one_of(st.none(), st.integers(1, 60)),
    high=st.integers(0, 2),
    seed=st.integers(0, 10_000),
)
def test_every_metric_equals_a_stable_sort_whatever_ties(image_ids, is_sorted, tile, high, seed):
    image_ids = sorted(image_ids) if is_sorted else image_ids
    groups = group_images(image_ids)
    images = whole_features(len(groups.first_row), seed=seed, high=high)[torch.from_numpy(groups.image_of)]
    texts = whole_features(len(image_ids), seed=seed + 1, high=high)
    metrics = retrieval_metrics(images, texts, image_ids, tile=tile)
    for name, value in stable_sort_metrics(images, texts, image_ids).items():
        assert metrics[name] == pytest.approx(value, abs=1e-12), name


def test_five_captions_a_image_limit_the_one_to_one_definition_only():
    image_ids = np.repeat(np.arange(20), 5)
    images = unit_features(20)
    texts = normalize(images[torch.from_numpy(image_ids)] + 0.01 * unit_features(100, seed=3), dim=-1)
    metrics = retrieval_metrics(images[torch.from_numpy(image_ids)], texts, image_ids)
    assert metrics["image_to_text_R@1"] == pytest.approx(0.2)
    assert metrics["image_to_text_R@5"] == 1.0
    assert metrics["text_to_image_R@1"] == pytest.approx(0.2)
    assert metrics["text_to_image_R@5"] == 1.0
    assert metrics["text_retrieval_recall@1"] == 1.0
    assert metrics["image_retrieval_recall@1"] == 1.0


def test_a_collapsed_model_scores_what_chance_gives():
    image_ids = list(np.repeat(np.arange(20), 5))
    same = torch.ones(100, 4)
    metrics = retrieval_metrics(same, same, image_ids, tile=7)
    for direction in ("image_to_text", "text_to_image"):
        assert metrics[f"{direction}_mean_rank"] == 50.5
        assert [metrics[f"{direction}_R@{k}"] for k in (1, 5, 10)] == pytest.approx([0.01, 0.05, 0.1])
    assert [metrics[f"image_retrieval_recall@{k}"] for k in (1, 5, 10)] == pytest.approx([0.05, 0.25, 0.5])
    assert [metrics[f"text_retrieval_recall@{k}"] for k in (1, 5, 10)] == pytest.approx([0.05, 0.05, 0.1])


def test_the_earlier_of_two_equal_candidates_is_ahead():
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    images = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.5, 0.5]])
    metrics = retrieval_metrics(images, texts, [0, 1, 2])
    assert metrics["image_to_text_mean_rank"] == pytest.approx((1 + 2 + 3) / 3)
    assert metrics["text_to_image_mean_rank"] == pytest.approx((2 + 1 + 2) / 3)


def test_a_collapsed_model_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        retrieval_metrics(torch.ones(3, 2), torch.eye(3, 2), [0, 1, 2])
    assert "All 3 image features are equal" in caplog.text


def test_the_keys_keep_upstreams_order_so_that_log_lines_can_be_cut():
    metrics = retrieval_metrics(unit_features(3), unit_features(3, seed=1), [0, 1, 2])
    assert list(metrics)[:5] == [
        "image_to_text_mean_rank",
        "image_to_text_median_rank",
        "image_to_text_R@1",
        "image_to_text_R@5",
        "image_to_text_R@10",
    ]
    assert list(metrics)[5:10] == [name.replace("image_to_text", "text_to_image") for name in list(metrics)[:5]]


def test_the_median_is_floored_as_upstream_does():
    scores = torch.eye(2)[[1, 0]]  # ranks 1 and 1, then a set with ranks 0 and 1
    assert retrieval_metrics(scores, torch.eye(2), [0, 1])["image_to_text_median_rank"] == 2.0
    images, texts = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert retrieval_metrics(images, texts, [0, 1])["image_to_text_median_rank"] == 1.0


def test_a_feature_that_is_not_finite_is_refused_instead_of_ranked_first():
    images = unit_features(4)
    images[2, 0] = math.nan
    with pytest.raises(NumericsError, match="1 of 4 image features are not finite"):
        retrieval_metrics(images, unit_features(4), range(4))


def test_lengths_that_disagree_name_all_three():
    with pytest.raises(DataError, match=r"\[4, 16\].*\[3, 16\].*4 image ids"):
        retrieval_metrics(unit_features(4), unit_features(3), [0, 1, 2, 3])


def test_an_empty_set_is_refused():
    with pytest.raises(DataError, match="empty set"):
        retrieval_metrics(torch.empty(0, 8), torch.empty(0, 8), [])


def test_a_tile_compares_no_more_rows_than_asked(monkeypatch):
    seen = []

    class Recorder(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func in (torch.Tensor.le, torch.Tensor.__le__):
                seen.append(tuple(args[0].shape))
            return func(*args, **(kwargs or {}))

    groups = group_images([0] * 50)
    with Recorder():
        count_texts_ahead(unit_features(1), unit_features(50), groups, np.arange(50), rows=8)
    assert seen == [(8, 50)] * 6 + [(2, 50)]


def test_images_are_numbered_by_their_first_row():
    groups = group_images([7, 7, 3, 9, 3])
    assert groups.first_row.tolist() == [0, 2, 3]
    assert groups.image_of.tolist() == [0, 0, 1, 2, 1]
    assert groups.counts.tolist() == [2, 2, 1]
