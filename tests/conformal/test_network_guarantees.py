"""Networks that store results on held-out images: all interfaces give the same prediction sets."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import rtl_jax as rtl
from rtl_jax.conformal import Conformal, Guarantees, Neighbours, Score, energy
from rtl_jax.conformal.draws import uniforms_of
from rtl_jax.errors import UserError
from rtl_jax.lab.config import Experiment, Predict, Source
from rtl_jax.lab.predict.output import read
from rtl_jax.lab.predict.task import run_predict
from rtl_jax.models.architecture import architecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network

pytestmark = pytest.mark.slow

NAMES = ["=ant", "bee | wasp", "cat", "dog"]
ARCH = architecture("resnet18", stem="small", stage_sizes=(1, 1), stage_widths=(4, 8)).replace(
    stem_width=4, num_classes=4
)
DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (60, 12, 12, 3), dtype=np.uint8)
LABELS = DRAW.integers(0, 4, 60)


@pytest.fixture(scope="module")
def bare() -> Network:
    variables = jax.tree.map(np.asarray, initialize(ARCH, jax.random.key(0)))
    return Network(ARCH, *variables, {"class_names": NAMES, "image_size": 12})


@pytest.fixture(scope="module")
def network(bare: Network) -> Network:
    """A network with features at the split point before its last block, as if that was trained."""
    kept = rtl.conformalize(bare, IMAGES[:40], np.array(NAMES)[LABELS[:40]], score="aps").guarantees
    assert kept is not None
    near = Neighbours.of(bare.features_at(IMAGES[:40], 1)[1], 3)
    changed = dataclasses.replace(kept, neighbours=near, split=1)
    return bare.replace(provenance={**bare.provenance, "guarantees": changed.to_dict()})


def test_it_is_split_conformal_prediction(bare: Network) -> None:
    network = rtl.conformalize(bare, IMAGES[:40], np.array(NAMES)[LABELS[:40]], score="raps")
    probabilities, uniforms = bare.predict_proba(IMAGES), uniforms_of(IMAGES)
    assert ((uniforms >= 0) & (uniforms < 1)).all() and len(set(uniforms)) == 60
    held_out = Conformal.fit(probabilities[:40], LABELS[:40], Score("raps"), uniforms[:40])
    for by_class in (False, True):
        found = network.predict_sets(IMAGES[40:], coverage=0.6, by_class=by_class)
        expected = held_out.sets(
            probabilities[40:], 0.6, by_class=by_class, uniforms=uniforms[40:], nonempty=True
        )
        np.testing.assert_array_equal(found, expected)
    features = bare.features(IMAGES)
    found = network.outlier_p_values(IMAGES[40:])
    near = Neighbours.of(features[:40]).p_values(features[40:])
    np.testing.assert_allclose(found["distance"], near)
    energies = energy(bare.logits(features))
    ranks = [1 + (energies[:40] >= one).sum() for one in energies[40:]]
    np.testing.assert_allclose(found["energy"], np.divide(ranks, 41))


def test_features_at_a_split_point(bare: Network) -> None:
    head, averaged = bare.features_at(IMAGES[:5], 1, batch_size=3)
    np.testing.assert_allclose(head, bare.features(IMAGES[:5]), atol=1e-5)
    whole = bare.features_fn(1)(IMAGES[:5].astype(np.float32) / 255)
    np.testing.assert_allclose(averaged, np.asarray(whole).mean((1, 2)), atol=1e-5)


def test_what_is_kept_is_found_again(network: Network, tmp_path: Path) -> None:
    network.save(tmp_path / "net")
    found = Network.load(tmp_path / "net")
    np.testing.assert_array_equal(found.predict_sets(IMAGES), network.predict_sets(IMAGES))
    for name, values in network.outlier_p_values(IMAGES).items():
        np.testing.assert_array_equal(found.outlier_p_values(IMAGES)[name], values)
    assert isinstance(found.guarantees, Guarantees) and found.guarantees.images == 40


def test_a_network_that_keeps_nothing_says_so(bare: Network) -> None:
    assert bare.guarantees is None
    for call in (bare.predict_sets, bare.outlier_p_values):
        with pytest.raises(UserError, match="keeps no scores of held-out images"):
            call(IMAGES[:1])
    with pytest.raises(UserError, match="one of 'lac'"):
        rtl.conformalize(bare, IMAGES, np.array(NAMES)[LABELS], score="thr")


def test_predictions_without_sets_say_so(
    bare: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare.save(tmp_path / "net")
    Image.fromarray(IMAGES[0]).save(tmp_path / "new.png")
    for settings, said in (({"coverage": 0.95}, True), ({"coverage": None}, False)):
        asked = Predict(images=str(tmp_path / "new.png"), outliers=False, **settings)
        source = Source(str(tmp_path / "net"))
        run_predict(Experiment(task="predict", source=source, predict=asked), tmp_path)
        assert ("no prediction sets and no p-values" in capsys.readouterr().out) == said


@pytest.mark.parametrize(
    ("settings", "columns"),
    [
        ({}, ["prediction_set", "set_size", "outlier_p_distance", "outlier_p_energy"]),
        ({"coverage": None}, ["outlier_p_distance", "outlier_p_energy"]),
        ({"outliers": False, "coverage": 0.6}, ["prediction_set", "set_size"]),
        ({"outliers": False, "coverage": None}, []),
    ],
)
def test_predictions_have_columns(
    network: Network, tmp_path: Path, settings: dict, columns: list[str]
) -> None:
    network.save(tmp_path / "net")
    new = IMAGES[40:47]
    (tmp_path / "new").mkdir()
    for index, pixels in enumerate(new):
        Image.fromarray(pixels).save(tmp_path / "new" / f"{index}.png")
    asked = Predict(images=str(tmp_path / "new"), batch_size=3, top=1, **settings)
    run_predict(
        Experiment(task="predict", source=Source(str(tmp_path / "net")), predict=asked), tmp_path
    )
    table = read(tmp_path / "predictions.csv")
    assert list(table.columns) == ["file", "error", "class_1", "probability_1", *columns]
    if "prediction_set" in columns:
        sets = network.predict_sets(new, coverage=asked.coverage or 0)
        assert table["set_size"].tolist() == sets.sum(1).tolist()
        shown = [name if name != NAMES[1] else '"bee | wasp"' for name in NAMES]
        order = np.argsort(-network.predict_proba(new), axis=1)
        for text, inside, ranked in zip(table["prediction_set"], sets, order, strict=True):
            assert text == " | ".join(shown[label] for label in ranked if inside[label])
    if "outlier_p_energy" in columns:
        for name, values in network.outlier_p_values(new).items():
            # Batches of another size differ by roundings, which may turn one comparison.
            np.testing.assert_allclose(table[f"outlier_p_{name}"], values, atol=1.01 / 41)
    assert not pd.isna(table["class_1"]).any()
