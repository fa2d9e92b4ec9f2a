"""The version this package answers to. Nothing is computed here."""

# The API level of upstream this package is drop-in with, then a local label, so that a requirement on it is satisfied.
__version__ = "3.3.0+portable.1"
