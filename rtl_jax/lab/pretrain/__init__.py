"""The task `pretrain`: sources trained from scratch, naturally, with PGD or with noise."""
