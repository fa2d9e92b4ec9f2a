"""What this machine can train on: ``python -m training.doctor [--device NAME] [--report]``.

Without ``--report`` it looks at the installation, tries one device for a few seconds and says whether a run would
start. With it, it measures the device for some minutes and writes a page that can be pasted into an issue. Works where
``import torch`` fails, and says why.
"""
