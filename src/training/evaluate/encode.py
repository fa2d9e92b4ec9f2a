"""Encode the images and captions of an evaluation set, spread over all processes. Measures nothing.

Shapes: N rows of the whole set, E embedding width.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from open_clip.transformer.layout import TextShapes, can_skip_padding
from open_clip.transformer.texts import Texts
from training.data import Batch, Captions, EvalLoader, plan_lengths
from training.distributed import gather_objects, gather_rows
from training.evaluate.base import EvaluationKit
from training.evaluate.protocols import EncodesSides, EvaluatedTask, Outputs
from training.evaluate.rows import ValidationRows


class Encoded(NamedTuple):
    """The rows of all processes that could be read, in the file's order.

    Attributes:
        images: [N, E] normalised fp32 features, on the device.
        texts: [N, E] likewise.
        image_ids: [N] on the host; rows of one image share a number.
        rows: [N] on the host, index of each row in the table.
        sums: The task's own figures of rows, added up; of all processes.
    """

    images: Tensor
    texts: Tensor
    image_ids: Tensor
    rows: Tensor
    sums: dict[str, float]


class Encoder:
    """A task whose model is ready to measure, and the rows that it encodes."""

    def __init__(self, task: EvaluatedTask, kit: EvaluationKit, rows: ValidationRows) -> None:
        self._task = task
        self._kit = kit
        self._rows = rows

    def encode(self) -> Encoded:
        """Encode all rows: each image and each caption once where the task's evaluation takes them apart."""
        if isinstance(self._task, EncodesSides) and self._task.encodes_apart:
            return self._encode_sides(self._task, self._rows.loader)
        return self._encode_pairs()

    def _encode_pairs(self) -> Encoded:
        world = self._kit.world
        images, texts, image_ids, rows = [self._nothing()], [self._nothing()], [], []
        sums: Outputs = {}
        for batch, outputs in self._kit.outputs(self._task):
            for name, figures in self._task.row_metrics(outputs).items():
                sums[name] = sums.get(name, torch.zeros((), device=figures.device)) + figures.sum()
            images.append(outputs["image_features"].float())
            texts.append(outputs["text_features"].float())
            assert batch.image_ids is not None
            assert batch.indices is not None
            image_ids.append(batch.image_ids)
            rows.append(batch.indices)
        none = torch.empty(0, dtype=torch.int64)
        gathered = gather_objects((torch.cat([none, *image_ids]), torch.cat([none, *rows])), world)
        return Encoded(
            gather_rows(torch.cat(images), world),
            gather_rows(torch.cat(texts), world),
            torch.cat([ids for ids, _ in gathered]),
            torch.cat([rows for _, rows in gathered]),
            self._kit.add_up(sums),
        )

    def _encode_sides(self, task: EncodesSides, loader: EvalLoader) -> Encoded:
        world = self._kit.world
        images, first_rows = self._encode_images(task, loader)
        captions = loader.sides.captions()
        texts = self._encode_captions(task, captions, loader.batch_size)
        images, texts = gather_rows(images, world), gather_rows(texts, world)
        gathered = gather_objects((first_rows, captions.rows, captions.which, len(captions.tokens)), world)
        # Where among the encoded images each row's is, and where among the encoded texts.
        place = np.full(int(loader.sides.image_ids.max(initial=-1)) + 1, -1)
        seen = np.concatenate([firsts for firsts, _, _, _ in gathered])
        place[loader.sides.image_ids[seen]] = np.arange(len(seen))
        rows = np.concatenate([rows for _, rows, _, _ in gathered])
        offsets = np.cumsum([0, *(number for _, _, _, number in gathered)])
        which = np.concatenate([part + offset for (_, _, part, _), offset in zip(gathered, offsets, strict=False)])
        image_ids = loader.sides.image_ids[rows]
        is_whole = place[image_ids] >= 0
        device = images.device
        return Encoded(
            images[torch.from_numpy(place[image_ids[is_whole]]).to(device)],
            texts[torch.from_numpy(which[is_whole]).to(device)],
            torch.from_numpy(image_ids[is_whole]),
            torch.from_numpy(rows[is_whole]),
            {},
        )

    def _encode_images(self, task: EncodesSides, loader: EvalLoader) -> tuple[Tensor, np.ndarray]:
        features, rows = [self._nothing()], [np.empty(0, dtype=np.int64)]
        for batch in loader.images():
            number = len(batch.images)
            images = self._fill(batch.images, loader.batch_size)
            received = self._rows.receive(batch._replace(images=images))
            if not number:
                continue
            with self._kit.autocast():
                features.append(task.encode_images(self._task.prepare(received).images).float()[:number])
            assert batch.indices is not None
            rows.append(batch.indices.numpy())
        return torch.cat(features), np.concatenate(rows)

    def _encode_captions(self, task: EncodesSides, captions: Captions, batch_size: int) -> Tensor:
        features = [self._nothing()]
        nothing = torch.empty(0)
        if captions.faults:
            self._rows.receive(Batch(nothing, Texts(nothing), faults=captions.faults))
        shapes: TextShapes = self._kit.shapes if can_skip_padding(self._task.model) else "padded"
        for start, stop in _cut(captions, batch_size, shapes):
            ids = self._fill(captions.tokens[start:stop].long(), batch_size)
            known = captions.lengths
            lengths = None if known is None else self._fill(known[start:stop], batch_size)
            received = self._rows.receive(Batch(nothing, plan_lengths(ids, lengths, shapes, batch_size)))
            with self._kit.autocast():
                features.append(task.encode_texts(received.texts).float()[: stop - start])
        return torch.cat(features)

    def _nothing(self) -> Tensor:
        width: int = self._task.model.visual.output_dim  # type: ignore[union-attr, assignment]
        return torch.empty(0, width, device=next(self._task.model.parameters()).device)

    def _fill(self, rows: Tensor, number: int) -> Tensor:
        return fill_batch(rows, number) if self._kit.shapes == "bucketed" else rows


def fill_batch(rows: Tensor, number: int) -> Tensor:
    """Repeat the last row up to a full batch, for a device that compiles every new shape; nothing stays nothing."""
    if not 0 < len(rows) < number:
        return rows
    return torch.cat([rows, rows[-1:].expand(number - len(rows), *rows.shape[1:])])


def _cut(captions: Captions, batch_size: int, shapes: TextShapes) -> Iterator[tuple[int, int]]:
    """Cut captions into batches; what is packed counts by its tokens, up to as many as a padded batch has."""
    number, width = captions.tokens.shape
    if shapes != "packed" or captions.lengths is None:
        yield from ((start, min(start + batch_size, number)) for start in range(0, number, batch_size))
        return
    stops = captions.lengths.cumsum(0)
    start = 0
    while start < number:
        before = int(stops[start]) - int(captions.lengths[start])
        stop = max(start + 1, int(torch.searchsorted(stops, before + batch_size * width, right=True)))
        yield start, stop
        start = stop
