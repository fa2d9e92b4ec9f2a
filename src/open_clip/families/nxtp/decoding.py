"""Labels of images: many at once from one prompt, or one after the other. How they are ordered is ``ranking.py``'s job.

Shapes: B images, R rows, N rows of an image, L tokens written, V vocabulary.
Source: arXiv 2312.02142, section 3.3 (one-shot sampling).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from open_clip.errors import ConfigError, suggest_nearest
from open_clip.families.nxtp.beams import search_beams
from open_clip.families.nxtp.model import NextLabelModel
from open_clip.families.nxtp.ranking import RANKINGS, ClipJudge, Label, rank_labels
from open_clip.families.nxtp.rows import Marks, Rows, Written
from open_clip.families.nxtp.tokenizer import LabelTokenizer
from open_clip.generation.options import keep_top_k, keep_top_p, penalise_repetition

STRATEGIES = ("one_shot", "greedy", "beam")
SAMPLINGS = ("top_k", "top_p")


@dataclass(frozen=True)
class DecodingOptions:
    """How labels are written.

    Attributes:
        extra_rows: One-shot: rows beyond the labels that are asked for, out of which the best are taken.
        max_label_tokens: One-shot: tokens that follow a label's first at most, its delimiter among them.
        max_tokens: Greedy and beam: tokens of all labels at most.
        sampling: Greedy: ``top_k`` draws from the most likely tokens, and takes the most likely where ``top_k`` is 1;
            ``top_p`` draws from the fewest tokens that together are likely enough.
        top_k: See ``sampling``.
        top_p: See ``sampling``.
        temperature: For ``top_p``: what scores are divided by.
        penalty: Greedy: above 1 makes the tokens of labels that stand there already less likely. A label's own tokens
            are left alone, so that the first label is that of one-shot.
        beam_size: Beam: texts of an image that are followed.
        patience: Beam: an image is done when this times ``beam_size`` texts have ended.
    """

    extra_rows: int = 0
    max_label_tokens: int = 20
    max_tokens: int = 64
    sampling: str = "top_k"
    top_k: int = 1
    top_p: float = 0.9
    temperature: float = 1.0
    penalty: float = 1.2
    beam_size: int = 3
    patience: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what no search can be made of.

        Raises:
            ConfigError: names the option.
        """
        _require_choice("sampling", self.sampling, SAMPLINGS)
        least = {"extra_rows": 0, "max_label_tokens": 1, "max_tokens": 1, "top_k": 1, "beam_size": 1}
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise ConfigError(f"decoding: {name} is {getattr(self, name)}; it must be {lowest} or more.")
        for name in ("temperature", "penalty", "patience", "top_p"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0) or (name == "top_p" and value > 1):
                bound = "above 0 and at most 1" if name == "top_p" else "above 0"
                raise ConfigError(f"decoding: {name} is {value}; it must be {bound}.")


def _require_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        near = suggest_nearest(value, known)
        raise ConfigError(f"decoding: {name} is {value!r}.{near} It can be {', '.join(known)}.")


@torch.no_grad()
def predict_labels(
    model: NextLabelModel,
    images: Tensor,
    tokenizer: LabelTokenizer,
    k: int = 10,
    strategy: str = "one_shot",
    ranking: str = "prob",
    *,
    prompt: str | None = None,
    options: DecodingOptions | None = None,
    clip: ClipJudge | None = None,
    generator: torch.Generator | None = None,
) -> list[list[Label]]:
    """Name what is in images.

    Args:
        model: In eval mode.
        images: [B, 3, H, W], prepared as the model wants them.
        tokenizer: The decoder's.
        k: Labels of an image at most; an image may have fewer.
        strategy: ``one_shot`` begins a label with each of the k most likely first tokens and continues all of them side
            by side with the most likely tokens. ``greedy`` writes one label after the other, ``beam`` follows several
            such texts and takes the one with the highest mean log probability.
        ranking: How labels are ordered; see ``ranking.py``. Labels that no delimiter closed stand last.
        prompt: What stands before the labels; the model's own where None.
        options: How labels are written.
        clip: The model that judges for the ranking ``clip``.
        generator: Where ``greedy`` draws from, on the images' device; torch's own where None.

    Returns:
        The labels of each image, best first.

    Raises:
        ConfigError: an argument cannot be, or the prompt does not fit.
    """
    options = options or DecodingOptions()
    _require_choice("strategy", strategy, STRATEGIES)
    _require_choice("ranking", ranking, RANKINGS)
    if k < 1:
        raise ConfigError(f"decoding: k is {k}; it must be 1 or more.")
    if ranking == "clip" and clip is None:
        raise ConfigError("decoding: the ranking clip needs a CLIP model that judges the labels; give one as clip.")
    marks = Marks.find(tokenizer, model.vocab_size, images.device)
    wanted = options.max_label_tokens if strategy == "one_shot" else options.max_tokens
    rows, steps = Rows.read(model, images, tokenizer, prompt or model.label_cfg.prompt, wanted)
    if strategy == "one_shot":
        written = write_side_by_side(rows, marks, k + options.extra_rows, steps)
    elif strategy == "greedy":
        written = write_in_turn(rows, marks, k, steps, options, generator)
    else:
        written = search_beams(rows, marks, k, steps, options.beam_size, options.patience)
    embeddings = model.decoder.token_embedding.weight
    ranked = rank_labels(
        written,
        tokenizer,
        ranking,
        add_up=strategy == "one_shot",
        image_tokens=rows.image_tokens,
        embeddings=embeddings,
        images=images,
        clip=clip,
    )
    return [labels[:k] for labels in ranked]


def write_side_by_side(rows: Rows, marks: Marks, k: int, steps: int) -> list[list[Written]]:
    """Begin a label with each of the k likeliest tokens that one can begin with, and go on with the likeliest."""
    num_images, vocab_size = rows.logits.shape
    count = min(k, vocab_size - int(marks.no_beginning.sum()))
    likely = rows.logits.log_softmax(dim=-1).masked_fill(marks.no_beginning, -torch.inf).topk(count, dim=1)
    rows = rows.repeat(count)
    ids, log_probs = [likely.indices.flatten()], [likely.values.flatten()]
    has_ended = torch.zeros_like(ids[0], dtype=torch.bool)
    for _ in range(steps):
        rows.write(ids[-1])
        best = rows.logits.log_softmax(dim=-1).max(dim=-1)
        ids.append(best.indices)
        log_probs.append(best.values)
        has_ended |= (best.indices == marks.delimiter) | marks.is_end[best.indices]
        if bool(has_ended.all()):
            break
    all_ids, all_log_probs = (torch.stack(one, dim=1).tolist() for one in (ids, log_probs))
    labels = [marks.split(*row, most=1) for row in zip(all_ids, all_log_probs, strict=True)]
    return [sum(labels[image * count : (image + 1) * count], []) for image in range(num_images)]


def write_in_turn(
    rows: Rows, marks: Marks, k: int, steps: int, options: DecodingOptions, generator: torch.Generator | None = None
) -> list[list[Written]]:
    """Write up to k labels one after the other, each token drawn as the options say."""
    device = rows.logits.device
    ids = torch.empty(len(rows.logits), 0, dtype=torch.int64, device=device)
    log_probs = rows.logits.new_empty(len(ids), 0)
    has_ended = torch.zeros(len(ids), dtype=torch.bool, device=device)
    for _ in range(steps):
        if ids.shape[1]:
            rows.write(ids[:, -1], marks.number_labels(ids))
        scores = marks.forbid(_penalise(rows.logits, ids, marks, options.penalty), ids)
        token = _draw(scores, options, generator)
        # The probability is the model's own, whatever the token was drawn from.
        log_prob = rows.logits.log_softmax(dim=-1).gather(1, token)
        ids, log_probs = torch.cat([ids, token], dim=1), torch.cat([log_probs, log_prob], dim=1)
        has_ended |= marks.is_end[token[:, 0]] | ((ids == marks.delimiter).sum(dim=1) >= k)
        if bool(has_ended.all()):
            break
    return [marks.split(*row, most=k) for row in zip(ids.tolist(), log_probs.tolist(), strict=True)]


def _penalise(logits: Tensor, ids: Tensor, marks: Marks, penalty: float) -> Tensor:
    """Make the tokens of finished labels less likely, but not what closes them."""
    labels = marks.number_labels(ids)
    is_open = labels == (ids == marks.delimiter).sum(dim=1, keepdim=True)
    counts = torch.zeros_like(logits).scatter_add(1, ids, (~is_open & (ids != marks.delimiter)).to(logits.dtype))
    return torch.where(counts > 0, penalise_repetition(logits, ids, penalty), logits)


def _draw(scores: Tensor, options: DecodingOptions, generator: torch.Generator | None) -> Tensor:
    """Choose a token for each row of scores [R, V], int64 [R, 1]."""
    if options.sampling == "top_p":
        kept = keep_top_p(scores / options.temperature, options.top_p)
    elif options.top_k == 1:
        return scores.argmax(dim=-1, keepdim=True)
    else:
        kept = keep_top_k(scores, options.top_k)
    return torch.multinomial(kept.softmax(dim=-1), 1, generator=generator)
