"""Figures drawn without a display and written atomically."""

from typing import Any

from etils import epath

from rtl_jax.runtime.paths import complete_or_absent


def subplots(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A matplotlib figure, width and height in inches, and its axes as an array [rows, columns]."""
    # Imported here, for it takes a second; without pyplot, which would look for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: Any, path: epath.Path) -> None:
    """Write a figure, as SVG where its path ends so and as PNG else; an older one is replaced."""
    vector = path.suffix == ".svg"
    metadata = {"Date": None} if vector else {}  # the same figure is the same file
    with complete_or_absent(path, replace=True) as temporary, temporary.open("wb") as file:
        figure.savefig(file, format="svg" if vector else "png", dpi=150, metadata=metadata)
