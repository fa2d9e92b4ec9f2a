"""Captions of images: checks arguments, encodes the images once, picks the search. Searching is other files' job."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from open_clip.errors import ConfigError, suggest_nearest
from open_clip.generation.beams import beam_search
from open_clip.generation.cached import CachedDecoder, can_cache
from open_clip.generation.decoder import Decoder, PrefixDecoder
from open_clip.generation.options import GenerationOptions, StoppingCriterion, keep_top_k, keep_top_p
from open_clip.generation.sampling import sample
from open_clip.hf_model import HFTextEncoder
from open_clip.transformer import MultimodalTransformer, TextTransformer

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


def _beam_limit(options: GenerationOptions, max_seq_len: int) -> int:
    """Return the length at which beam search ends at the latest; upstream reads it off the stopping criteria."""
    if options.stopping_criteria is None:
        return options.seq_len
    limits = [limit for item in options.stopping_criteria if (limit := getattr(item, "max_length", None)) is not None]
    return min(limits, default=max_seq_len)


class Captioner(nn.Module):
    """A model that writes captions: ``text_decoder`` reads the image's tokens and those that ``text`` gives.

    Called with images [B, 3, H, W] it gives ``image_features`` and ``image_embs``, called with these and texts also
    ``logits``; see ``CoCa.forward``.
    """

    text: TextTransformer | HFTextEncoder
    text_decoder: MultimodalTransformer
    pad_id: int

    @torch.no_grad()
    def generate(
        self,
        image: Tensor,
        text: Tensor | None = None,
        seq_len: int = 30,
        max_seq_len: int = 77,
        temperature: float = 1.0,
        generation_type: str = "beam_search",
        top_p: float = 0.1,
        top_k: int = 1,
        pad_token_id: int | None = None,
        eos_token_id: int | Sequence[int] | Tensor | None = None,
        sot_token_id: int | Tensor | None = None,
        num_beams: int = 6,
        num_beam_groups: int = 3,
        min_seq_len: int = 5,
        stopping_criteria: Sequence[StoppingCriterion] | None = None,
        repetition_penalty: float = 1.0,
        fixed_output_length: bool = False,
    ) -> Tensor:
        """Write a caption for each image [B, 3, H, W]: token ids [B, at most seq_len], start token first.

        ``text`` ([L] or [B, L]) is what the captions begin with, otherwise the start token. ``generation_type`` is
        'beam_search' over groups of ``num_beams / num_beam_groups`` beams, 'top_k' or 'top_p', which draw from the
        likeliest tokens (``top_k=1`` is greedy). Lengths count the start token; ``max_seq_len`` is how far back the
        model reads. The model is in eval mode meanwhile, and no gradients are kept.

        Raises:
            ConfigError: an argument is out of its range, or texts and images do not pair up.
        """
        _check_search(generation_type, num_beams, num_beam_groups)
        _check_draws(top_p, top_k, temperature)
        ends = torch.as_tensor(_EOS if eos_token_id is None else eos_token_id, dtype=torch.long, device=image.device)
        options = GenerationOptions(
            seq_len=seq_len,
            min_seq_len=min_seq_len,
            pad_token_id=int(self.pad_id if pad_token_id is None else pad_token_id),
            eos_token_ids=ends.reshape(-1),
            repetition_penalty=repetition_penalty,
            stopping_criteria=stopping_criteria,
            fixed_output_length=fixed_output_length,
        )
        ids = _start(text, int(_SOT if sot_token_id is None else sot_token_id), image)
        vocab_size = self.text_decoder.text_projection.shape[1]
        pad = torch.tensor([options.pad_token_id])
        _check_ids(vocab_size, eos_token_id=options.eos_token_ids, pad_token_id=pad, text=ids)
        # Groups that nothing keeps apart all find the same texts: one of them is searched.
        rows_per_image = num_beams // num_beam_groups if generation_type == "beam_search" else 1
        with _evaluating(self):
            encoded = self(image)
            decoder = make_decoder(self, encoded["image_features"], encoded["image_embs"], rows_per_image, max_seq_len)
            if generation_type == "beam_search":
                found = beam_search(decoder, ids, rows_per_image, options, _beam_limit(options, max_seq_len))
            else:
                keep = (
                    partial(keep_top_p, top_p=top_p) if generation_type == "top_p" else partial(keep_top_k, top_k=top_k)
                )
                found = sample(decoder, ids, options, keep, temperature)
        found = _fill_up(found, options)
        return found.squeeze(0) if text is not None and text.dim() == 1 else found


def make_decoder(
    model: Captioner, image_latent: Tensor, image_embs: Tensor, rows_per_image: int, window: int
) -> Decoder:
    """Choose how the next token is scored: with kept keys and values where that is exact, else from the whole text."""
    window = min(window, model.text_decoder.context_length, getattr(model.text, "context_length", window))
    if can_cache(model.text):
        return CachedDecoder(model.text, model.text_decoder, image_embs, window)
    return PrefixDecoder(model, image_latent, image_embs, rows_per_image, window)
