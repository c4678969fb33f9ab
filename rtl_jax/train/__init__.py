"""Fine-tuning on arrays: the frozen prefix computed once, many seeds in one program."""
