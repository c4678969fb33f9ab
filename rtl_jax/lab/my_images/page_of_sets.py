"""The page's section about prediction sets and outliers."""

from collections.abc import Sequence

from rtl_jax.lab.my_images.guarantees import FLAGGED, Coverage, Measured
from rtl_jax.lab.report import cells
from rtl_jax.lab.report.elements import Element, Table, Text


def describe_sets(measured: Measured) -> list[Element]:
    """Report the measured coverage of prediction sets and the share flagged as outliers."""
    one = next(each for each in measured.held_out if each.asked == 0.9 and not each.by_class)
    words = (
        f"At a coverage of 90 %, sets of {one.size:.2f} classes on average hold the true class of "
        f"{one.held} of the {one.held.images:,} held-out pictures. Each fold's sets come from the "
        "other folds: their choice of a candidate, temperature and scores."
    )
    caution = (
        "What is guaranteed: a network whose held-out scores these were would hold the true class "
        "of new pictures of the same kind at least as often as asked, on average. The final "
        "network is another one, trained on all pictures, while the scores are of networks that "
        "each missed a fold; that it does as well, usually a little better, is an observation. "
        "Sets always have the most probable class, so where accuracy is above the coverage asked "
        "for, they hold the true class more often."
    )
    elements: list[Element] = [Text(words), Text(caution), _table("sets", "Held out",
                               measured.held_out)]  # fmt: skip
    if measured.tested is not None and measured.flagged is not None:
        elements.append(_table("sets_of_test", "On test/, by the final network", measured.tested))
        shares = "; ".join(f"by {name}, {share}" for name, share in measured.flagged.items())
        elements.append(
            Text(
                f"Pictures of test/ that are flagged as outliers at a p-value of {FLAGGED:g}, of "
                f"which {100 * FLAGGED:g} % are expected where they are of the same kind: {shares}."
            )
        )
    return elements


def _table(name: str, title: str, rows: Sequence[Coverage]) -> Table:
    columns = ["asked, %", "of", "held, %", "95 % interval", "classes in a set",
               "least covered class, %"]  # fmt: skip
    note = (
        "How many sets hold the true class, and how many classes they have on average. By class, "
        "the coverage is asked for each class, and sets are of all classes where one has too few "
        f"pictures. {rows[0].held.images:,} pictures; Wilson's intervals."
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
