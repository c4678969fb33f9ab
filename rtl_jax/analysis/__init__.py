"""What networks see: images that raise a feature, and gradients of the loss by the pixels."""
