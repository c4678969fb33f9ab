"""The task `predict`: classes and calibrated probabilities of new pictures."""
