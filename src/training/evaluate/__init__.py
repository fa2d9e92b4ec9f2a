"""What a trained model can do: retrieval metrics and the gallery of examples. Trains nothing and prints nothing."""

from training.evaluate.examples import Gallery, load_gallery, save_gallery
from training.evaluate.gallery import build_gallery
from training.evaluate.retrieval import retrieval_metrics
from training.evaluate.run import Evaluation, evaluate_pairs

__all__ = [
    "Evaluation",
    "Gallery",
    "build_gallery",
    "evaluate_pairs",
    "load_gallery",
    "retrieval_metrics",
    "save_gallery",
]
