import pickle
import random

import numpy as np
import pytest
import torch

from open_clip.transform import Compose, RandomTransform, SeededCompose
from open_clip.transform.compose import draw_chance, draw_uniform


class AddRandom(RandomTransform):
    def __call__(self, image, generator=None):
        return image + draw_uniform(0, 1, generator) + draw_chance(generator)

    def __repr__(self):
        return "AddRandom()"


def double(image):
    return image * 2


def add_from_globals(image):
    return image + random.random() + np.random.rand() + torch.rand(1).item()


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_transforms_apply_in_order():
    assert Compose([double, lambda image: image + 1])(10) == 21


def test_the_list_can_be_read_and_extended():
    compose = Compose([double])
    compose.transforms.append(double)
    assert compose(1) == 4


def test_a_generator_decides_every_draw():
    compose = Compose([AddRandom(), double])
    assert compose(0, _generator(1)) == compose(0, _generator(1)) != compose(0, _generator(2))


def test_a_generator_reaches_a_compose_within_a_compose():
    nested = Compose([Compose([AddRandom()])])
    assert nested(0, _generator(1)) == Compose([AddRandom()])(0, _generator(1))


def test_a_generator_leaves_the_global_ones_alone():
    before = random.getstate(), torch.get_rng_state()
    Compose([AddRandom()])(0, generator=_generator())
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_without_a_generator_the_global_seeds_decide():
    results = []
    for _ in range(2):
        random.seed(3)
        torch.manual_seed(3)
        results.append(Compose([AddRandom()])(0))
    assert results[0] == results[1]


@pytest.mark.parametrize("draw", [draw_chance, lambda generator: draw_uniform(2.0, 3.0, generator) - 2])
def test_draws_lie_in_their_range(draw):
    draws = [draw(_generator(seed)) for seed in range(200)]
    assert min(draws) >= 0
    assert max(draws) < 1
    assert len(set(draws)) == 200


def test_foreign_random_transforms_follow_the_generator_too():
    compose = SeededCompose([add_from_globals])
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert compose(0, _generator(1)) == compose(0, _generator(1)) != compose(0, _generator(2))
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_foreign_random_transforms_use_the_globals_without_a_generator():
    compose = SeededCompose([add_from_globals])
    assert compose(0) != compose(0)


def test_repr_lists_one_step_a_line():
    assert repr(Compose([AddRandom(), AddRandom()])) == "Compose(\n    AddRandom()\n    AddRandom()\n)"


def test_a_compose_travels_to_a_worker():
    copy = pickle.loads(pickle.dumps(Compose([double])))
    assert copy(3) == 6


def test_a_random_transform_that_does_nothing_says_so():
    with pytest.raises(TypeError, match="RandomTransform must say"):
        RandomTransform()(0)
