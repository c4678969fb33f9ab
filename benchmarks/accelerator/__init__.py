"""One command for an accelerator that is there for minutes: `python -m benchmarks.accelerator`."""
