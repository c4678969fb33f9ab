"""Measurements for brief access to an accelerator: `python -m benchmarks.accelerator`."""
