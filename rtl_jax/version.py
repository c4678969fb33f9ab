"""The version of this package, which every result row records."""

__version__ = "0.1.0"
