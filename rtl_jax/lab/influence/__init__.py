"""The task `influence`: which training images made a prediction, and which labels look wrong."""
