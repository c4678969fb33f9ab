"""Transfer learning from adversarially trained networks, in JAX (Utrera et al., ICLR 2021)."""

__version__ = "0.1.0"
