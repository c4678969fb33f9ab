"""Reports: the results of a work directory as tables, charts and one page; without JAX."""
