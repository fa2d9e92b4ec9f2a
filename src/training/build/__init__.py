"""Put a run together from its parts; the one room that knows them all. Trains nothing."""

from training.build.data import make_receive
from training.build.inputs import check_inputs
from training.build.model import refuse_untrained
from training.build.parts import Parts, build_parts, count_parameters
from training.build.place import Place
from training.build.texts import evaluation_shapes

__all__ = [
    "Parts",
    "Place",
    "build_parts",
    "check_inputs",
    "count_parameters",
    "evaluation_shapes",
    "make_receive",
    "refuse_untrained",
]
