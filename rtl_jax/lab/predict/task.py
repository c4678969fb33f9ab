"""The task `predict`: writes a row of predictions for each picture."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from etils import epath

from rtl_jax.errors import Incomplete, UserError
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.predict.explain import Explainer
from rtl_jax.lab.predict.guaranteed import Guaranteed
from rtl_jax.lab.predict.inputs import DecodedFiles, decoded, look_through, paths
from rtl_jax.lab.predict.output import ENDINGS, Pieces, schema
from rtl_jax.lab.predict.predictor import Predictor
from rtl_jax.lab.predict.table import counted
from rtl_jax.runtime.digest import digest, image_digests
from rtl_jax.runtime.paths import absolute, printable
from rtl_jax.runtime.progress import bar


def run_predict(experiment: Experiment, workdir: epath.PathLike) -> pd.DataFrame:
    """Predict the classes of all pictures in `predict.images`; write them to `predict.output`.

    Pictures are processed batch by batch, so memory does not grow with their number, and rows are
    saved piece by piece under WORKDIR, where the same command resumes. Returns one row: output,
    pictures, seconds. Raises UserError for user-fixable errors and, after everything is written,
    Incomplete if pictures were broken.
    """
    started, settings, workdir = time.monotonic(), experiment.predict, absolute(workdir)
    output = Path(settings.output or workdir / "predictions.csv").expanduser().absolute()
    if output.suffix not in ENDINGS:
        raise UserError(f"predict.output: expected a .csv or .parquet file, received {output}")
    number, listing = look_through(settings.images)
    predictor = Predictor.load(experiment)
    print(f"{counted(number)} at {predictor.image_size} px; {predictor.describe()}")
    guaranteed = Guaranteed.of(predictor, settings)
    if guaranteed:
        print(guaranteed.describe())
    elif settings.coverage is not None or settings.outliers:
        print(
            "no prediction sets and no p-values: the network keeps no scores of held-out images "
            "(rtl_jax.conformalize)"
        )
    explainer = None
    if settings.explain:
        explainer = Explainer.load(experiment, predictor, workdir)
    seen: Counter[str] = Counter()
    top = min(settings.top, len(predictor.class_names))
    shown = explainer.number if explainer else 0
    pieces = Pieces(
        Path(workdir) / "predicting" / _identity(predictor, listing, top, explainer, guaranteed),
        schema(top, shown, guaranteed),
    )
    resumed = pieces.done > 0
    with bar("predicting", number, done=min(pieces.done, number), leave=True) as progress:
        files = itertools.islice(paths(settings.images), pieces.done, None)
        batches = decoded(files, predictor.image_size, predictor.batch_size)
        predicted = partial(_predicted, predictor, guaranteed, explainer, top)
        pieces.write(_rows(predictor, predicted, batches, seen, progress.update))
    if seen["training images"]:
        looked_at = "images predicted now" if resumed else "images"
        print(
            f"{seen['training images']:,} of the {looked_at} are training images of this network: "
            "its accuracy on them is not informative"
        )
    broken = pieces.join(output)
    if broken:
        raise Incomplete(
            f"{broken:,} of {number:,} images could not be read: their rows in {output} say why; "
            "all others are predicted"
        )
    seconds = time.monotonic() - started
    return pd.DataFrame([{"output": str(output), "pictures": number, "seconds": seconds}])


def _identity(
    predictor: Predictor,
    listing: str,
    top: int,
    explainer: Explainer | None,
    guaranteed: Guaranteed | None,
) -> str:
    """Return 16 hex digits of all that rows depend on: any changed picture starts over."""
    network = predictor.network
    known = {
        "files": listing,
        "top": top,
        "explain": explainer.number if explainer else 0,
        "size": predictor.image_size,
        "temperature": network.temperature,
        "names": list(predictor.class_names),
        "guarantees": guaranteed.asked if guaranteed else None,
    }
    if explainer:
        known["method"] = explainer.method
    return digest((network.params, network.batch_stats), known)[:16]


def _rows(
    predictor: Predictor,
    predicted: Callable[[np.ndarray], list[dict[str, Any]]],
    batches: Iterator[DecodedFiles],
    seen: Counter[str],
    progress: Any,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each file, in order; `seen` counts training images."""
    known = predictor.network.training_images
    for batch in batches:
        good = [pixels for pixels in batch.pixels if not isinstance(pixels, str)]
        if known:
            seen["training images"] += sum(one in known for one in image_digests(good))
        found = iter(predicted(np.stack(good)) if good else ())
        for file, pixels in zip(batch.files, batch.pixels, strict=True):
            row = {"error": pixels} if isinstance(pixels, str) else next(found)
            yield {"file": printable(file), **row}
        progress(len(batch.files))


def _predicted(
    predictor: Predictor,
    guaranteed: Guaranteed | None,
    explainer: Explainer | None,
    top: int,
    images: np.ndarray,
) -> list[dict[str, Any]]:
    """Return the columns of decoded images, uint8 [N, S, S, 3]."""
    seen = predictor.seen(images, guaranteed.split if guaranteed else None)
    probabilities = predictor.probabilities(seen.features)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    rows: list[dict[str, Any]] = [
        {
            key: value
            for rank, label in enumerate(labels, start=1)
            for key, value in (
                (f"class_{rank}", predictor.class_names[label]),
                (f"probability_{rank}", float(each[label])),
            )
        }
        for each, labels in zip(probabilities, best, strict=True)
    ]
    if guaranteed:
        more = guaranteed.rows(seen, probabilities)
        rows = [row | each for row, each in zip(rows, more, strict=True)]
    if explainer:
        reasons = explainer.rows(seen.features, best[:, 0])
        rows = [row | reason for row, reason in zip(rows, reasons, strict=True)]
    return rows
