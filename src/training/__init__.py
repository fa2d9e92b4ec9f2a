"""The trainer: `python -m training.main`."""
