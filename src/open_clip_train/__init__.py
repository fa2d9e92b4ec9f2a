"""The trainer under its later name: every module here is a door to the one of the same name in ``training``."""
