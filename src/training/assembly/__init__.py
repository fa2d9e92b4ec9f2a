"""Put a run together from its parts; the one room that knows them all. Trains nothing."""

from training.assembly.data import make_receive
from training.assembly.inputs import check_inputs
from training.assembly.model import refuse_untrained
from training.assembly.parts import Parts, build_parts, count_parameters
from training.assembly.place import Place

__all__ = [
    "Parts",
    "Place",
    "build_parts",
    "check_inputs",
    "count_parameters",
    "make_receive",
    "refuse_untrained",
]
