"""What model families are built from: configurations and their checks, towers, the contrastive base, weight types.

It knows no family. Programs find the names in ``open_clip`` and ``open_clip.model``.
"""
