"""The page's section about suspicious labels."""

from rtl_jax.lab.my_images.findings import Findings
from rtl_jax.lab.report import cells
from rtl_jax.lab.report.elements import Element, Picture, Table, Text

MOST = 30  # rows in the table; the file has all


def describe_labels(found: Findings) -> list[Element]:
    """The images with suspicious labels, and the gain from leaving them out."""
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
    columns = ["file", "label", "predicted", "probability of the label, %"]
    columns += ["self-influence"] if explained else []
    note = (
        "Images are ranked by the probability that the network trained without them gives to "
        "their label, lowest first: the label is wrong, or the image unusual. "
    )
    if explained:
        note += (
            "On labels made wrong on purpose, this ranking found more of them than self-influence "
            "(how much an image's own loss would rise without it), which comes from a network that "
            "has learned the wrong label as well. suspects.csv has all images in this order, with "
            "both."
        )
    else:
        note += (
            "suspects.csv has all images in this order. Self-influence is not defined for a ridge "
            "head: --config.sweep.head_fits=logistic,sgd compares heads for which it is, and whose "
            "predictions can be explained by training images."
        )
    title = "The most suspicious first: label, and prediction when held out"
    return [
        Picture("suspects", title, found.suspects_picture),
        Table("suspects", "Suspicious labels", columns, rows, note),
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
    columns = ["training images", "left out", "accuracy with all, %", "gain without suspects",
               "gain without as many random ones"]  # fmt: skip
    whole = by_size[-1]
    note = (
        "Held-out accuracy of ridge heads on the features of the selected source before "
        "fine-tuning, in the same folds; gains in points with 95 % intervals over "
        f"{len(whole.every):,} images. The suspects of a fold are found among its training images "
        "alone. Held-out images keep their labels, including wrong ones."
    )
    mean, half = whole.gain
    words = f"Without the {whole.removed} most suspicious of {whole.num_images:,} training images"
    words += (
        f", a ridge head gains {mean:.1f} ± {half:.1f} points. Check these images, correct wrong "
        "labels, and run the same command again."
        if mean - half > 0
        else ", a ridge head does not gain measurably. Correct wrong labels, and keep the rest."
    )
    return [Text(words), Table("cleaning", "Without the suspects", columns, rows, note)]
