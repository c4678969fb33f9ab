"""The task `influence`: the training images behind predictions, and likely label errors."""
