"""One pair at a time: read the image, transform it, and put pairs together into a batch.

It touches no device, keeps no state between samples and decides no order.
"""

import contextlib
import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from open_clip.errors import DataError, printable
from open_clip.transform.direct import PixelMode, to_direct
from open_clip.transformer.texts import Texts
from training.data.batch import Batch
from training.data.decode import DEFAULT_MAX_PIXELS
from training.data.order import sample_seed
from training.data.quarantine import Fault
from training.data.source import Source, read_image, read_text
from training.data.texts import TextPlanner, make_texts

_MAX_BAD_IN_A_ROW: Final = 100

Request = tuple[int, int]
Transform = Callable[..., Any]
Tokenizer = Callable[[list[str]], Tensor]


class Sample(NamedTuple):
    """One pair on its way into a batch; ``image`` is None where the row cannot be used."""

    image: Any
    caption: str
    position: int
    seed: int
    faults: tuple[Fault, ...]


class Starved(NamedTuple):
    """Stands in for a batch that could not be filled, with the message of the error that the main process raises."""

    message: str


class PairDataset(Dataset[Sample]):
    """The pairs of a source as tensors.

    Randomness of a sample depends on (seed, epoch, index) alone: no rank, worker count or restart changes it.

    Args:
        table: where images and captions come from.
        transform: from an image to a tensor; called with ``generator=`` when it takes one, otherwise with the global
            CPU generators seeded for this sample and put back afterwards.
        tokenizer: from a list of captions to token ids, int64 [B, L].
        seed: seed of the run.
        is_train: replace a row that cannot be used by the next sound one; otherwise it is left out.
        max_pixels: limit on width x height of an image.
        pixels: ``near`` may differ from the transform's pixels by a level or two, to be faster.
        plan_texts: from a batch's token ids to texts with a layout; None to leave open how they are computed.
    """

    def __init__(
        self,
        table: Source,
        transform: Transform,
        tokenizer: Tokenizer,
        seed: int = 0,
        is_train: bool = True,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        pixels: PixelMode = "exact",
        plan_texts: TextPlanner | None = None,
    ) -> None:
        self.table = table
        self.transform = transform
        self.tokenizer = tokenizer
        self.seed = seed
        self.is_train = is_train
        self.max_pixels = max_pixels
        self.plan_texts = plan_texts
        self._takes_generator = _takes_generator(transform)
        self._direct = to_direct(transform, pixels)
        self._generator = torch.Generator()

    def __len__(self) -> int:
        return len(self.table)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) of images that are written in their place of a batch; None where that is not possible."""
        return None if self._direct is None else self._direct.size

    def __getitem__(self, request: Request) -> Sample:
        """Read the pair that ``(epoch, index)`` asks for."""
        return self._read_row(request, None if self._direct is None else self._make_images(1)[0])

    def read_batch(self, requests: Sequence[Request], images: Tensor | None = None) -> Batch | Starved:
        """Read the pairs that ``(epoch, index)`` ask for.

        Args:
            requests: the rows, in their order.
            images: uint8 [B, 3, H, W] of ``image_size`` with a row for each request or more: the batch's images will
                be its first rows. Fresh memory when None.
        """
        if self._direct is None:
            return self.collate([self[request] for request in requests])
        images = self._make_images(len(requests)) if images is None else images
        samples, num_sound = [], 0
        for request in requests:
            sample = self._read_row(request, images[num_sound])
            num_sound += sample.image is not None
            samples.append(sample)
        return self.collate(samples, images[:num_sound])

    def collate(self, samples: Sequence[Sample], images: Tensor | None = None) -> Batch | Starved:
        """Put samples into a batch, in their order; in evaluation without the rows that could not be read.

        Args:
            samples: the rows.
            images: images of those that could be read, where they stand together already.
        """
        faults = tuple(fault for sample in samples for fault in sample.faults)
        sound = [sample for sample in samples if sample.image is not None]
        if self.is_train and len(sound) < len(samples):
            first = next(sample for sample in samples if sample.image is None)
            return Starved(_starved_message(first))
        if not sound:
            return Batch(torch.empty(0), Texts(torch.empty(0, dtype=torch.int64)), keys=(), faults=faults)
        return Batch(
            images=default_collate([sample.image for sample in sound]) if images is None else images,
            texts=make_texts(self.tokenize(sound), self.tokenizer, self.plan_texts),
            keys=tuple(self.table.key(sample.position) for sample in sound),
            image_ids=torch.tensor([self.table.image_id(sample.position) for sample in sound]),
            faults=faults,
            indices=torch.tensor([sample.position for sample in sound]),
        )

    def _make_images(self, count: int) -> Tensor:
        assert self._direct is not None
        return torch.empty(count, 3, *self._direct.size, dtype=torch.uint8)

    def _read_row(self, request: Request, place: Tensor | None) -> Sample:
        epoch, index = request
        seed = sample_seed(self.seed, epoch, index)
        faults: list[Fault] = []
        bad_images: set[int] = set()
        for step in range(len(self.table)):
            candidate = (index + step) % len(self.table)
            if bad_images and self.table.image_id(candidate) in bad_images:
                continue
            image, caption = self._read(candidate, seed, faults, place)
            if image is not None or not self.is_train:
                return Sample(image, caption, candidate, seed, tuple(faults))
            bad_images.add(self.table.image_id(candidate))
            if len(bad_images) == _MAX_BAD_IN_A_ROW:
                break
        return Sample(None, "", index, seed, tuple(faults))

    def _read(self, index: int, seed: int, faults: list[Fault], place: Tensor | None) -> tuple[Any, str]:
        """Return a row's transformed image and its caption; None for the image after noting what is wrong."""
        image: Any
        try:
            caption = read_text(self.table, index, seed)
            stored = read_image(self.table, index)
            image = stored.open(self.max_pixels) if place is None else stored.open_pixels(self.max_pixels)
        except DataError as error:
            faults.append(self.table.fault(index, str(error)))
            return None, ""
        try:
            return self._transform(image, seed, place), caption
        # An image that the transform cannot take is one bad row; a transform that takes none starves the batch.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            faults.append(self.table.fault(index, printable(f"transform failed: {reason} ({type(error).__name__})")))
            return None, ""

    def _transform(self, image: Any, seed: int, place: Tensor | None) -> Any:
        """Return the transformed image, which is the given place where there is one."""
        if place is not None:
            assert self._direct is not None
            self._direct(image, place.numpy(), self._generator.manual_seed(seed))
            return place
        if self._takes_generator:
            return self.transform(image, generator=self._generator.manual_seed(seed))
        with seeded(seed):
            return self.transform(image)

    def tokenize(self, samples: Sequence[Sample]) -> Tensor:
        """Return the samples' captions as token ids, int64 [B, L]."""
        captions = [sample.caption for sample in samples]
        if getattr(self.tokenizer, "reduction_fn", None) is None:
            return self.tokenizer(captions)
        # Tokenizers that drop tokens at random draw from the global generators: one seed a caption, as for crops.
        rows = []
        for sample, caption in zip(samples, captions, strict=True):
            with seeded(sample.seed):
                rows.append(self.tokenizer([caption]))
        return torch.cat(rows)


def _takes_generator(transform: Transform) -> bool:
    try:
        return "generator" in inspect.signature(transform).parameters
    except (TypeError, ValueError):
        return False


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global CPU generators of python, numpy and torch for a while; no device's generator is touched."""
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)


def _starved_message(sample: Sample) -> str:
    examples = "\n  ".join(str(fault) for fault in sample.faults[:3])
    count = len(sample.faults)
    which = "1 row" if count == 1 else f"{count} rows one after the other"
    return (
        f"{which} cannot be used, so no sound row is left to take {'its' if count == 1 else 'their'} "
        f"place. The first:\n  {examples}\nCheck that the data is complete and still mounted."
    )
