"""Figures: a canvas without a screen, and PNG files that are whole or absent."""

from typing import Any

from etils import epath

from rtl_jax.checkpoint import complete_or_absent


def canvas(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A matplotlib figure of so many inches, and its axes [rows, columns], an array always."""
    # Imported here, for it takes a second; without pyplot, which would look for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: Any, path: epath.Path) -> None:
    """Write a figure as PNG; an older one is replaced."""
    if path.exists():
        path.unlink()
    with complete_or_absent(path) as temporary, temporary.open("wb") as file:
        figure.savefig(file, format="png", dpi=150)
