"""The classifiers that class names make, each process a share, kept as long as the text tower stays as it is.

Classifies nothing. Letters: C classes, T templates, L tokens, E embedding.
"""

import hashlib
import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor

from open_clip import OPENAI_IMAGENET_TEMPLATES
from open_clip.protocols import SeparatesTexts
from open_clip.transformer.layout import TextShapes, can_skip_padding
from open_clip.zero_shot_classifier import average_prompts, tokenize_prompts
from training.data import plan_lengths, rank_slice, text_lengths
from training.distributed import gather_objects, gather_rows
from training.evaluate.base import EvaluationKit

_LOG = logging.getLogger(__name__)

# Fewer texts than these fill neither a device nor a host, whatever the size of a batch of images.
_LEAST_PROMPTS = 256


class _Prompts(NamedTuple):
    """This process's prompts of some classes: token ids, int32 [C * T, L], and where known the lengths, [C * T]."""

    tokens: Tensor
    lengths: Tensor | None


class Classifiers:
    """Classifiers by their class names, with the tokens of the prompts that made them."""

    def __init__(self, kit: EvaluationKit) -> None:
        self._kit = kit
        self._tokenizer = kit.make_tokenizer()
        self._prompts: dict[tuple[str, ...], _Prompts] = {}
        self._made: dict[tuple[str, ...], tuple[bytes, Tensor]] = {}

    def get(self, model: Any, classnames: tuple[str, ...], batch_size: int) -> Tensor:
        """Give the classifier [E, C] of a bare model's text tower as it is now, fp32; all processes call this together.

        Args:
            batch_size: Rows that batches of this device have, for the shapes of texts.
        """
        weights = fingerprint_text_weights(model)
        made_with, classifier = self._made.get(classnames, (b"", torch.empty(0)))
        # Each process builds a share, so all must agree that it is to be built.
        if any(gather_objects(made_with != weights, self._kit.world)):
            _LOG.info("Building the zero-shot classifier of %d classes", len(classnames))
            with self._kit.autocast():
                share = self._build_share(model, classnames, batch_size)
            classifier = gather_rows(share, self._kit.world).T
            self._made[classnames] = weights, classifier
        return classifier

    def _build_share(self, model: Any, classnames: tuple[str, ...], batch_size: int) -> Tensor:
        """Build this process's columns, as rows."""
        device, world = model.logit_scale.device, self._kit.world
        start, stop = rank_slice(len(classnames), world.rank, world.world_size)
        if start == stop:
            return torch.empty(0, model.visual.output_dim, device=device)
        if classnames not in self._prompts:
            tokens = tokenize_prompts(self._tokenizer, classnames[start:stop], OPENAI_IMAGENET_TEMPLATES)
            self._prompts[classnames] = _Prompts(tokens.to(torch.int32), text_lengths(tokens, self._tokenizer))
        prompts = self._prompts[classnames]
        shapes: TextShapes = self._kit.shapes if can_skip_padding(model) else "padded"
        # A device that compiles every shape keeps that of its other batches.
        size = batch_size if self._kit.shapes == "bucketed" else max(batch_size, _LEAST_PROMPTS)

        def encode(chosen: Tensor) -> Tensor:
            full = self._kit.fill(chosen, size)
            lengths = None if prompts.lengths is None else prompts.lengths[full]
            texts = plan_lengths(prompts.tokens[full].long(), lengths, shapes, size)
            features: Tensor = model.encode_text(texts.to(device).for_model(), normalize=True)
            return features[: len(chosen)]

        order_by = prompts.tokens.argmax(dim=-1) if prompts.lengths is None else prompts.lengths
        columns = average_prompts(encode, order_by, len(OPENAI_IMAGENET_TEMPLATES), size)
        return columns.T.float().contiguous()


def fingerprint_text_weights(model: torch.nn.Module) -> bytes:
    """Digest what texts are encoded with, to the last bit: all weights but the image tower's and the scale.

    Of a model that may share its towers, all.
    """
    apart = model.unread_by_texts() if isinstance(model, SeparatesTexts) else ()
    digest = hashlib.blake2b(digest_size=16)
    for name, value in model.state_dict().items():
        if not name.startswith(apart):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.digest()
