"""Untrusted network directories: whatever the manifest contains, they are read or rejected."""

import base64
import json
import math
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtl_jax.conformal import Conformal, Guarantees, Neighbours, Score
from rtl_jax.errors import UserError
from rtl_jax.models import manifest as manifests
from rtl_jax.models.architecture import ARCHITECTURES, ResNetArchitecture
from rtl_jax.models.model import variable_shapes
from rtl_jax.models.network import Network
from rtl_jax.runtime import limits

TINY = ResNetArchitecture(
    "tiny", "basic", (1,), (4,), stem_width=4, stem_kernel=3, stem_pool=False, num_classes=3
)
PROVENANCE = {
    "kind": "fine-tuned",
    "run": "0123456789abcdef",
    "source": {"kind": "converted", "source": "a.pt", "sha256": "ab" * 32},
    "settings": {"task": "finetune", "target": {"image_size": 32, "classes": [0, 1, 2]}},
    "image_size": 32,
    "class_names": ["ant", "bee", "cat"],
    "training_images": ["0123456789abcdef", "fedcba9876543210"],
    "calibration": {"temperature": 1.5, "before": 9.0, "after": 2.0, "images": 5},
    "guarantees": Guarantees(
        Conformal(Score("raps"), np.array([0.1, 0.7, 1.3]), np.array([0, 2, 1])),
        np.array([-3.0, -2.0, 1.0]),
        Neighbours.of(np.eye(8, 4) + 1, 2),
        1,
        folds=3,
    ).to_dict(),
}


@pytest.fixture(scope="module")
def network() -> Network:
    draws = np.random.default_rng(0)
    variables = (
        {path: draws.normal(size=leaf.shape).astype(np.float32) for path, leaf in tree.items()}
        for tree in variable_shapes(TINY)
    )
    return Network(TINY, *variables, PROVENANCE)


@pytest.fixture(scope="module")
def saved(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("untrusted") / "net"
    network.save(place)
    return place


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "net"))


def refused(place: Path) -> str:
    """Return the error for a directory that cannot be read."""
    with pytest.raises(UserError) as caught:
        Network.load(place)
    text = str(caught.value)
    assert str(place) in text and len(text) < 700 + len(str(place))
    return text


def with_entry(manifest: Any, path: str, value: Any) -> Any:
    """Copy a manifest with another value at 'provenance.class_names' and the like."""
    changed = json.loads(json.dumps(manifest))
    *groups, last = path.split(".")
    inside = changed
    for group in groups:
        inside = inside[group]
    inside[last] = value
    return changed


HUGE = 10**40
BAD: dict[str, list[Any]] = {
    "architecture.name": [None, 3, "x" * 10_000],
    "architecture.block": [None, ["basic"], {}, "dense"],
    "architecture.stage_sizes": [[10**9], [HUGE], [True], [[1]], {}, [], [1.0], None, [1] * 1500],
    "architecture.stage_widths": [[10**6], [HUGE], [0], ["4"], None],
    "architecture.stem_width": [10**9, -1, True, 4.5, "4"],
    "architecture.stem_kernel": [10**5 + 1, -1, 2, 3.0],
    "architecture.stem_stride": [3, 1.0, []],
    "architecture.stem_pool": [0, "yes", None],
    "architecture.num_classes": [10**9, HUGE, 0, -1, 3.0, True],
    "architecture.inner_factor": [10**6, 0, 1.0],
    "architecture.mean": [[math.nan] * 3, [math.inf] * 3, [0.5, 0.5], ["a"] * 3, 0.5, [HUGE] * 3],
    "architecture.std": [[0, 1, 1], [-1, 1, 1], [math.nan] * 3, [1e-300] * 3, [True] * 3],
    "architecture.activation": [3, ["relu"], "swish"],
    "architecture.bn_eps": [math.nan, -1, "1", True],
    "architecture.family": ["vit", 3, [], {}],
    "provenance.kind": [3, ["fine-tuned"]],
    "provenance.run": [3, {}],
    "provenance.source": [3, ["a"], {"sha256": "../../x"}],
    "provenance.sha256": ["", "no digest", 3],
    "provenance.settings": [
        3,
        [],
        {"target": 3},
        {"target": {"image_size": 10**9}},
        {"a": {"b": {}}},
    ],
    "provenance.image_size": [0, -1, 10**9, "32", 32.0, True, [32]],
    "provenance.class_names": [
        *([], ["ant", "bee"], ["ant", "bee", "bee"], "abc", [1, 2, 3], {"ant": 0}),
        ["ant", "bee", "c" * 10_000],
    ],
    "provenance.training_images": ["0123456789abcdef", [3], ["0123"], ["0123456789ABCDEF"], {}],
    "provenance.calibration": [3, [], {}, {"temperature": 1}],
    "provenance.calibration.temperature": [0, -1, math.nan, math.inf, 1e9, "1", None, True],
    "provenance.calibration.after": [math.nan, -1, "2", None],
    "provenance.guarantees": [3, [], {}, {"score": {}}],
    "provenance.guarantees.score": [None, "raps", {}, {"kind": "lac"}],
    "provenance.guarantees.score.kind": ["thr", ["lac"], None],
    "provenance.guarantees.score.penalty": [-1, math.nan, math.inf, 1e9, "0"],
    "provenance.guarantees.score.free": [-1, 1.5, True, HUGE],
    "provenance.guarantees.score.randomised": [1, None, "yes"],
    "provenance.guarantees.scores": [
        *([], [0.1], [0.1, 0.2, math.nan], [0.1, 0.2, 99], [0.1, 0.2, "a"], 3, None, {}),
        [0.1, 0.2, [0.3]],
    ],
    "provenance.guarantees.labels": [[0, 1, 3], [0, 1, -1], [0, 1, 1.0], [0, 1], "012", [HUGE] * 3],
    "provenance.guarantees.energies": [[0, 1, math.inf], [0, 1, 1e40], [HUGE] * 3, [0], None],
    "provenance.guarantees.folds": [0, -1, 2.0, None, HUGE],
    "provenance.guarantees.neighbours": [3, [], {}],
    "provenance.guarantees.neighbours.split": [-1, 2, None, "1", True],
    "provenance.guarantees.neighbours.k": [0, 8, 2.0, None, HUGE],
    "provenance.guarantees.neighbours.shape": [[8], [8, 4, 1], [2, 16], [10**9, 4], [8, HUGE], 8],
    "provenance.guarantees.neighbours.features": [
        *("", "AAAA", "\u00e9" * 88, "A" * 10**6, None, 3),
        base64.b64encode(np.full(32, np.nan, "<f2").tobytes()).decode(),
        base64.b64encode(np.full(32, 60_000, "<f2").tobytes()).decode(),
    ],
    "digest": [3, "0" * 63, ["0" * 64]],
    "version": [0, -1, True, 1.0, HUGE, math.nan],
}


@pytest.mark.parametrize("entry", BAD)
def test_an_impossible_entry_is_named(saved: Path, entry: str) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    manifests.check(manifest)
    for value in BAD[entry]:
        with pytest.raises(UserError) as caught:
            manifests.check(with_entry(manifest, entry, value))
        assert entry.split(".")[-1] in str(caught.value), value
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "entry", ["architecture.stage_sizes", "provenance.calibration.temperature"]
)
def test_a_refused_network_is_named(copied: Path, entry: str) -> None:
    path = copied / "manifest.json"
    path.write_text(json.dumps(with_entry(json.loads(path.read_text()), entry, [10**9])))
    assert entry.split(".")[-1] in refused(copied)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[" * 100_000, "damaged.*deep|damaged.*lists"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "damaged.*deep"),
        ('{"a":' * 70 + "1" + "}" * 70, "damaged.*deep"),
        ("[" + "[]," * 150_000 + "1]", "damaged.*lists and tables"),
        ('{"version": 1' + "0" * 5000 + "}", "damaged"),
    ],
    ids=["unclosed", "deeper", "deep", "many", "digits"],
)
def test_a_text_that_costs_more_than_it_says(copied: Path, text: str, expected: str) -> None:
    (copied / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=expected):
        Network.load(copied)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "device", "endless", "variables"])
def test_what_has_no_end_is_not_read(copied: Path, kind: str) -> None:
    path = copied / "manifest.json"
    if kind == "variables":
        os.mkfifo(copied / "variables" / "manifest.pipe")
    else:
        path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "endless":
        path.touch()
        os.truncate(path, 2**40)
    assert "regular file" in refused(copied) or kind == "endless"


def test_variables_larger_than_the_manifest_says_are_not_read(
    tmp_path: Path, network: Network
) -> None:
    """Those of a network ten times as wide are rejected before they are in memory."""
    network.save(tmp_path / "small")
    wide = TINY.replace(stage_widths=(40,), stem_width=40)
    variables = ({path: np.zeros(leaf.shape, np.float32) for path, leaf in tree.items()}
                 for tree in variable_shapes(wide))  # fmt: skip
    Network(wide, *variables).save(tmp_path / "wide")
    shutil.rmtree(tmp_path / "small" / "variables")
    shutil.copytree(tmp_path / "wide" / "variables", tmp_path / "small" / "variables")
    assert "expected at most 144" in refused(tmp_path / "small")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameters_are_counted_without_building(name: str) -> None:
    shapes, _ = variable_shapes(ARCHITECTURES[name])
    assert ARCHITECTURES[name].num_parameters == sum(math.prod(x.shape) for x in shapes.values())


def test_the_deepest_published_networks_are_possible() -> None:
    ResNetArchitecture("resnet1202", "basic", (200, 200, 200), (16, 32, 64), stem_width=16)
    ResNetArchitecture("resnet200x4", "bottleneck", (3, 24, 36, 3), (256, 512, 1024, 2048))
    assert max(limits.PARAMETERS, 1) < 2**31


@pytest.mark.parametrize("names", [["a", "b"], ["a", "a", "b"], [0, 1, 2]])
def test_what_could_not_be_read_is_not_written(
    tmp_path: Path, network: Network, names: list
) -> None:
    with pytest.raises(UserError, match=r"net is not written.*class_names"):
        network.replace(provenance={"class_names": names}).save(tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def mutated(value: Any, draw: random.Random) -> Any:
    """Replace, remove or duplicate a part of JSON."""
    if isinstance(value, dict | list) and value and draw.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key: Any = draw.choice(list(keys))
        changed = type(value)(value)
        if draw.random() < 0.1:
            del changed[key]
        else:
            changed[key] = mutated(value[key], draw)
        return changed
    odd = [None, True, 0, -1, 1.5, HUGE, math.nan, -math.inf, "", "x", "\ud800", "\0", [], {}]
    nested = [[[]], {"a": {}}, [value], {"target": value}, [10**9] * 3, "y" * 100_000]
    return draw.choice([*odd, *nested])


def test_whatever_a_manifest_says_it_is_read_or_refused(saved: Path, rounds: int = 600) -> None:
    """Only UserError is raised, and accepted networks are usable: size, classes and temperature."""
    whole = json.loads((saved / "manifest.json").read_text())
    draw, passed = random.Random(0), 0
    for _ in range(rounds):
        manifest = mutated(whole, draw)
        if draw.random() < 0.3:
            manifest = mutated(manifest, draw)
        try:
            manifests.check(manifest)
        except UserError as error:
            assert "\n" not in str(error)
            continue
        passed += 1
        found = Network(TINY.from_dict({
            name: value for name, value in manifest["architecture"].items() if name != "family"
        }), {}, {}, manifest["provenance"])  # fmt: skip
        hash(found.architecture)
        assert found.image_size is None or 0 < found.image_size <= limits.IMAGE_SIZE
        assert found.class_names is None or len(set(found.class_names)) == found.num_classes
        assert 1e-3 <= found.temperature <= 1e3
        assert found.training_images is None or all(len(x) == 16 for x in found.training_images)
        found.columns()
        if kept := found.guarantees:
            assert kept.sets(np.eye(3), 0.9, by_class=True, uniforms=np.zeros(3)).shape == (3, 3)
            kept.outliers(np.zeros(1), np.ones((1, 4)))
        features = np.zeros((1, 2))
        logits = found.replace(params={"fc/kernel": np.ones((2, 3)), "fc/bias": np.arange(3)})
        assert logits.probabilities(features).argmax() == 2
    assert 20 < passed < rounds / 2
