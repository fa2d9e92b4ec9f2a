"""Put a run together from its parts; the one room that knows them all. Trains nothing."""

from training.assembly.inputs import check_inputs
from training.assembly.model import refuse_untrained
from training.assembly.parts import Parts, build_parts, count_parameters
from training.assembly.place import Place
from training.assembly.trainer import build_trainer

__all__ = [
    "Parts",
    "Place",
    "build_parts",
    "build_trainer",
    "check_inputs",
    "count_parameters",
    "refuse_untrained",
]
