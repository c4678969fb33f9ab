"""The task `sweep`: a grid of fine-tunings, many seeds in one program."""
