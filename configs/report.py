"""What a work directory has found, as a page to read, figures and tables.

    python run.py --config configs/report.py --workdir runs/quickstart/sweep

Reads the rows under the work directory, whatever tasks they come from, and writes report/index.html
beside them, one file that a browser opens anywhere, with report/figures and report/tables for a
paper. Needs seconds, and no accelerator. See docs/report.md.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults


def get_config() -> ConfigDict:
    """No setting but the task: a report shows all rows that there are."""
    config = defaults()
    config.task = "report"
    return config
