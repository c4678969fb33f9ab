"""The task `predict`: classes and calibrated probabilities of new images."""
