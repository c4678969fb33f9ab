"""The task `visualize`: feature visualisation, and gradients of the loss with respect to pixels."""
