"""Captions of images: checks arguments, encodes the images once, picks the search. Searching is other files' job."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from open_clip.errors import ConfigError, suggest_nearest
from open_clip.generation.beams import beam_search
from open_clip.generation.cached import CachedDecoder, can_cache
from open_clip.generation.decoder import Decoder, PrefixDecoder
from open_clip.generation.options import GenerationOptions, StoppingCriterion, keep_top_k, keep_top_p
from open_clip.generation.sampling import sample

GENERATION_TYPES = ("beam_search", "top_p", "top_k")
# The end and the start of a text in CLIP's own vocabulary.
_EOS, _SOT = 49407, 49406


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put every part of a model in eval mode, and those that were training back afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _start(text: Tensor | None, sot_token_id: int, image: Tensor) -> Tensor:
    """Return what the texts begin with, int64 [N, L]."""
    if text is None:
        return torch.full((image.shape[0], 1), sot_token_id, dtype=torch.long, device=image.device)
    text = text[None] if text.dim() == 1 else text
    if text.shape[0] not in (1, image.shape[0]):
        raise ConfigError(f"generate: {text.shape[0]} texts for {image.shape[0]} images; give one, or one for each.")
    return text.expand(image.shape[0], -1)


def _check_search(generation_type: str, num_beams: int, num_beam_groups: int) -> None:
    if generation_type not in GENERATION_TYPES:
        raise ConfigError(
            f"generation_type is {generation_type!r}; it can be {', '.join(GENERATION_TYPES)}."
            f"{suggest_nearest(generation_type, GENERATION_TYPES)}"
        )
    if num_beam_groups < 1 or num_beams < num_beam_groups or num_beams % num_beam_groups:
        raise ConfigError(f"generate: {num_beams} beams cannot be cut into {num_beam_groups} equal groups.")


def _check_draws(top_p: float, top_k: int, temperature: float) -> None:
    if not 0.0 <= top_p <= 1.0:
        raise ConfigError(f"generate: top_p is {top_p}; it must lie between 0 and 1.")
    if top_k < 1:
        raise ConfigError(f"generate: top_k is {top_k}; it must be at least 1.")
    if temperature <= 0:
        raise ConfigError(f"generate: temperature is {temperature}; it must be above 0.")


def _check_ids(vocab_size: int, **ids: Tensor) -> None:
    for name, values in ids.items():
        wrong = values[(values < 0) | (values >= vocab_size)]
        if wrong.numel():
            raise ConfigError(f"generate: {name} holds {int(wrong[0])}, but the model's ids are 0 to {vocab_size - 1}.")


def _fill_up(ids: Tensor, options: GenerationOptions) -> Tensor:
    missing = options.seq_len - ids.shape[1]
    if not options.fixed_output_length or missing <= 0:
        return ids
    return nn.functional.pad(ids, (0, missing), value=options.pad_token_id)


def make_decoder(
    model: Any, image_latent: Tensor, image_embs: Tensor, rows_per_image: int, window: int, use_cache: bool = True
) -> Decoder:
    """Choose how the next token is scored: with kept keys and values where that is exact, else from the whole text."""
    window = min(window, model.text_decoder.context_length, getattr(model.text, "context_length", window))
    if use_cache and can_cache(model.text):
        return CachedDecoder(model.text, model.text_decoder, image_embs, window)
    return PrefixDecoder(model, image_latent, image_embs, rows_per_image, window)


def _beam_limit(options: GenerationOptions, max_seq_len: int) -> int:
    """Return the length at which beam search ends at the latest; upstream reads it off the stopping criteria."""
    if options.stopping_criteria is None:
        return options.seq_len
    limits = [limit for item in options.stopping_criteria if (limit := getattr(item, "max_length", None)) is not None]
    return min(limits, default=max_seq_len)


@torch.no_grad()
def generate(
    model: Any,
    image: Tensor,
    text: Tensor | None,
    seq_len: int,
    max_seq_len: int,
    temperature: float,
    generation_type: str,
    top_p: float,
    top_k: int,
    pad_token_id: int | None,
    eos_token_id: int | Sequence[int] | Tensor | None,
    sot_token_id: int | Tensor | None,
    num_beams: int,
    num_beam_groups: int,
    min_seq_len: int,
    stopping_criteria: Sequence[StoppingCriterion] | None,
    repetition_penalty: float,
    fixed_output_length: bool,
    use_cache: bool = True,
) -> Tensor:
    """Write a text for each image with a CoCa; the arguments are those of ``CoCa.generate``.

    ``use_cache=False`` computes the whole text at every step, for comparison.

    Raises:
        ConfigError: an argument is out of its range, or texts and images do not pair up.
    """
    _check_search(generation_type, num_beams, num_beam_groups)
    _check_draws(top_p, top_k, temperature)
    ends = torch.as_tensor(_EOS if eos_token_id is None else eos_token_id, dtype=torch.long, device=image.device)
    options = GenerationOptions(
        seq_len=seq_len,
        min_seq_len=min_seq_len,
        pad_token_id=int(model.pad_id if pad_token_id is None else pad_token_id),
        eos_token_ids=ends.reshape(-1),
        repetition_penalty=repetition_penalty,
        stopping_criteria=stopping_criteria,
        fixed_output_length=fixed_output_length,
    )
    ids = _start(text, int(_SOT if sot_token_id is None else sot_token_id), image)
    vocab_size = model.text_decoder.text_projection.shape[1]
    pad = torch.tensor([options.pad_token_id])
    _check_ids(vocab_size, eos_token_id=options.eos_token_ids, pad_token_id=pad, text=ids)
    # Groups that nothing keeps apart all find the same texts: one of them is searched.
    rows_per_image = num_beams // num_beam_groups if generation_type == "beam_search" else 1
    with _evaluating(model):
        encoded = model(image)
        decoder = make_decoder(
            model, encoded["image_features"], encoded["image_embs"], rows_per_image, max_seq_len, use_cache
        )
        if generation_type == "beam_search":
            found = beam_search(decoder, ids, rows_per_image, options, _beam_limit(options, max_seq_len))
        else:
            keep = partial(keep_top_p, top_p=top_p) if generation_type == "top_p" else partial(keep_top_k, top_k=top_k)
            found = sample(decoder, ids, options, keep, temperature)
    found = _fill_up(found, options)
    return found.squeeze(0) if text is not None and text.dim() == 1 else found
