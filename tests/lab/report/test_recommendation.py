"""Recommendations checked on data with a known truth."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rtl_jax.lab.report.comparison import compare
from rtl_jax.lab.report.elements import Figure, Table, Text
from rtl_jax.lab.report.learning_curve import fit
from rtl_jax.lab.report.recommendation import recommendations
from rtl_jax.lab.report.runs import finetunings
from tests.lab.report.rows import L2, NATURAL, cell, frame

SIZES = (100, 200, 400, 800)


def seeds(*values: float) -> pd.Series:
    return pd.Series(values, range(len(values)), dtype=float)


# ---- Comparisons ---------------------------------------------------------------------------------


def test_a_difference_is_paired_over_seeds():
    """Seeds differ by ten points, sources by one, which is significant only in paired results."""
    natural = seeds(50, 60, 70, 80, 90)
    found = compare({"natural": natural, "robust": natural + seeds(0.9, 1.0, 1.1, 1.0, 1.0)})
    assert found is not None and found.best == "robust" and found.sure
    (difference,) = found.rivals.values()
    error = np.std([0.9, 1.0, 1.1, 1.0, 1.0], ddof=1) / np.sqrt(5)
    assert difference.ahead == pytest.approx(1.0)
    assert difference.half == pytest.approx(stats.t.ppf(0.975, 4) * error)
    assert (
        found.sentence("natural")
        == "robust beats natural by 1.0 ± 0.1 points, 5 seeds (significant)"
    )


def test_what_is_not_sure_is_said():
    found = compare({"a": seeds(50, 60, 70), "b": seeds(51, 58, 72)})
    assert found is not None and not found.sure
    assert found.sentence("a").startswith("b leads a by 0.3 ± ")
    assert found.sentence("a").endswith("3 seeds (inconclusive)")


def test_only_seeds_in_common_count():
    one, other = pd.Series({1: 50.0, 2: 60.0, 3: 0.0}), pd.Series({1: 51.0, 2: 61.5, 9: 99.0})
    found = compare({"one": one, "other": other})
    assert found is not None
    assert found.rivals["one"].seeds == 2 and found.rivals["one"].ahead == pytest.approx(1.25)
    lonely = compare({"one": one, "other": pd.Series({9: 99.0})})
    assert lonely is not None and not lonely.sure and lonely.rivals["one"].seeds == 0
    assert "inconclusive, with no seed in common" in lonely.sentence("one")


def test_a_mean_of_easier_seeds_is_no_lead():
    found = compare({"one": seeds(50, 52, 80), "other": seeds(53, 54)})
    assert found is not None and found.best == "one" and not found.sure
    assert found.sentence("other").startswith(
        "one has a higher mean than other, which leads by 2.5"
    )
    assert found.sentence("other").endswith("points on the 2 seeds in common (inconclusive)")


def test_nothing_to_compare():
    assert compare({"a": seeds(1, 2)}) is None
    assert compare({"a": seeds(1, 2), "b": seeds()}) is None


def test_the_luckiest_of_equals_is_rarely_sure_to_beat_a_given_one():
    """The best of nine equal options is best by chance, for which the intervals allow."""
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        values = generator.normal(size=(9, 6))
        found = compare({str(index): seeds(*row) for index, row in enumerate(values)})
        assert found is not None
        wrong += found.best != "0" and found.rivals["0"].sure
    assert wrong / 400 <= 0.05  # 0.08 if the intervals are not widened


# ---- Learning curves -----------------------------------------------------------------------------


def power_law(generator: np.random.Generator, number: int, spread: float) -> dict[int, pd.Series]:
    """Draw accuracies with error 300 n^-0.5, each seed with its own factor and noise."""
    factors = np.exp(spread * generator.normal(size=number))
    return {
        size: seeds(*(100 - 300 * size**-0.5 * factors * np.exp(
            spread * generator.normal(size=number))))
        for size in SIZES
    }  # fmt: skip


def test_an_exact_power_law_is_found_again():
    curve = fit(power_law(np.random.default_rng(0), 3, 0.0))
    assert curve is not None and curve.size == 800
    assert curve.exponent == pytest.approx(0.5)
    assert curve.gain == pytest.approx(300 * (800**-0.5 - 1600**-0.5))
    assert curve.half == pytest.approx(0, abs=1e-6)
    assert [point.x for point in curve.points] == [*SIZES, 1600]


@pytest.mark.parametrize("number", [3, 10])
def test_the_interval_holds_the_truth(number: int):
    """In 300 simulated studies. The coverage exceeds 95 %, since noise counts twice, in the seeds'
    curves and in the residuals of their mean. The intervals are at most three times as wide as
    those from seeds alone.
    """
    generator = np.random.default_rng(1)
    spread, truth = 0.05, 300 * (800**-0.5 - 1600**-0.5)
    noise = np.exp(spread**2)  # the mean of the factors
    curves = [fit(power_law(generator, number, spread)) for _ in range(300)]
    gains = np.array([curve.gain for curve in curves if curve])
    halves = np.array([curve.half for curve in curves if curve])
    inside = np.abs(gains - noise * truth) <= halves
    assert len(gains) == 300 and inside.mean() >= 0.95
    assert np.median(halves) < 3 * stats.t.ppf(0.975, number - 1) * gains.std()


def test_a_crooked_curve_is_not_trusted():
    """Noise-free errors that stop decreasing: seeds agree, but the power law does not hold."""
    values = {size: seeds(50, 50, 50) - 100 * np.exp(-size / 150) for size in SIZES}
    curve = fit(values)
    assert curve is not None and curve.gain > 5
    assert curve.gain - curve.half < 100 * (np.exp(-800 / 150) - np.exp(-1600 / 150))


@pytest.mark.parametrize(
    "values",
    [
        {100: seeds(50, 51), 200: seeds(60, 61)},
        {100: seeds(50), 200: seeds(60), 400: seeds(70)},
        {100: seeds(50, 51), 200: seeds(60, 61), 400: pd.Series({7: 70.0, 8: 71.0})},
        {size: seeds(100, 100) for size in SIZES},
    ],
)
def test_what_cannot_be_fitted(values: dict[int, pd.Series]):
    assert fit(values) is None


def test_an_error_of_zero_is_no_infinity():
    values = {100: seeds(90, 91), 200: seeds(99, 98), 400: seeds(100, 99)}
    curve = fit(values)
    assert curve is not None and np.isfinite([curve.gain, curve.half]).all()


def test_only_the_last_sizes_are_fitted():
    """A law that holds only for large sizes is found, since smaller sizes are excluded."""
    late = power_law(np.random.default_rng(0), 3, 0.0)
    curve = fit({10: seeds(1, 1, 1), 50: seeds(2, 2, 2), **late})
    assert curve is not None and curve.exponent == pytest.approx(0.5)


# ---- The chapter ---------------------------------------------------------------------------------


def study() -> pd.DataFrame:
    """Make a study: L2 is 5 points better than natural, 3 blocks 10 than none; errors n^-0.5."""
    groups = []
    for (source, ahead), (blocks, better), size in itertools.product(
        ((NATURAL, 0), (L2, 5)), ((0, 0), (3, 10)), SIZES
    ):
        best = 100 - 300 * size**-0.5
        mean = best + (ahead - 5) + (better - 10)
        groups.append(cell([mean - 1, mean, mean + 1], source=source, blocks=blocks, size=size))
    return frame(*groups)


def test_a_recommendation():
    text, table, figure = recommendations(finetunings(study()))
    assert isinstance(text, Text) and isinstance(table, Table) and isinstance(figure, Figure)
    accuracy = 100 - 300 * 800**-0.5
    half = stats.t.ppf(0.975, 2) / np.sqrt(3)
    assert text.text.startswith(
        f"SVHN, 800 images: take L2 eps=3 and train 3 blocks ({accuracy:.2f} ± {half:.2f} % over 3 "
        "seeds). L2 eps=3 beats natural by 5.0 ± 0.0 points, 3 seeds (significant). "
        "3 blocks trained beats 0 blocks trained by 10.0 ± 0.0 points, 3 seeds (significant). "
    )
    assert "On 100 images, 3 blocks trained: L2 eps=3 beats natural by 5.0" in text.text
    assert "Twice the labels (1,600 images) would gain +3.1" in text.text
    assert [row[0].text for row in table.rows] == ["100", "200", "400", "800"]
    assert all(row[2].text == "L2 eps=3" and row[3].text == "3 blocks" for row in table.rows)
    measured, law = figure.charts[0].series
    assert len(measured.points) == 4 and law.points[-1].x == 1600


def test_one_seed_makes_nothing_sure():
    rows = frame(cell([50], source=NATURAL), cell([60], source=L2))
    text, table = recommendations(finetunings(rows))
    assert isinstance(text, Text) and isinstance(table, Table)
    assert "inconclusive, with 1 seed in common" in text.text
    assert "cannot be estimated" in text.text
    assert table.rows[0][7].text == "no"


def test_a_whole_data_set_with_one_seed_does_not_decide():
    rows = frame(cell([50, 51, 52], size=100), cell([99], size=73257))
    text, table = recommendations(finetunings(rows))
    assert isinstance(text, Text) and isinstance(table, Table)
    assert text.text.startswith("SVHN, 100 images: take natural") and len(table.rows) == 2


def test_the_best_of_what_a_sweep_varies_is_recommended():
    """Two rates and two heads with a known truth; other cells are not mixed with them."""
    groups = [
        cell([mean - 1, mean, mean + 1], source=source, blocks=1, size=400,
             settings={"learning_rate": rate, "head_fit": head})
        for source, ahead in ((NATURAL, 0), (L2, 5))
        for rate, faster in ((0.03, 0), (0.1, -2))
        for head, better in (("sgd", 0), ("logistic", 4))
        for mean in [60 + ahead + faster + better]
    ]  # fmt: skip
    found = finetunings(frame(*groups))
    assert len(found.targets) == 4  # a chart's line is of one of each
    text, table = recommendations(found)
    assert isinstance(text, Text) and isinstance(table, Table)
    assert text.text.startswith(
        "SVHN, 400 images: take L2 eps=3 and train 1 block with head_fit=logistic, "
        "learning_rate=0.03 (69.00"
    )
    assert "L2 eps=3 beats natural by 5.0 ± 0.0 points, 3 seeds (significant)." in text.text
    assert (
        "head_fit=logistic, learning_rate=0.03 leads head_fit=logistic, learning_rate=0.1"
        not in text.text
    )
    assert (
        "head_fit=logistic, learning_rate=0.03 beats head_fit=logistic, learning_rate=0.1 by 2.0"
        in text.text
    )
    (row,) = table.rows
    shown = dict(zip(table.columns, (one.text for one in row), strict=True))
    assert (shown["head_fit"], shown["learning_rate"]) == ("logistic", "0.03")
    assert shown["next settings"] == "head_fit=logistic, learning_rate=0.1"
    assert (shown["settings margin"], shown["settings significant"])[1] == "yes"


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("weight_decay", (0.0, 5e-4)),
        ("eps", (0.25, 0.5)),
        ("beta", (1.0, 6.0)),
    ],
)
def test_every_number_that_a_sweep_varies_is_an_axis(axis: str, values: tuple[float, float]):
    settings = {"perturbation": "pgd"}
    groups = [
        cell([50 + index, 51 + index], settings={**settings, axis: value})
        for index, value in enumerate(values)
    ]
    text, table = recommendations(finetunings(frame(*groups)))
    assert isinstance(text, Text) and isinstance(table, Table)
    assert f"with {axis}={values[1]:g} (" in text.text
    assert [row[list(table.columns).index(axis)].text for row in table.rows] == [f"{values[1]:g}"]


def test_settings_that_are_no_axis_stay_apart():
    """Such runs are of another kind, and each kind has its own recommendation."""
    groups = [
        cell([50 + rate, 51 + rate], settings={"learning_rate": rate, "momentum": momentum})
        for rate in (0.1, 0.2)
        for momentum in (0.0, 0.9)
    ]
    texts = [one for one in recommendations(finetunings(frame(*groups))) if isinstance(one, Text)]
    assert len(texts) == 2
    for one, momentum in zip(texts, (0.0, 0.9), strict=True):
        assert one.text.startswith(f"SVHN, transfer.momentum={momentum}, 100 images: take natural")
        assert "with learning_rate=0.2 (" in one.text
