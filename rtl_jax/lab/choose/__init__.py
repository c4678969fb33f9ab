"""The task `choose`: a ranking of sources and numbers of blocks without fine-tuning."""
