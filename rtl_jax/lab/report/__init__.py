"""Reports: what a work directory's rows say, as tables, charts and one page; without JAX."""
