"""Tables and figures of a composed report."""

import pandas as pd

from rtl_jax.lab.report.elements import Figure, Report, Table


def elements(report: Report) -> dict[str, Table | Figure]:
    """Return tables and figures by name, which must be unique, since files have these names."""
    named = [
        element
        for section in report.sections
        for element in section.elements
        if isinstance(element, Table | Figure)
    ]
    assert len({(type(element), element.name) for element in named}) == len(named)
    charts = [chart.name for each in named if isinstance(each, Figure) for chart in each.charts]
    assert len(set(charts)) == len(charts)
    return {element.name: element for element in named}


def table(report: Report, name: str) -> pd.DataFrame:
    """Return the texts of a table."""
    found = elements(report)[name]
    assert isinstance(found, Table)
    texts = [[cell.text for cell in row] for row in found.rows]
    return pd.DataFrame(texts, columns=list(found.columns))
