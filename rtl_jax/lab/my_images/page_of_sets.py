"""The page's section about prediction sets and outliers."""

from collections.abc import Sequence

from rtl_jax.lab.my_images.guarantees import FLAGGED, Coverage, Measured
from rtl_jax.lab.report import cells
from rtl_jax.lab.report.elements import Element, Table, Text


def describe_sets(measured: Measured) -> list[Element]:
    """Report the measured coverage of prediction sets and the share flagged as outliers."""
    one = next(each for each in measured.held_out if each.asked == 0.9 and not each.by_class)
    words = (
        f"At a nominal coverage of 90 %, sets of {one.size:.2f} classes on average contain the "
        f"true class of {one.held} of the {one.held.images:,} held-out images. Each fold's sets "
        "are computed from the other folds: the selected candidate, its temperature and scores."
    )
    caution = (
        "The guarantee: sets of the network that the held-out scores come from would contain the "
        "true class of new images of the same kind at least as often as the nominal coverage, on "
        "average. But the final network was trained on all images, and the scores come from "
        "networks that each missed a fold; that its coverage is as high, and usually slightly "
        "higher, is an empirical observation. A set always includes the most probable class, so "
        "coverage exceeds the nominal one where accuracy does."
    )
    elements: list[Element] = [Text(words), Text(caution), _table("sets", "Held out",
                               measured.held_out)]  # fmt: skip
    if measured.tested is not None and measured.flagged is not None:
        elements.append(_table("sets_of_test", "On test/, by the final network", measured.tested))
        shares = "; ".join(f"by {name}, {share}" for name, share in measured.flagged.items())
        elements.append(
            Text(
                f"Images in test/ flagged as outliers at a p-value of {FLAGGED:g} "
                f"({100 * FLAGGED:g} % are expected if they are of the same kind): {shares}."
            )
        )
    return elements


def _table(name: str, title: str, rows: Sequence[Coverage]) -> Table:
    columns = ["nominal, %", "for", "coverage, %", "95 % interval", "set size",
               "least covered class, %"]  # fmt: skip
    note = (
        "Coverage: the share of sets that contain the true class. Set size: the mean number of "
        "classes. For each class: the nominal coverage is required for every class, and sets "
        "contain all classes where one has too few images. "
        f"{rows[0].held.images:,} images; Wilson's intervals."
    )
    return Table(name, f"Prediction sets: {title.lower()}", columns, [
        [
            cells.number(100 * each.asked, 0),
            cells.text("each class" if each.by_class else "all"),
            cells.number(each.held.percent, 1),
            cells.text(f"{each.held.low:.1f} to {each.held.high:.1f}"),
            cells.number(each.size, 2),
            cells.number(each.least, 1),
        ]
        for each in rows
    ], note)  # fmt: skip
