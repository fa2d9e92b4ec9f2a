"""Time labels of an image with what was read kept and shared, against reading everything again for every token.

    python benchmarks/one_shot.py

The figures are processor seconds on one thread, on a device without work of its own (the CPU), of the decoder alone:
both sides encode an image once. A pair is one image a side, and the order of the sides changes from pair to pair. The
equality beside it: both sides write the same tokens, and their log probabilities differ by rounding.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor

from open_clip.families.nxtp.decoding import write_side_by_side
from open_clip.families.nxtp.masks import prompt_mask
from open_clip.families.nxtp.model import NextLabelModel
from open_clip.families.nxtp.rows import Marks, Rows

_VOCABULARY, _PROMPT_TOKENS = 32000, 8
# Log probabilities of two sides add up in another order.
_TOLERANCE = 1e-3


def make_model(options: argparse.Namespace) -> NextLabelModel:
    """Make a model of ViT-B-16's tokens and a decoder of the sizes asked for."""
    torch.manual_seed(0)
    vision = {"image_size": 224, "layers": 1, "width": options.width, "patch_size": 16}
    decoder = {
        "width": options.width,
        "layers": options.layers,
        "heads": options.width // 64,
        "ffn_width": options.width * 8 // 3,
        "vocab_size": _VOCABULARY,
        "context_length": 512,
    }
    return NextLabelModel(vision, decoder).eval()


def share(model: NextLabelModel, prefix: Tensor, marks: Marks, k: int, steps: int) -> tuple[Tensor, Tensor]:
    """Write labels as ``predict_labels`` does: tokens and log probabilities [k, steps + 1]."""
    length = prefix.shape[1]
    cache = model.decoder.make_cache(length + steps)
    mask = prompt_mask(model.num_image_tokens, _PROMPT_TOKENS)
    hidden = model.decoder.run(prefix, mask, torch.arange(length)[None], cache)
    rows = Rows(model, cache, model.decoder.score(hidden[:, -1]), prefix[:, : model.num_image_tokens], length)
    labels = write_side_by_side(rows, marks, k, steps)[0]
    return torch.tensor([label.ids for label in labels]), torch.tensor([label.log_probs for label in labels])


def recompute(model: NextLabelModel, prefix: Tensor, marks: Marks, k: int, steps: int) -> tuple[Tensor, Tensor]:
    """Write the same labels with one pass over image, prompt and label for every token, as NXTP publicly does."""
    decoder, length = model.decoder, prefix.shape[1]
    mask = prompt_mask(model.num_image_tokens, _PROMPT_TOKENS + steps)

    def read(embeddings: Tensor) -> Tensor:
        size = embeddings.shape[1]
        hidden = decoder.run(embeddings, mask[..., :size, :size], torch.arange(size)[None])
        return decoder.score(hidden[:, -1]).log_softmax(dim=-1)

    first = read(prefix).masked_fill(marks.no_beginning, -torch.inf).topk(k, dim=1)
    ids, log_probs = first.indices.T, first.values.T
    for _ in range(steps):
        best = read(torch.cat([prefix.expand(k, length, -1), decoder.embed(ids)], dim=1)).max(dim=1, keepdim=True)
        ids, log_probs = torch.cat([ids, best.indices], dim=1), torch.cat([log_probs, best.values], dim=1)
    return ids, log_probs


def main(words: list[str] | None = None) -> None:
    """Compare over the pairs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--width", type=int, default=512, help="of the decoder")
    parser.add_argument("--layers", type=int, default=6, help="of the decoder")
    parser.add_argument("--topk", type=int, default=10, help="labels of an image")
    parser.add_argument("--label-tokens", type=int, default=4, help="tokens of a label, the delimiter included")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    model = make_model(options)
    # No token ends a label, so that both sides write as many.
    nothing = torch.zeros(model.vocab_size, dtype=torch.bool)
    marks = Marks(-1, frozenset(), nothing, nothing)
    sides, steps = {"shared": share, "recomputed": recompute}, options.label_tokens - 1
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for pair in range(options.pairs + 1):
        prefix = torch.randn(1, model.num_image_tokens + _PROMPT_TOKENS, options.width)
        answers = {}
        for name in sorted(sides, reverse=bool(pair % 2)):
            started = time.process_time()
            with torch.no_grad():
                answers[name] = sides[name](model, prefix, marks, options.topk, steps)
            # The first pair warms up.
            seconds[name] += [time.process_time() - started] * bool(pair)
        (ids, log_probs), (other_ids, other_log_probs) = answers.values()
        error = (log_probs - other_log_probs).abs().max().item()
        if not torch.equal(ids, other_ids) or error > _TOLERANCE:
            raise SystemExit(f"pair {pair}: the sides differ by {error:.2g} in log probability; no figure is given")
    ratios = [slow / fast for fast, slow in zip(seconds["shared"], seconds["recomputed"], strict=True)]
    for name, taken in seconds.items():
        print(f"{name}: {statistics.median(taken):.3f} s an image")
    print(
        f"{options.topk} labels of {options.label_tokens} tokens behind {prefix.shape[1]}, decoder {options.width} x "
        f"{options.layers}: shared is {statistics.median(ratios):.1f} times faster ({min(ratios):.1f} to "
        f"{max(ratios):.1f})"
    )


if __name__ == "__main__":
    main()
