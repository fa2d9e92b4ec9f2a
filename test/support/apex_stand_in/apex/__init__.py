"""A stand-in for apex in plain torch, for tests only: the public calls of ``apex.amp``, with real fp16 copies."""
