"""What a trained model can do: retrieval metrics and the gallery of examples. Trains nothing and prints nothing."""

from training.evaluate.examples import Gallery, load_gallery, save_gallery
from training.evaluate.gallery import build_gallery
from training.evaluate.retrieval import retrieval_metrics
from training.evaluate.run import Evaluation, evaluate_pairs
from training.evaluate.whole import on_whole_model
from training.evaluate.zero_shot import ClassSet, ZeroShot, count_hits, read_class_names

__all__ = [
    "ClassSet",
    "Evaluation",
    "Gallery",
    "ZeroShot",
    "build_gallery",
    "count_hits",
    "evaluate_pairs",
    "load_gallery",
    "on_whole_model",
    "read_class_names",
    "retrieval_metrics",
    "save_gallery",
]
