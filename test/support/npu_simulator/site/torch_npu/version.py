"""Version of the wheel whose names are imitated."""

__version__ = "2.14.0"
