"""Encode the images and captions of an evaluation set, spread over all processes. Measures nothing.

Shapes: N rows of the whole set, E embedding width.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from open_clip.errors import DataError
from open_clip.transformer.layout import TextShapes, can_skip_padding
from open_clip.transformer.texts import Texts
from training.data import Batch, Captions, plan_lengths
from training.distributed import gather_objects, gather_rows
from training.evaluate.base import EvaluationKit
from training.evaluate.protocols import EncodesSides, EvaluatedTask, Outputs
from training.evaluate.rows import NO_ROW, ValidationRows


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


def encode_rows(task: EvaluatedTask, kit: EvaluationKit) -> Encoded:
    """Encode all validation rows with a task whose model is ready to measure; every process calls it.

    Each image and each caption is encoded once where the task's evaluation takes them apart.

    Raises:
        DataError: No row could be read.
    """
    if isinstance(task, EncodesSides) and task.encodes_apart:
        encoded = _encode_sides(task, kit, kit.need_rows())
    else:
        encoded = _encode_pairs(task, kit)
    if not len(encoded.rows):
        raise DataError(NO_ROW)
    return encoded


def _encode_pairs(task: EvaluatedTask, kit: EvaluationKit) -> Encoded:
    images, texts, image_ids, rows = [_nothing(task)], [_nothing(task)], [], []
    sums: Outputs = {}
    for batch, outputs in kit.outputs(task):
        for name, figures in task.row_metrics(outputs).items():
            sums[name] = sums.get(name, torch.zeros((), device=figures.device)) + figures.sum()
        images.append(outputs["image_features"].float())
        texts.append(outputs["text_features"].float())
        assert batch.image_ids is not None
        assert batch.indices is not None
        image_ids.append(batch.image_ids)
        rows.append(batch.indices)
    none = torch.empty(0, dtype=torch.int64)
    gathered = gather_objects((torch.cat([none, *image_ids]), torch.cat([none, *rows])), kit.world)
    return Encoded(
        gather_rows(torch.cat(images), kit.world),
        gather_rows(torch.cat(texts), kit.world),
        torch.cat([ids for ids, _ in gathered]),
        torch.cat([rows for _, rows in gathered]),
        kit.add_up(sums),
    )


def _encode_sides(task: EncodesSides, kit: EvaluationKit, rows: ValidationRows) -> Encoded:
    """Encode images and captions apart, and put the features back in the places of their rows.

    1. Each process encodes its share of the different images, and its share of the different captions.
    2. All processes get all features, and which image and which caption each row has.
    3. A row whose image or caption could not be read, in whatever process, is left out.
    """
    sides = rows.loader.sides
    images, first_rows = _encode_images(task, kit, rows)
    captions = sides.captions()
    texts = _encode_captions(task, kit, rows, captions)
    images, texts = gather_rows(images, kit.world), gather_rows(texts, kit.world)
    gathered = gather_objects((first_rows, captions.rows, captions.which, len(captions.tokens)), kit.world)
    # Where an image stands among the encoded ones, by its number; -1 for one that nobody could read.
    place = np.full(int(sides.image_ids.max(initial=-1)) + 1, -1)
    seen = np.concatenate([firsts for firsts, _, _, _ in gathered])
    place[sides.image_ids[seen]] = np.arange(len(seen))
    read = np.concatenate([rows for _, rows, _, _ in gathered])
    # Each process numbers its captions from 0; the gathered features hold them one process after the other.
    offsets = np.cumsum([0, *(number for _, _, _, number in gathered)])
    which = np.concatenate([part + offset for (_, _, part, _), offset in zip(gathered, offsets, strict=False)])
    image_ids = sides.image_ids[read]
    is_whole = place[image_ids] >= 0
    return Encoded(
        images[torch.from_numpy(place[image_ids[is_whole]]).to(images.device)],
        texts[torch.from_numpy(which[is_whole]).to(images.device)],
        torch.from_numpy(image_ids[is_whole]),
        torch.from_numpy(read[is_whole]),
        {},
    )


def _encode_images(task: EncodesSides, kit: EvaluationKit, rows: ValidationRows) -> tuple[Tensor, np.ndarray]:
    features, first_rows = [_nothing(task)], [np.empty(0, dtype=np.int64)]
    for batch in rows.loader.images():
        number = len(batch.images)
        received = rows.receive(batch._replace(images=kit.fill(batch.images, rows.loader.batch_size)))
        if not number:
            continue
        with kit.autocast():
            features.append(task.encode_images(task.prepare(received).images).float()[:number])
        assert batch.indices is not None
        first_rows.append(batch.indices.numpy())
    return torch.cat(features), np.concatenate(first_rows)


def _encode_captions(task: EncodesSides, kit: EvaluationKit, rows: ValidationRows, captions: Captions) -> Tensor:
    features, nothing, size = [_nothing(task)], torch.empty(0), rows.loader.batch_size
    if captions.faults:
        rows.receive(Batch(nothing, Texts(nothing), faults=captions.faults))
    shapes: TextShapes = kit.shapes if can_skip_padding(task.model) else "padded"
    for start, stop in _cut(captions, size, shapes):
        ids = kit.fill(captions.tokens[start:stop].long(), size)
        lengths = None if captions.lengths is None else kit.fill(captions.lengths[start:stop], size)
        received = rows.receive(Batch(nothing, plan_lengths(ids, lengths, shapes, size)))
        with kit.autocast():
            features.append(task.encode_texts(received.texts).float()[: stop - start])
    return torch.cat(features)


def _nothing(task: EvaluatedTask) -> Tensor:
    """Give no features, [0, E]: what a process adds that has no row, so that all of them can gather."""
    width: int = task.model.visual.output_dim  # type: ignore[union-attr, assignment]
    return torch.empty(0, width, device=next(task.model.parameters()).device)


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
