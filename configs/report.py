"""The results in a work directory as a web page, figures and tables.

    python run.py --config configs/report.py --workdir runs/quickstart/sweep

Reads all rows under the work directory, from any tasks, and writes report/index.html beside them, a
single file for any browser, and report/figures and report/tables for a paper. Takes seconds, and
needs no accelerator. See docs/report.md.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults


def get_config() -> ConfigDict:
    """Return only the task, since a report shows all existing rows."""
    config = defaults()
    config.task = "report"
    return config
