"""The page's section about labels that look wrong."""

from rtl_jax.lab.my_images.findings import Findings
from rtl_jax.lab.report import cells
from rtl_jax.lab.report.elements import Element, Picture, Table, Text

MOST = 30  # rows in the table; the file has all


def describe_labels(found: Findings) -> list[Element]:
    """The pictures whose labels look wrong, and what leaving them out would bring."""
    return [*_suspects(found), *_cleanings(found)]


def _suspects(found: Findings) -> list[Element]:
    first = found.suspects.iloc[:MOST]
    explained = "influence" in first
    rows = [
        [
            cells.text(found.short(row.file)),
            cells.text(row.label),
            cells.text(row.held_out_prediction),
            cells.number(100 * row.held_out_probability, 1),
            *([cells.number(row.influence, 3)] if explained else []),
        ]
        for row in first.itertuples()
    ]
    columns = ["file", "label", "named", "its label's probability, %"]
    columns += ["self-influence"] if explained else []
    note = (
        "The first are those whose label is the least probable to the network that was trained "
        "without them: a wrong label, or a rare sight. "
    )
    if explained:
        note += (
            "Where labels were made wrong on purpose, this order found more of them than "
            "self-influence did, how much a picture's own loss would rise without it, which is "
            "measured on a network that has learnt the wrong label as well. suspects.csv has all "
            "pictures in this order, with both."
        )
    else:
        note += (
            "suspects.csv has all pictures in this order. It has no self-influence, which a ridge "
            "head does not have: --config.sweep.head_fits=logistic,sgd compares heads that do, and "
            "whose predictions can be explained by training pictures."
        )
    title = "The most suspicious first: label, and what it is named held out"
    return [
        Picture("suspects", title, found.suspects_picture),
        Table("suspects", "Labels to look at", columns, rows, note),
    ]


def _cleanings(found: Findings) -> list[Element]:
    by_size, others = found.cleanings
    rows = [
        [
            cells.count(one.num_images),
            cells.count(one.removed),
            cells.number(100 * float(one.every.mean()), 1),
            cells.interval(*one.gain, signed=True),
            cells.interval(*one.gain_at_random, signed=True),
        ]
        for one in (*by_size, *others)
    ]
    columns = ["training pictures", "left out", "accuracy with all, %", "gain without suspects",
               "gain without as many at random"]  # fmt: skip
    whole = by_size[-1]
    note = (
        "Held-out accuracy of ridge heads on the features of the chosen source before it is "
        "fine-tuned, in the same folds; gains in points with 95 % intervals over "
        f"{len(whole.every):,} pictures. The suspects of a fold are found among its training "
        "pictures alone. Held-out pictures keep their labels, wrong ones included."
    )
    mean, half = whole.gain
    words = f"Without the {whole.removed} most suspicious of {whole.num_images:,} training pictures"
    words += (
        f", a ridge head gains {mean:.1f} ± {half:.1f} points. Look at these pictures, correct the "
        "labels that are wrong, and run the same command again."
        if mean - half > 0
        else ", a ridge head gains nothing that can be measured. Correct the labels that are "
        "wrong, and leave the rest."
    )
    return [Text(words), Table("cleaning", "Without the suspects", columns, rows, note)]
