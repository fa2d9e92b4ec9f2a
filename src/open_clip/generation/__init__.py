"""Writing captions: scores of the next token, sampling and beam search. No logic here."""

from open_clip.generation.beams import beam_search
from open_clip.generation.cached import CachedDecoder
from open_clip.generation.decoder import Decoder, PrefixDecoder
from open_clip.generation.generate import Captioner
from open_clip.generation.options import GenerationOptions
from open_clip.generation.sampling import sample

__all__ = ["CachedDecoder", "Captioner", "Decoder", "GenerationOptions", "PrefixDecoder", "beam_search", "sample"]
