"""Put a run together from its parts; the one room that knows them all. Trains nothing."""

from training.build.data import make_receive
from training.build.parts import Parts, build_parts, count_parameters
from training.build.place import Place

__all__ = ["Parts", "Place", "build_parts", "count_parameters", "make_receive"]
