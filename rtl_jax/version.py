"""The version of this package, which every row names."""

__version__ = "0.1.0"
