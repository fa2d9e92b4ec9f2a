"""Measure this project against open_clip_torch 3.3.0, row by row: ``python -m benchmarks --help``.

Nothing here is installed or imported by the library and the trainer.
"""
