"""The task `attack`: robust accuracy of a network, or of all networks of a work directory."""
