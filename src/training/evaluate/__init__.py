"""What a trained model can do: evaluations, their metrics, and what the report shows of them. Trains nothing."""

from training.evaluate.accuracy import Accuracy
from training.evaluate.base import Evaluation, EvaluationKit, Measured, Occasion, Pace
from training.evaluate.examples import Gallery
from training.evaluate.gallery import build_gallery
from training.evaluate.hits import count_hits
from training.evaluate.labels import LabelRecall
from training.evaluate.pairs import Retrieval, SetRetrieval, pair_evaluations
from training.evaluate.parts import Images, LabelledImage, Note, Part, Table, save_parts
from training.evaluate.protocols import EncodesSides, EvaluatedTask, PredictsLabels, ScoresClasses
from training.evaluate.relevance import Relevance, relevance_metrics
from training.evaluate.retrieval import retrieval_metrics
from training.evaluate.rows import ClassSet, ValidationRows
from training.evaluate.whole import ready_to_measure
from training.evaluate.zero_shot import ZeroShot, read_class_names

__all__ = [
    "Accuracy",
    "ClassSet",
    "EncodesSides",
    "EvaluatedTask",
    "Evaluation",
    "EvaluationKit",
    "Gallery",
    "Images",
    "LabelRecall",
    "LabelledImage",
    "Measured",
    "Note",
    "Occasion",
    "Pace",
    "Part",
    "PredictsLabels",
    "Relevance",
    "Retrieval",
    "ScoresClasses",
    "SetRetrieval",
    "Table",
    "ValidationRows",
    "ZeroShot",
    "build_gallery",
    "count_hits",
    "pair_evaluations",
    "read_class_names",
    "ready_to_measure",
    "relevance_metrics",
    "retrieval_metrics",
    "save_parts",
]
