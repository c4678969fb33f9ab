"""The page: a single HTML file that embeds its style, script, charts and pictures.

Jinja2 escapes everything that comes from data, and the page's security policy allows no script but
its own.
"""

import base64
import hashlib
import importlib.resources
from collections.abc import Sequence

import jinja2
from markupsafe import Markup

from rtl_jax.errors import UserError
from rtl_jax.lab.report import charts
from rtl_jax.lab.report.elements import Figure, Picture, Report, Table, Text
from rtl_jax.lab.report.palette import own, shared, styles
from rtl_jax.version import __version__


def render(report: Report) -> str:
    """Render a report as an HTML page. Raises UserError if a picture cannot be read."""
    looks = styles(report)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "data_uri": _data_uri,
        "numeric_columns": numeric_columns,
        "short": lambda length: f"{length:.1f}",
        "legend": lambda figure: charts.legend(shared(figure), looks),
        "own_legend": lambda chart, figure: charts.legend(own(figure, chart), looks),
        "drawing": lambda chart: charts.draw(chart, looks),
    }
    environment.tests |= {
        "text": lambda item: isinstance(item, Text),
        "table": lambda item: isinstance(item, Table),
        "figure": lambda item: isinstance(item, Figure),
    }
    script = _template("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        report=report,
        version=__version__,
        style=Markup(_template("page.css")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        width=charts.WIDTH,
        height=charts.HEIGHT,
        left=charts.LEFT,
        right=charts.RIGHT,
        top=charts.TOP,
        bottom=charts.BOTTOM,
    )


def numeric_columns(table: Table) -> Sequence[bool]:
    """Return, for each column of a table, whether any of its cells is numeric."""
    return [any(row[column].numeric for row in table.rows) for column in range(len(table.columns))]


def _template(name: str) -> str:
    return (
        importlib.resources.files("rtl_jax.lab.report")
        .joinpath("templates", name)
        .read_text("utf8")
    )


def _data_uri(picture: Picture) -> str:
    try:
        content = picture.path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the image {picture.path}: {error}") from error
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
