"""Run transforms one after another, with their random numbers from a generator the caller owns.

Knows nothing of pixels.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

#: From an image, or what another step made of one, to what the next step takes.
Step = Callable[..., Any]


class RandomTransform:
    """A transform that draws random numbers: it takes the generator beside the image.

    With a generator every draw comes from it. Without one, draws come from where open_clip_torch 3.3.0 takes them, so
    that the same seeds give the same images.
    """

    def __call__(self, image: Any, generator: torch.Generator | None = None) -> Any:
        """Transform the image."""
        raise TypeError(f"{type(self).__name__} must say what it does to an image")


class Compose(RandomTransform):
    """Applies the transforms of its list `transforms` in order.

    `compose(image)` draws from the global generators; `compose(image, generator)` only from the one given, so the
    result depends on nothing else. A callable of any kind may stand in the list, another `Compose` too.
    """

    def __init__(self, transforms: Sequence[Step]) -> None:
        self.transforms = list(transforms)

    def __call__(self, image: Any, generator: torch.Generator | None = None) -> Any:
        """Transform one image."""
        for transform in self.transforms:
            image = transform(image, generator) if isinstance(transform, RandomTransform) else transform(image)
        return image

    def __repr__(self) -> str:
        return "\n".join([f"{type(self).__name__}(", *(f"    {transform!r}" for transform in self.transforms), ")"])


class SeededCompose(Compose):
    """A `Compose` of foreign transforms, which draw from the global generators of Python, NumPy and torch.

    Given a generator, those are seeded from it for the call and put back after it.
    """

    def __call__(self, image: Any, generator: torch.Generator | None = None) -> Any:
        """Transform one image."""
        if generator is None:
            return super().__call__(image)
        seed = int(torch.randint(2**31, (1,), generator=generator).item())
        with _seeded_globals(seed):
            return super().__call__(image)


@contextmanager
def _seeded_globals(seed: int) -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    # torch.manual_seed would also seed every accelerator.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.random.set_rng_state(states[2])


def draw_chance(generator: torch.Generator | None) -> float:
    """Draw from [0, 1): from the generator, or from Python's `random` as open_clip_torch 3.3.0 does."""
    return random.random() if generator is None else torch.rand(1, generator=generator).item()


def draw_uniform(low: float, high: float, generator: torch.Generator | None) -> float:
    """Draw a float32 from [low, high), with the same torch call as torchvision."""
    return torch.empty(1).uniform_(low, high, generator=generator).item()
