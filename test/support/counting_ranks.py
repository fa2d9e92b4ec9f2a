"""One process's part in counting retrieval ranks together, to be run in its own process."""

import numpy as np
import torch

from training.evaluate import Relevance, relevance_metrics, retrieval_metrics
from training.evaluate.groups import group_images
from training.evaluate.ranks import count_ahead

CASES = {
    "as many windows as processes": {"num_images": 600, "captions": 1, "tile": None},
    "windows left over": {"num_images": 64, "captions": 3, "tile": 7},
    "too few to share": {"num_images": 90, "captions": 2, "tile": None},
    "many ties": {"num_images": 80, "captions": 2, "tile": 20, "whole_numbers": True},
}


def make_case(num_images, captions, tile, whole_numbers=False):
    """Features of all pairs, and which rows show the same image."""
    generator = torch.Generator().manual_seed(num_images)
    ids = torch.randint(num_images, (num_images * captions,), generator=generator)
    if whole_numbers:
        images, texts = (torch.randint(-2, 3, (len(ids), 3), generator=generator).float() for _ in range(2))
    else:
        images, texts = (torch.randn(len(ids), 16, generator=generator) for _ in range(2))
    return images[ids], texts, ids, tile


def count(images, texts, ids, tile, world):
    """What the trainer asks for, and the ranks below it."""
    groups = group_images(ids)
    different = images[torch.from_numpy(groups.first_row)]
    ranks = count_ahead(different, texts, groups, tile, world)
    # Each text belongs to its own image and to the next one.
    numbers = range(len(different))
    pairs = [((image + more) % len(numbers), text) for text, image in enumerate(groups.image_of) for more in (0, 1)]
    relevance = Relevance.from_pairs(numbers, range(len(texts)), pairs)
    of_sets = relevance_metrics(different, texts, relevance, tile=tile, world=world)
    metrics = retrieval_metrics(images, texts, ids, tile, world)
    return np.stack(ranks), metrics | {f"sets: {name}": value for name, value in of_sets.items()}


def count_on_rank(world):
    """Count every case, and the products that it took."""
    products = []
    original = torch.mm
    torch.mm = lambda *args, **kwargs: (products.append(1), original(*args, **kwargs))[1]
    found = {}
    for name, case in CASES.items():
        products.clear()
        answer = count(*make_case(**case), world)
        found[name] = (*answer, len(products))
    return found
