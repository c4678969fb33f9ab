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
        Section("How good it is", _answer(found)),
        Section("Your pictures", _survey(found)),
        Section("What was compared", _comparison(found)),
        Section("Where it is right and wrong", _classes(found)),
        Section("The most confidently wrong", _wrong(found)),
        Section("Labels to look at", describe_labels(found)),
        Section("What more labels would bring", _curve(found)),
        Section("What the probabilities are worth", _calibration(found)),
        Section("Sets that hold the true class", describe_sets(found.sets)),
    ]
    if found.robustness is not None:
        sections.append(Section("How robust it is", _robustness(found)))
    return Report(
        f"A network for {found.survey.path.name}",
        f"{found.chosen.name}, fine-tuned on {found.size:,} pictures of {len(found.class_names)} "
        f"classes at {found.settings.target.image_size} px. Accuracy on pictures it has not seen: "
        f"{found.accuracy}; {found.held_out.reference()}."
        + (f" {found.verdict}" if found.verdict else ""),
        sections,
    )


def _answer(found: Findings) -> list[Element]:
    folds = len(np.unique(found.chosen.folds))
    held_out = found.held_out
    words = [found.verdict] if found.verdict else []
    words += [
        f"Expect {found.accuracy} of new pictures of the same kind, in the same proportions, to be "
        f"named rightly; always naming the largest class, {held_out.largest}, would score "
        f"{held_out.largest_share:.1f} %.",
        f"Measured were {held_out.accuracy}, and {held_out.balanced} as the mean over classes "
        f"(balanced accuracy, {100 / held_out.classes:.1f} % by guessing): every picture was held "
        f"out once, in one of {folds} folds, and the choice among the {len(found.candidates)} "
        "candidates (of source, blocks, head, rate and epochs) was repeated for each fold without "
        "it, so that it does not flatter. These "
        "intervals (Wilson's, and for the mean exact ones of the classes put together) are of the "
        "number of pictures.",
    ]
    if found.curve is not None:
        words.append(
            f"The networks measured were trained on {found.curve.size:,} pictures and the final "
            f"one on {found.size:,}; what that brings is read off the learning curve below, and "
            "its uncertainty is in the first interval."
        )
    tested = found.tested
    if tested is not None:
        words.append(
            f"On the {tested.accuracy.images:,} pictures of test/, of which none was trained on or "
            f"compared with, the final network reaches {tested.accuracy}; {tested.reference()}."
        )
        if unseen := tested.verdict():
            words.append(f"On these: {unseen}")
    series = (
        "New pictures of another camera, place or time are another kind, and pictures in series "
        "(several of one scene) make the accuracy look better than it is: then divide them into "
        "train/ and test/ yourself."
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
    columns = ["class", "pictures"] + (["in test/"] if survey.divided else [])
    elements: list[Element] = [
        Text(f"{len(survey.pictures):,} pictures were looked at; {'; '.join(survey.remarks())}."),
        Table("classes", "Pictures used", columns, rows),
    ]
    left_out = [
        [cells.text(found.short(one.file)), cells.text(one.problem)] for one in survey.left_out
    ]
    left_out += [
        [cells.text(found.short(file)), cells.text("no picture")] for file in survey.others
    ]
    if left_out:
        elements.append(Table("left_out", "Left out", ["file", "why"], left_out))
    return elements


def _comparison(found: Findings) -> list[Element]:
    best = max(found.candidates, key=lambda each: each.balanced_accuracy)
    shown = best_of_kinds(found.candidates)
    rows = [_candidate(each, found.chosen, each is best) for each in shown]
    note = (
        "Held-out accuracy in percent, mean over folds with its 95 % interval by Student's t, and "
        "balanced accuracy, the mean over classes, with that of the number of pictures; "
        "differences are of balanced accuracy, paired by fold. Each line is the best of its rates "
        f"and epochs, {len(found.candidates)} candidates in all, which flatters it; the accuracy "
        "at the head of the page is free of that. Chosen is the simplest source and number of "
        "blocks (fewest blocks, then the source named first) with a candidate at most "
        f"{found.settings.my_images.margin:g} points of balanced accuracy behind the best, and of "
        "these its best head, rate and epochs. Always "
        f"naming the largest class, {found.held_out.largest}, would score "
        f"{found.held_out.largest_share:.1f} % in accuracy and {100 / found.held_out.classes:.1f} "
        "% in balanced accuracy."
    )
    columns = [
        "source", "blocks trained", "trained by", "accuracy, %", "balanced accuracy, %",
        "95 % interval", "behind the chosen", "",
    ]  # fmt: skip
    return [
        Text(_choice(found, best)),
        Table("candidates", "Candidates", columns, rows, note),
    ]


def _choice(found: Findings, best: HeldOut) -> str:
    """Say what was chosen, and why."""
    chosen = found.chosen
    alike = sum(group(each) == group(chosen) for each in found.candidates)
    words = (
        f"{chosen.name} was chosen, with a balanced accuracy of {chosen.balanced_accuracy:.1f} %: "
        f"the best of {alike} candidates with this source and number of blocks"
    )
    if best is chosen:
        return f"{words}, and of all {len(found.candidates)}."
    return (
        f"{words}. {best.name} has {best.balanced_accuracy:.1f} %, which is within the margin of "
        f"{found.settings.my_images.margin:g} points, and is less simple."
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
        cells.text("chosen" if mine else ""),
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
    columns = ["class", "pictures", "accuracy, %", "95 % interval", "most often taken for"]
    note = f"Of held-out pictures, by {chosen.name}."
    elements: list[Element] = [Table("by_class", "Accuracy per class", columns, rows, note)]
    if len(names) > _MATRIX:
        return [*elements, Text("There are too many classes for a confusion matrix.")]
    matrix = [
        [cells.text(name), *(cells.count(int(count)) for count in counts_CC[label])]
        for label, name in enumerate(names)
    ]
    note = "Rows: what the folder says; columns: what the network says, of held-out pictures."
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
        return [Text("No held-out picture is named wrongly.")]
    columns = ["file", "label", "named", "probability, %"]
    title = "Held-out pictures named wrongly, the surest first"
    return [
        Picture("wrong", title, picture),
        Table("wrong", "Named wrongly", columns, rows, "Held out; the surest first."),
    ]


def _curve(found: Findings) -> list[Element]:
    curve = found.curve
    if curve is None:
        return [
            Text(
                "It cannot be said: a curve takes errors at three sizes of the training set that "
                "each hold every class."
            )
        ]
    measured, beyond = curve.points[:-1], curve.points[-2:]
    sizes = [int(point.x) for point in curve.points]
    sure = curve.half < abs(curve.gain)
    words = (
        f"From {curve.size:,} training pictures to {2 * curve.size:,}, accuracy would rise by "
        f"{curve.gain:.1f} ± {curve.half:.1f} points, if the trend continues"
    )
    chart = Chart(
        "learning_curve", "Held-out accuracy", "training pictures", "accuracy, %",
        [Series("fitted", measured), Series("beyond", beyond, dashed=True)],
        logarithmic=True, ticks=sizes, labels=[f"{size:,}" for size in sizes],
    )  # fmt: skip
    note = "A power law, error = a n^-b, through these sizes, with its 95 % interval."
    return [
        Text(f"{words}." if sure else f"{words}: too uncertain to count on."),
        Figure("learning_curve", "Learning curve", [chart], note),
    ]


def _calibration(found: Findings) -> list[Element]:
    one = found.calibration
    return [
        Text(
            f"Logits are divided by a temperature of {one.temperature:.3f}, fitted on the held-out "
            "folds. The expected calibration error (ten bins of equal width) is "
            f"{one.before:.1f} % without it and {one.after:.1f} % with it, each fold at the "
            "temperature of the others."
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
        f"Held-out pictures, each attacked in {found.settings.attack.norm} with the network that "
        "trained without its fold; pixels are in [0, 1]. A stronger attack may find more. Always "
        f"naming the largest class would score {found.held_out.largest_share:.1f} %."
    )
    columns = ["eps", "accuracy, %", "95 % interval"]
    curve = Chart(
        "robustness", f"Under attack, {found.settings.attack.norm}", "eps", "accuracy, %",
        [Series("accuracy", [Point(eps, one.percent) for eps, one in known.items()])],
    )  # fmt: skip
    return [Figure("robustness", "Robustness", [curve]),
            Table("robustness", "Robust accuracy", columns, rows, note)]  # fmt: skip
