"""The task `visualize`: images that raise a feature, and gradients of the loss by the pixels."""
