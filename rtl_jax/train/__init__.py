"""Fine-tuning on arrays, with cached features of the frozen prefix and many seeds per program."""
