"""The page of `my_images`: the findings, for someone who will use the network."""

import numpy as np

from rtl_jax.lab.my_images.accuracy import Accuracy
from rtl_jax.lab.my_images.choice import best_of_kinds, group
from rtl_jax.lab.my_images.findings import Findings
from rtl_jax.lab.my_images.held_out import HeldOut, confidently_wrong, confusion
from rtl_jax.lab.my_images.page_of_labels import describe_labels
from rtl_jax.lab.my_images.page_of_sets import describe_sets
from rtl_jax.lab.report import cells
from rtl_jax.lab.report.elements import (
    Chart,
    Element,
    Figure,
    Picture,
    Point,
    Report,
    Section,
    Series,
    Table,
    TableCell,
    Text,
)
from rtl_jax.lab.statistics import mean_interval, paired_difference

_MATRIX = 30  # classes; a larger matrix is unreadable
_WRONG = 30  # rows in the table


def compose(found: Findings) -> Report:
    """Compose the whole page."""
    sections = [
        Section("Accuracy", _answer(found)),
        Section("Your images", _survey(found)),
        Section("Candidates", _comparison(found)),
        Section("Accuracy by class", _classes(found)),
        Section("Most confident errors", _wrong(found)),
        Section("Suspicious labels", describe_labels(found)),
        Section("Learning curve", _curve(found)),
        Section("Calibration", _calibration(found)),
        Section("Prediction sets", describe_sets(found.sets)),
    ]
    if found.robustness is not None:
        sections.append(Section("Robustness", _robustness(found)))
    return Report(
        f"A network for {found.survey.path.name}",
        f"{found.chosen.name}, fine-tuned on {found.size:,} images of {len(found.class_names)} "
        f"classes at {found.settings.target.image_size} px. Accuracy on unseen images: "
        f"{found.accuracy}; {found.held_out.reference()}."
        + (f" {found.verdict}" if found.verdict else ""),
        sections,
    )


def _answer(found: Findings) -> list[Element]:
    folds = len(np.unique(found.chosen.folds))
    held_out = found.held_out
    words = [found.verdict] if found.verdict else []
    words += [
        f"Expect an accuracy of {found.accuracy} on new images of the same kind, in the same "
        f"proportions; always predicting the largest class, {held_out.largest}, would score "
        f"{held_out.largest_share:.1f} %.",
        f"The measured accuracy is {held_out.accuracy}, and the balanced accuracy, the mean over "
        f"classes, {held_out.balanced}; guessing would give {100 / held_out.classes:.1f} %. Every "
        f"image was held out once, in one of {folds} folds, and the selection among the "
        f"{len(found.candidates)} candidates (of source, blocks, head, rate and epochs) was "
        "repeated for each fold without that fold's results, which removes most of the selection's "
        "bias. With few images and many candidates it is still a little too high. The intervals "
        "(Wilson's; for the balanced accuracy, exact ones of the classes combined) reflect the "
        "number of images, and not that the folds' networks share training images.",
    ]
    if found.curve is not None:
        words.append(
            f"The measured networks were trained on {found.curve.size:,} images and the final one "
            f"on {found.size:,}; the gain from that is read off the learning curve below, and its "
            "uncertainty is part of the first interval."
        )
    tested = found.tested
    if tested is not None:
        words.append(
            f"On the {tested.accuracy.images:,} images in test/, which were used neither for "
            f"training nor for selection, the final network reaches {tested.accuracy}; "
            f"{tested.reference()}."
        )
        if unseen := tested.verdict():
            words.append(f"On these: {unseen}")
    series = (
        "Images from another camera, place or time are not of the same kind. Series (several "
        "images of one scene) make the accuracy look better than it is: split them into train/ "
        "and test/ yourself."
    )
    use = (
        f"The network is {found.network}. To use it: rtl-jax --config predict "
        f"--config.source.checkpoint={found.network} --config.predict.images=FOLDER"
    )
    return [Text(" ".join(words)), Text(series), Text(use)]


def _survey(found: Findings) -> list[Element]:
    survey = found.survey
    tested = survey.counts("test")
    rows = [
        [cells.text(label), cells.count(count)]
        + ([cells.count(tested[label])] if survey.divided else [])
        for label, count in survey.counts().items()
    ]
    columns = ["class", "images"] + (["in test/"] if survey.divided else [])
    elements: list[Element] = [
        Text(f"{len(survey.pictures):,} images were checked; {'; '.join(survey.remarks())}."),
        Table("classes", "Images used", columns, rows),
    ]
    left_out = [
        [cells.text(found.short(one.file)), cells.text(one.problem)] for one in survey.left_out
    ]
    left_out += [
        [cells.text(found.short(file)), cells.text("not an image")] for file in survey.others
    ]
    if left_out:
        elements.append(Table("left_out", "Left out", ["file", "reason"], left_out))
    return elements


def _comparison(found: Findings) -> list[Element]:
    best = max(found.candidates, key=lambda each: each.balanced_accuracy)
    shown = best_of_kinds(found.candidates)
    rows = [_candidate(each, found.chosen, each is best) for each in shown]
    note = (
        "Held-out accuracy in percent, the mean over folds with its 95 % interval by Student's t, "
        "and balanced accuracy, the mean over classes, with its 95 % interval for the number of "
        "images; differences are in balanced accuracy, paired by fold. Each line is the best of "
        f"its rates and epochs, of {len(found.candidates)} candidates in all, and so looks better "
        "than it is; the accuracy at the top of the page does not. The simplest source and number "
        "of blocks (fewest blocks, then the source listed first) with a candidate at most "
        f"{found.settings.my_images.margin:g} points of balanced accuracy behind the best is "
        "selected, with its best head, rate and epochs. Always "
        f"predicting the largest class, {found.held_out.largest}, would score "
        f"{found.held_out.largest_share:.1f} % in accuracy and {100 / found.held_out.classes:.1f} "
        "% in balanced accuracy."
    )
    columns = [
        "source", "blocks trained", "training", "accuracy, %", "balanced accuracy, %",
        "95 % interval", "behind the selected", "",
    ]  # fmt: skip
    return [
        Text(_choice(found, best)),
        Table("candidates", "Candidates", columns, rows, note),
    ]


def _choice(found: Findings, best: HeldOut) -> str:
    """Say what was selected, and why."""
    chosen = found.chosen
    alike = sum(group(each) == group(chosen) for each in found.candidates)
    words = (
        f"{chosen.name} was selected, with a balanced accuracy of {chosen.balanced_accuracy:.1f} "
        f"%: the best of {alike} candidates with this source and number of blocks"
    )
    if best is chosen:
        return f"{words}, and of all {len(found.candidates)}."
    return (
        f"{words}. {best.name} has {best.balanced_accuracy:.1f} %, which is within the margin of "
        f"{found.settings.my_images.margin:g} points, but is less simple."
    )


def _candidate(each: HeldOut, chosen: HeldOut, best: bool) -> list[TableCell]:
    mine = each is chosen
    balanced = Accuracy.balanced(each.hits, each.labels)
    return [
        cells.text(each.source),
        cells.count(each.blocks),
        cells.text(each.candidate.training),
        cells.interval(*mean_interval(each.by_fold)),
        cells.number(balanced.percent, best=best),
        cells.text(f"{balanced.low:.1f} to {balanced.high:.1f}"),
        cells.NOTHING if mine else cells.interval(
            *paired_difference(each.balanced_by_fold, chosen.balanced_by_fold), signed=True
        ),
        cells.text("selected" if mine else ""),
    ]  # fmt: skip


def _classes(found: Findings) -> list[Element]:
    chosen, names = found.chosen, found.class_names
    counts_CC = confusion(chosen, len(names))
    rows = []
    for label, name in enumerate(names):
        row, hits = counts_CC[label], chosen.hits[chosen.labels == label]
        others = np.where(np.arange(len(names)) == label, 0, row)
        accuracy = Accuracy.of(hits)
        taken = int(others.argmax())
        rows.append(
            [
                cells.text(name),
                cells.count(len(hits)),
                cells.number(accuracy.percent, 1),
                cells.text(f"{accuracy.low:.0f} to {accuracy.high:.0f}"),
                cells.text(f"{names[taken]} ({others[taken]})" if others.any() else ""),
            ]
        )
    columns = ["class", "images", "accuracy, %", "95 % interval", "most often confused with"]
    note = f"Held-out images, {chosen.name}."
    elements: list[Element] = [Table("by_class", "Accuracy by class", columns, rows, note)]
    if len(names) > _MATRIX:
        return [*elements, Text("Too many classes for a confusion matrix.")]
    matrix = [
        [cells.text(name), *(cells.count(int(count)) for count in counts_CC[label])]
        for label, name in enumerate(names)
    ]
    note = "Rows: labels; columns: predictions on held-out images."
    return [*elements, Table("confusion", "Confusion matrix", ["", *names], matrix, note)]


def _wrong(found: Findings) -> list[Element]:
    probabilities = found.chosen.probabilities(found.calibration.temperature)
    rows = [
        [
            cells.text(found.short(found.files[image])),
            cells.text(found.class_names[found.chosen.labels[image]]),
            cells.text(found.class_names[probabilities[image].argmax()]),
            cells.number(100 * float(probabilities[image].max()), 1),
        ]
        for image in confidently_wrong(found.chosen, found.calibration.temperature, _WRONG)
    ]
    picture = found.wrong_picture
    if picture is None:
        return [Text("No held-out image is misclassified.")]
    columns = ["file", "label", "predicted", "probability, %"]
    title = "Misclassified held-out images, the most confident first"
    return [
        Picture("wrong", title, picture),
        Table("wrong", "Misclassified", columns, rows, "Held out; the most confident first."),
    ]


def _curve(found: Findings) -> list[Element]:
    curve = found.curve
    if curve is None:
        return [
            Text(
                "There are too few images for a learning curve: it takes errors at three sizes of "
                "the training set, each with every class."
            )
        ]
    measured, beyond = curve.points[:-1], curve.points[-2:]
    sizes = [int(point.x) for point in curve.points]
    sure = curve.half < abs(curve.gain)
    words = (
        f"From {curve.size:,} training images to {2 * curve.size:,}, accuracy would rise by "
        f"{curve.gain:.1f} ± {curve.half:.1f} points if the trend continues"
    )
    chart = Chart(
        "learning_curve", "Held-out accuracy", "training images", "accuracy, %",
        [Series("fitted", measured), Series("extrapolated", beyond, dashed=True)],
        logarithmic=True, ticks=sizes, labels=[f"{size:,}" for size in sizes],
    )  # fmt: skip
    note = "A power law, error = a n^-b, through these sizes, with its 95 % interval."
    return [
        Text(f"{words}." if sure else f"{words}, which is too uncertain to count on."),
        Figure("learning_curve", "Learning curve", [chart], note),
    ]


def _calibration(found: Findings) -> list[Element]:
    one = found.calibration
    return [
        Text(
            f"Logits are divided by a temperature of {one.temperature:.3f}, fitted on the held-out "
            "folds. The expected calibration error (ten bins of equal width) is "
            f"{one.before:.1f} % without it and {one.after:.1f} % with it, each fold with the "
            "temperature fitted on the others."
        )
    ]


def _robustness(found: Findings) -> list[Element]:
    known = found.robustness or {}
    rows = [
        [
            cells.number(eps, 4),
            cells.number(accuracy.percent, 1),
            cells.text(f"{accuracy.low:.1f} to {accuracy.high:.1f}"),
        ]
        for eps, accuracy in known.items()
    ]
    note = (
        f"Held-out images, each attacked in {found.settings.attack.norm} through the network that "
        "was trained without its fold; eps is for pixels in [0, 1]. A stronger attack may find "
        "more. Always predicting the largest class would score "
        f"{found.held_out.largest_share:.1f} %."
    )
    columns = ["eps", "accuracy, %", "95 % interval"]
    curve = Chart(
        "robustness", f"Under attack, {found.settings.attack.norm}", "eps", "accuracy, %",
        [Series("accuracy", [Point(eps, one.percent) for eps, one in known.items()])],
    )  # fmt: skip
    return [Figure("robustness", "Robustness", [curve]),
            Table("robustness", "Robust accuracy", columns, rows, note)]  # fmt: skip
