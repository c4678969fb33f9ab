"""The documentation site: `make docs` builds it in docs/_build."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import reference  # noqa: E402

from rtl_jax.version import __version__  # noqa: E402

project = "rtl_jax"
author = "the rtl_jax maintainers"
copyright = "the rtl_jax maintainers; Apache-2.0"
release = version = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "jupyter_execute", "study/*/rows", "study/rows"]
highlight_language = "bash"  # of a block that names no language: a command

html_theme = "furo"
html_title = f"rtl_jax {release}"
html_static_path = ["static"]
html_css_files = ["tables.css"]
html_show_sphinx = False

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
# The pages are read in a checkout, too, where links lead to folders and to files beside docs/.
suppress_warnings = ["myst.header", "myst-nb.lexer"]

# The tutorials run when the site is built, and once for every change of theirs.
nb_execution_mode = os.environ.get("RTL_JAX_DOCS_EXECUTION", "cache")
nb_execution_cache_path = str(HERE / "_build" / ".notebooks")
nb_execution_in_temp = True  # tutorials write images and networks
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_typehints = "none"  # docstrings give shapes and units, which types do not
autodoc_member_order = "bysource"
autosummary_generate = False
default_role = "code"  # of single backticks in docstrings
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def setup(app):
    """Write the pages that code describes before Sphinx looks for pages."""
    app.connect("config-inited", lambda app, config: reference.write(HERE / "generated"))
