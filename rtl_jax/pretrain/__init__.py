"""Sources: networks trained from scratch, naturally, with PGD, or with Gaussian noise."""
