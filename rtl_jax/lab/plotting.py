"""Figures drawn without a display and written atomically."""

from typing import Any

from etils import epath

from rtl_jax.runtime.paths import complete_or_absent


def subplots(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """Create a figure, its size in inches, and its axes as an array [rows, columns]."""
    # Imported here because it takes a second; without pyplot, which would look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: Any, path: epath.Path) -> None:
    """Write a figure as SVG if the path ends in .svg, else as PNG, replacing an older one."""
    vector = path.suffix == ".svg"
    metadata = {"Date": None} if vector else {}  # the same figure gives the same file
    with complete_or_absent(path, replace=True) as temporary, temporary.open("wb") as file:
        figure.savefig(file, format="svg" if vector else "png", dpi=150, metadata=metadata)
