"""Flags that choose what is trained: the loss and what it needs."""

from dataclasses import dataclass

from training.params.flags import flag
from training.params.plugins import absolute
from training.params.values import number, text, whole


def recipe_word(word: str) -> str:
    """Read the name of a recipe; a path is spelt so that the run can be resumed from another folder.

    Raises:
        argparse.ArgumentTypeError: It is no text.
    """
    return absolute(text(word))


@dataclass(frozen=True)
class RecipeParams:
    """Recipe."""

    task: str | None = flag(
        None,
        "recipe to train with: clip, siglip, coca, distill, or path/to/file.py:NAME for one of your own (default: as "
        "the flags below and the model ask)",
        type=recipe_word,
    )
    siglip: bool = flag(
        False, "train with the sigmoid loss; the model gets a logit bias and starts at scale 10, bias -10"
    )
    loss_dist_impl: str | None = flag(
        None,
        "how the sigmoid loss passes captions between processes: same loss, other memory and traffic (default: bidir)",
        choices=("bidir", "shift", "reduce", "gather"),
    )
    loss_tile_rows: int | None = flag(
        None,
        "rows of a tile in which the contrastive or sigmoid loss makes its scores, and makes them again for the "
        "gradients; 0 keeps all scores in memory (default: 1024 from a global batch of 2048 on, else 0)",
        type=whole(),
    )
    coca_caption_loss_weight: float = flag(2.0, "weight of the caption loss of a CoCa", type=number(0.0))
    coca_contrastive_loss_weight: float = flag(
        1.0, "weight of the contrastive loss of a CoCa; 0 trains the captions only", type=number(0.0)
    )
    distill_model: str | None = flag(
        None, "name of a teacher whose scores the model imitates beside its pairs; needs --distill-pretrained"
    )
    distill_pretrained: str | None = flag(None, "weights of the teacher: a tag or the path of a weights file")
    distill_own_normalization: bool = flag(
        False, "normalise the teacher's pixels with its own mean and deviation, where upstream uses the student's"
    )
