"""Retrieval metrics of features that are there already."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch

from benchmarks.equality import Answers, Rule
from benchmarks.rows.base import Row
from benchmarks.settings import Values

_METRICS = Rule("relative", 1e-12)
_RECALL_AT = (1, 5, 10)
_ROWS_AT_ONCE = 250


class OneToOne(Row):
    """Pairs one to one: the trainer's metrics."""

    unit = "evaluations"
    rules: ClassVar[Mapping[str, Rule]] = {"metrics": _METRICS}
    sizes: ClassVar[Values] = {"images": 5000, "captions_each": 1, "width": 512}
    tiny: ClassVar[Values] = {"images": 40, "captions_each": 1, "width": 16}

    def prepare(self) -> Values:
        """Make features up whose recall is neither none nor all."""
        self.measure: Callable[[], Mapping[str, float]]
        generator = torch.Generator().manual_seed(self.settings.seed)
        count, each, width = (self.size[name] for name in ("images", "captions_each", "width"))
        images = torch.randn(count, width, generator=generator).repeat_interleave(each, dim=0)
        texts = 0.16 * images + torch.randn(count * each, width, generator=generator)
        self.ids = torch.arange(count).repeat_interleave(each)
        self.images, self.texts = (
            torch.nn.functional.normalize(features, dim=-1).to(self.settings.device) for features in (images, texts)
        )
        # Importing is not this row's work, nor its memory.
        if self.side == "ours":
            from training.evaluate.retrieval import retrieval_metrics

            self.measure = lambda: retrieval_metrics(self.images, self.texts, self.ids)
        else:
            from open_clip_train.train import get_clip_metrics

            self.measure = lambda: get_clip_metrics(self.images, self.texts, torch.tensor(100.0))
        return {"images": count, "captions": count * each, "width": width}

    def check(self) -> Answers:
        """Compute the metrics that both sides have."""
        metrics = self._metrics()
        names = ("mean_rank", "median_rank", *(f"R@{k}" for k in _RECALL_AT))
        common = [f"{way}_{name}" for way in ("image_to_text", "text_to_image") for name in names]
        return {"metrics": {name: torch.tensor(float(metrics[name]), dtype=torch.float64) for name in common}}

    def round(self, number: int) -> int:
        """Compute them again."""
        self._metrics()
        return 1

    def _metrics(self) -> Mapping[str, float]:
        return self.measure()


class ManyToOne(OneToOne):
    """Several captions an image, by the benchmark's definition, which the peer does not have.

    In its place the peer's process sorts the scores of a few rows at a time, the slow and plain way.
    """

    sizes: ClassVar[Values] = {**OneToOne.sizes, "captions_each": 5}
    tiny: ClassVar[Values] = {**OneToOne.tiny, "captions_each": 5}

    def check(self) -> Answers:
        """Compute recall of any caption and of the image."""
        metrics = self._metrics()
        names = [f"{way}_retrieval_recall@{k}" for way in ("text", "image") for k in _RECALL_AT]
        return {"metrics": {name: torch.tensor(float(metrics[name]), dtype=torch.float64) for name in names}}

    def _metrics(self) -> Mapping[str, float]:
        return super()._metrics() if self.side == "ours" else self._sorted_metrics()

    def _sorted_metrics(self) -> dict[str, float]:
        images = self.images[:: self.size["captions_each"]]
        text_ranks = _best_ranks(images, self.texts, torch.arange(len(images)), self.ids)
        image_ranks = _best_ranks(self.texts, images, self.ids, torch.arange(len(images)))
        found = {f"text_retrieval_recall@{k}": float((text_ranks < k).double().mean()) for k in _RECALL_AT}
        return found | {f"image_retrieval_recall@{k}": float((image_ranks < k).double().mean()) for k in _RECALL_AT}


def _best_ranks(
    queries: torch.Tensor, answers: torch.Tensor, query_ids: torch.Tensor, answer_ids: torch.Tensor
) -> torch.Tensor:
    """Return for each query the place of the first answer of its image among all answers, best first."""
    ranks = []
    for start in range(0, len(queries), _ROWS_AT_ONCE):
        order = (queries[start : start + _ROWS_AT_ONCE] @ answers.T).cpu().argsort(dim=1, descending=True, stable=True)
        is_own = answer_ids[order] == query_ids[start : start + _ROWS_AT_ONCE, None]
        ranks.append(is_own.int().argmax(dim=1))
    return torch.cat(ranks)
