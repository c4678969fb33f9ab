"""Bundled sources: round trips, rejection of damage, and completeness of the package."""

import fnmatch
import re
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest

import rtl_jax
from rtl_jax.command.sources import main
from rtl_jax.errors import UserError
from rtl_jax.lab.config import freeze
from rtl_jax.models import bundled
from rtl_jax.models import network as network_module
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network
from rtl_jax.models.sources import load_source

ROOT = Path(__file__).parents[2]
ARCH = ResNetArchitecture(
    "tiny", "bottleneck", (1, 1), (4, 6), stem_width=6, stem_kernel=3, stem_stride=2,
    stem_pool=False, num_classes=5,
)  # fmt: skip
CARD = {
    "perturbation": "nothing",
    "epochs": 6,
    "clean_accuracy": 50.0,
    "robust_accuracy": 10.0,
    "total_variation": 2.0,
    "hours": 0.5,
}


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    """A network that is bundled as `tiny`, the only one."""
    params, batch_stats = jax.tree.map(np.asarray, initialize(ARCH, jax.random.key(0)))
    network = Network(ARCH, params, batch_stats, CARD)
    monkeypatch.setattr(bundled, "DIRECTORY", tmp_path)
    bundled.write(tmp_path / "tiny.safetensors", network)
    return network


def test_what_is_written_is_read(network: Network):
    found = load_source("bundled:tiny")
    assert found.architecture == ARCH and found.provenance == CARD == bundled.card("tiny")
    for path, value in network.params.items():
        expected = value.astype(np.float16) if path.endswith("kernel") else value
        np.testing.assert_array_equal(found.params[path], expected)
        assert found.params[path].dtype == np.float32
    for path, value in network.batch_stats.items():
        np.testing.assert_array_equal(found.batch_stats[path], value)
    images = np.random.default_rng(0).uniform(size=(8, 16, 16, 3)).astype(np.float32)
    ours, before = (
        Network(ARCH, n.params, n.batch_stats).logits_fn()(images) for n in (found, network)
    )
    np.testing.assert_allclose(ours, before, atol=2e-3 * np.abs(before).max())


def test_an_unknown_name_lists_those_there_are(network: Network):
    with pytest.raises(UserError, match="there is no bundled:l2: expected one of tiny"):
        load_source("bundled:l2")


def test_a_source_trained_anew_replaces_the_earlier_one(network: Network, tmp_path: Path):
    card = {**CARD, "epochs": 24}
    bundled.write(tmp_path / "tiny.safetensors", network.replace(provenance=card))
    assert bundled.card("tiny") == card and bundled.names() == ["tiny"]


@pytest.mark.parametrize("place", [20, -20])  # in the header, in a tensor
def test_a_changed_byte_is_noticed(network: Network, tmp_path: Path, place: int):
    path = tmp_path / "tiny.safetensors"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="is damaged"):
        bundled.load("tiny")


def test_a_truncated_file_is_noticed(network: Network, tmp_path: Path):
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="is damaged"):
        bundled.load("tiny")


def test_the_list(network: Network, capsys: pytest.CaptureFixture):
    assert main([]) == 0
    assert "bundled:tiny" in (out := capsys.readouterr().out) and "50.0" in out
    assert main(["tiny"]) == 0
    assert "hours: 0.5" in capsys.readouterr().out
    assert main(["large"]) == 2
    assert "there is no bundled:large" in capsys.readouterr().err


# ---- Those that ship ---------------------------------------------------------------------------

SHIPPED = bundled.names()


def test_all_ship_and_differ_in_the_perturbation_alone():
    assert set(SHIPPED) == {"natural", "gaussian", "l2", "linf4", "linf8", "pgd1"}
    groups = ("source", "target", "augmentation", "pretraining", "seed")
    # Through `freeze`: cards of before some setting was added stand for its default.
    cards = [bundled.card(name)["settings"] for name in SHIPPED]
    settings = [freeze({group: card[group] for group in groups}).to_dict() for card in cards]
    perturbing = (
        "perturbation", "norm", "eps", "steps", "relative_step", "random_start", "keep", "sigma",
    )  # fmt: skip
    for own in settings:
        # The last two change no weight.
        for name in (*perturbing, "eval_every", "decoding_threads"):
            own["pretraining"].pop(name)
    assert all(own[group] == settings[0][group] for own in settings for group in groups)


@pytest.mark.parametrize("name", SHIPPED)
def test_each_is_small_whole_and_as_good_as_its_card_must_say(name: str):
    path = bundled.DIRECTORY / f"{name}.safetensors"
    assert path.stat().st_size < 6e6
    network, card = bundled.load(name), bundled.card(name)
    assert all(np.isfinite(leaf).all() for leaf in network.params.values())
    classes = card["num_classes"]
    assert network.architecture.num_classes == classes == len(card["class_names"])
    chance = 100 / classes
    assert card["clean_accuracy"] >= 20 * chance


@pytest.mark.parametrize("name", sorted({*SHIPPED} - {"natural", "gaussian"}))
def test_robust_ones_are_robust(name: str):
    card, natural = bundled.card(name), bundled.card("natural")
    assert card["robust_accuracy"] >= 0.4 * card["clean_accuracy"]
    assert card["robust_accuracy"] >= natural["robust_accuracy"] + 8
    assert card["total_variation"] < natural["total_variation"]


@pytest.mark.parametrize("page", ["README.md", "docs/bundled.md"])
def test_pages_say_what_cards_say(page: str):
    text = (ROOT / page).read_text()
    rows = re.findall(r"^\| `bundled:(\w+)` \|(.*)$", text, re.M)
    assert len(rows) == (2 if page == "README.md" else len(SHIPPED))
    for name, row in rows:
        card = bundled.card(name)
        _, *numbers = [cell.strip() for cell in row.strip("|").split("|")]
        expected = [f"{card[key]:.1f} %" for key in ("clean_accuracy", "robust_accuracy")]
        if page == "docs/bundled.md":
            expected += [f"{card[key]:.2f}" for key in ("total_variation", "hours")]
        assert numbers == expected, name


def test_a_wheel_takes_them_along():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["rtl_jax"]
    package = Path(rtl_jax.__file__).parent
    files = [path.relative_to(package) for path in package.rglob("*") if path.is_file()]
    data = [str(path) for path in files if path.suffix not in (".py", ".pyc")]
    assert {f"models/bundled/{name}.safetensors" for name in SHIPPED} <= set(data)
    for path in data:
        assert any(fnmatch.fnmatch(path, pattern) for pattern in patterns), path


def test_features_are_compiled_once() -> None:
    """For any number of calls, and of networks with the same architecture."""
    images = np.zeros((3, 32, 32, 3), np.uint8)
    networks = [load_source("bundled:natural"), load_source("bundled:l2")]
    networks[0].features(images)
    before = network_module._prepared_features._cache_size()
    for one in (*networks, *networks):
        one.features(images)
    assert network_module._prepared_features._cache_size() == before
