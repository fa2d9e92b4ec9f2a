"""Writing texts token by token, each drawn from the model's distribution. Beams are ``beams.py``'s job."""

from collections.abc import Callable

import torch
from torch import Tensor

from open_clip.generation.decoder import Decoder
from open_clip.generation.options import GenerationOptions


def sample(
    decoder: Decoder,
    ids: Tensor,
    options: GenerationOptions,
    keep_likely: Callable[[Tensor], Tensor],
    temperature: float = 1.0,
) -> Tensor:
    """Continue texts [R, L] with drawn tokens until all have ended or must stop.

    ``keep_likely`` cuts the distribution, then ``temperature`` divides the scores, so that it cannot bring back what
    was cut. Draws come from torch's default generator, one ``multinomial`` a step over the rows that have not ended.
    The token before the last of ``seq_len`` places is always the end.

    Source: open_clip.coca_model.CoCa.generate (3.3.0).

    Returns:
        int64 [R, L'], rows that ended early filled up.
    """
    while True:
        ended = options.has_ended(ids)
        drawn = torch.full_like(ids[:, :1], options.pad_token_id)
        if not bool(ended.all()):
            live = ~ended
            read = ids[:, -decoder.window :]
            if read.shape[1] + 1 == options.seq_len:
                drawn[live] = options.eos_token_ids[0]
            else:
                logits = options.process(read[live], decoder.next_logits(ids)[live].float())
                drawn[live] = torch.multinomial((keep_likely(logits) / temperature).softmax(dim=-1), 1)
        elif not options.fixed_output_length:
            return ids
        ids = torch.cat((ids, drawn), dim=1)
        if options.must_stop(ids):
            return ids
