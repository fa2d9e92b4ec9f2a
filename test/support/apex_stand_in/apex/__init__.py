"""A stand-in for apex in plain torch, for tests only: the calls of ``apex.amp`` and what they do to gradients."""
