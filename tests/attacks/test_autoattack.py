"""The ensemble: comparison with pyautoattack, independence of batches, and its checks."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.tree_util import Partial
from torch import Tensor

from rtl_jax.attacks import PGD, AutoAttack, Evaluation, attack, autoattack, batches, reevaluate
from rtl_jax.attacks.apgd import APGD
from rtl_jax.attacks.checks import check_ascent, check_square
from rtl_jax.attacks.fab import FAB
from rtl_jax.errors import UserError
from rtl_jax.lab.attack.table import summarize
from rtl_jax.lab.attack.task import run_attack
from rtl_jax.lab.config import Attack, Experiment, Source, Target
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network
from tests.attacks.models import _mlp, linear, mlp, pictures
from tests.lab.report.rows import frame, other
from tests.processes import on_devices
from tests.torch_networks import nchw

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
MODEL = mlp(pixels=192, classes=10, scale=2.0)
IMAGES = pictures(64, 8)
LABELS = np.asarray(MODEL(IMAGES).argmax(1))
EPS = {"linf": 0.05, "l2": 0.5, "l1": 4.5}
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}
QUERIES = 100


def evaluate(norm: str, **settings) -> Evaluation:
    chosen = AutoAttack(norm, queries=QUERIES, **settings)
    return autoattack(MODEL, IMAGES, LABELS, EPS[norm], chosen, KEY, batch_size=64)


def in_torch(images: Tensor) -> Tensor:
    """Return the model of `mlp` in torch."""
    first, second = (torch.tensor(np.asarray(MODEL.args[0][name])) for name in ("first", "second"))
    return torch.tanh(images.permute(0, 2, 3, 1).reshape(len(images), -1) @ first) @ second


def pyautoattack(norm: str, attacks: list[str]) -> float:
    """Compute robust accuracy with the torch implementation of 'standard' for these attacks."""
    library = pytest.importorskip("pyautoattack")
    name = {"linf": "Linf", "l2": "L2", "l1": "L1"}[norm]
    theirs = library.AutoAttack(
        in_torch, norm=name, eps=EPS[norm], seed=0, version="custom", attacks=attacks
    )
    theirs.apgd.n_restarts, theirs.fab.n_restarts = 5 if norm == "l1" else 1, 1
    theirs.apgd.use_largereps = theirs.apgd_targeted.use_largereps = norm == "l1"
    theirs.apgd_targeted.n_target_classes = 5 if norm == "l1" else 9
    theirs.square.n_queries = QUERIES
    labels = torch.tensor(LABELS).long()
    found, _ = theirs.run_standard_evaluation(nchw(IMAGES), labels, batch_size=64)
    return float((in_torch(found).argmax(1) == labels).float().mean())


STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_as_pyautoattack(norm: str) -> None:
    """Same weights and 64 images: within one image for the ensemble, two points for an attack."""
    whole = evaluate(norm)
    assert 0.2 < whole.robust_accuracy < 0.8
    assert abs(whole.robust_accuracy - pyautoattack(norm, list(STANDARD))) <= 1 / 64 + 1e-6
    # Each alone in one norm: what they share with another is compared above.
    for name in STANDARD if norm == "l2" else ():
        alone = evaluate(norm, attacks=(name,))
        # Square's 100 queries are chance.
        allowed = 0.06 if name == "square" else 0.02
        assert abs(alone.robust_accuracy - pyautoattack(norm, [name])) <= allowed, name
        assert alone.robust_accuracy >= whole.robust_accuracy
    assert not whole.warnings
    keeps_its_promises(whole, norm)


def test_as_pyautoattack_in_l1() -> None:
    names = ("apgd-ce", "square")
    found = evaluate("l1", attacks=names)
    assert 0.2 < found.robust_accuracy < 0.9
    assert abs(found.robust_accuracy - pyautoattack("l1", list(names))) <= 1 / 64 + 1e-6
    keeps_its_promises(found, "l1")


def keeps_its_promises(found: Evaluation, norm: str) -> None:
    """Images stay in the ball; broken ones are misclassified, the others are unchanged."""
    images = found.adversarial.images
    change = (np.float64(images) - IMAGES).reshape(64, -1)
    assert np.linalg.norm(change, ORDERS[norm], axis=1).max() <= EPS[norm] + 1e-6
    assert images.min() >= 0 and images.max() <= 1
    said = np.asarray(MODEL(images).argmax(1))
    fallen = np.array([name != "" for name in found.broken_by])
    np.testing.assert_array_equal(said != LABELS, fallen)
    np.testing.assert_array_equal(found.adversarial.success, fallen)
    assert (change[~fallen] == 0).all()
    shares = list(found.accuracies.values())
    assert shares == sorted(shares, reverse=True) and shares[0] == 1
    assert shares[-1] == found.robust_accuracy == pytest.approx(1 - fallen.mean())


# ---- Batches, order, devices, kills -------------------------------------------------------------


SHORT = AutoAttack("linf", attacks=("square", "apgd-ce"), steps=10, queries=100)


def short(order: np.ndarray, size: int, **keywords) -> Evaluation:
    return autoattack(
        MODEL, IMAGES[order], LABELS[order], 0.05, SHORT, KEY, batch_size=size, **keywords
    )


def test_an_image_does_not_know_its_batch(tmp_path: Path) -> None:
    """The same images are found with other batch sizes and with further images."""
    every = np.arange(40)
    whole = short(every, 40)
    parts = short(every, 7)
    assert parts.broken_by == whole.broken_by
    np.testing.assert_allclose(parts.adversarial.images, whole.adversarial.images, atol=1e-5)
    assert {"apgd-ce", "square", ""} == set(whole.broken_by)


def test_restarts_in_parallel() -> None:
    """Attacking four targets in parallel, as on an accelerator, finds the same as one at a time."""
    one = evaluate("linf", attacks=("apgd-t",))
    settings = AutoAttack("linf", attacks=("apgd-t",))
    four = autoattack(MODEL, IMAGES, LABELS, 0.05, settings, KEY, batch_size=64, num_parallel=4)
    assert one.broken_by == four.broken_by and 0.2 < one.robust_accuracy < 0.8


class Killed(BaseException):
    """Simulates a kill: no code catches this exception."""


def test_a_killed_evaluation_goes_on_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every, attacked = np.arange(40), []
    original = batches.attack

    def until_killed(*arguments, **keywords):
        if len(attacked) == 4:
            raise Killed
        attacked.append(keywords["indices"])
        return original(*arguments, **keywords)

    whole = short(every, 7)
    monkeypatch.setattr(batches, "attack", until_killed)
    with pytest.raises(Killed):
        short(every, 7, directory=tmp_path)
    assert len(list(tmp_path.glob("*/*.npz"))) == 4

    def counted(*arguments, **keywords):
        attacked.append(keywords["indices"])
        return original(*arguments, **keywords)

    monkeypatch.setattr(batches, "attack", counted)
    resumed = short(every, 7, directory=tmp_path)
    assert resumed.broken_by == whole.broken_by and resumed.accuracies == whole.accuracies
    np.testing.assert_array_equal(resumed.adversarial.images, whole.adversarial.images)
    number = len(attacked)
    assert short(every, 7, directory=tmp_path).broken_by == whole.broken_by
    assert len(attacked) == number  # nothing was attacked twice

    # An image on disk that is not adversarial after all does not count, and is attacked again.
    path = min(tmp_path.glob("*/square-000-00000000.npz"))
    kept = dict(np.load(path))
    assert kept["success"].any()
    kept["images"] = IMAGES[kept["rows"][kept["success"]]]
    np.savez(path, **kept)
    rows = kept["rows"][kept["success"]]
    again = short(every, 7, directory=tmp_path)
    assert all(again.broken_by[row] != "square" for row in rows)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"000\.npz is damaged.*remove it"):
        short(every, 7, directory=tmp_path)


def test_saved_batches_are_used_by_their_own_restarts_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of one restart must not stand for nine that run in parallel, nor the other way."""
    settings = AutoAttack("linf", attacks=("apgd-t",), steps=10)

    def found(num_parallel: int, directory: Path | None = None) -> tuple[str, ...]:
        again = {"num_parallel": num_parallel, "directory": directory, "batch_size": 64}
        return autoattack(MODEL, IMAGES, LABELS, 0.05, settings, KEY, **again).broken_by

    nine = found(9)
    one = found(1, tmp_path)
    first = np.load(next(tmp_path.glob("*/apgd-t-000-*.npz")))
    assert first["success"].sum() < sum(map(bool, nine))  # or the test could not fail
    assert found(9, tmp_path) == nine
    assert found(1, tmp_path) == one

    # Files written before the restarts were named have one restart each, and are still used.
    for path in tmp_path.glob("*/*.npz"):
        kept = dict(np.load(path))
        np.savez(path, **{name: kept[name] for name in kept.keys() - {"restarts"}})
    monkeypatch.setattr(batches, "attack", None)  # nothing is attacked again
    assert found(1, tmp_path) == one


def _masked(params: dict, images: jax.Array) -> jax.Array:
    return _mlp(params, jax.lax.stop_gradient(images))


def test_saved_batches_are_used_by_their_own_function_only(tmp_path: Path) -> None:
    """A defence with the same weights must not lend its failed attacks to the bare network."""
    settings = AutoAttack("linf", attacks=("apgd-ce",), steps=10)

    def found(model, **keywords) -> float:
        return autoattack(model, IMAGES, LABELS, 0.05, settings, KEY, **keywords).robust_accuracy

    fresh = found(MODEL)
    assert found(Partial(_masked, *MODEL.args), directory=tmp_path) == 1 > fresh
    assert found(MODEL, directory=tmp_path) == fresh


def directories(workdir: Path) -> list[str]:
    """Attack three images of two models; return the names of the directories that this makes."""
    settings = AutoAttack("linf", attacks=("apgd-ce",), steps=1)
    network = Network(NETWORK, *initialize(NETWORK, jax.random.key(1)), {}).logits_fn()
    for number, model in enumerate((MODEL, network)):
        labels = np.asarray(model(IMAGES[:3]).argmax(1))
        place = workdir / f"{number}"
        autoattack(model, IMAGES[:3], labels, 0.05, settings, KEY, directory=place)
    return [path.name for path in sorted(workdir.glob("*/*"))]


def test_another_process_resumes(tmp_path: Path) -> None:
    """A model's name must not contain an address or an order that hashes decide."""
    script = """
import sys
from pathlib import Path
from tests.attacks.test_autoattack import directories
print(",".join(directories(Path(sys.argv[1]))))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "theirs")],
        env=on_devices(1, PYTHONHASHSEED="5"),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    ours = directories(tmp_path / "ours")
    assert len(ours) == 2 and done.stdout.strip().split(",") == ours, done.stderr


def test_devices_share_a_batch() -> None:
    """Three devices in a separate process; 16 images are rounded up to 18."""
    script = """
import jax, numpy as np
from tests.attacks.test_autoattack import every_device
assert jax.device_count() == 3
print(",".join(every_device()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=on_devices(3),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip().split(",") == every_device(), done.stderr


def every_device() -> list[str]:
    settings = dataclasses.replace(SHORT, attacks=("apgd-ce",))
    found = autoattack(MODEL, IMAGES[:20], LABELS[:20], 0.05, settings, KEY, batch_size=16)
    return list(found.broken_by)


# ---- Checks -------------------------------------------------------------------------------------


def names(found: Evaluation) -> set[str]:
    return {warning.name for warning in found.warnings}


def test_a_network_that_shouts_has_no_gradients() -> None:
    """With logits times 1,000, PGD overestimates robustness; AutoAttack finds the original one."""
    loud = mlp(pixels=192, classes=10, scale=2000.0)
    settings = AutoAttack("linf", queries=QUERIES)
    found = autoattack(loud, IMAGES, LABELS, 0.05, settings, KEY, batch_size=64)
    quiet = evaluate("linf")
    pgd = attack(loud, IMAGES, LABELS, 0.05, PGD("linf"))
    assert float(pgd.robust_accuracy) > found.robust_accuracy + 0.15
    assert abs(found.robust_accuracy - quiet.robust_accuracy) <= 1 / 64 + 1e-6
    assert "zero_gradients" in names(found) and not names(quiet)


def _coarse(params: dict, images: jax.Array) -> jax.Array:
    return _mlp(params, jnp.round(images * 32) / 32)


def test_a_network_with_coarse_eyes_has_no_gradients_either() -> None:
    """With quantised inputs, gradient-based attacks fail, which Square reveals."""
    coarse = Partial(_coarse, MODEL.args[0])
    labels = np.asarray(coarse(IMAGES).argmax(1))
    settings = AutoAttack("linf", attacks=("apgd-ce", "square"), steps=10, queries=500)
    found = autoattack(coarse, IMAGES, labels, 0.15, settings, KEY, batch_size=64)
    assert float(attack(coarse, IMAGES, labels, 0.15, PGD("linf", steps=3)).robust_accuracy) == 1
    assert found.robust_accuracy < 0.8
    assert {"zero_gradients", "square_stronger"} <= names(found)
    assert found.accuracies["apgd-ce"] > found.accuracies["square"]


def _trembling(params: dict, images: jax.Array, key: jax.Array) -> jax.Array:
    logits = _mlp(params, images)
    return logits + 0.1 * jax.random.normal(key, logits.shape)


def test_a_random_network_has_its_own_version() -> None:
    settings = AutoAttack("linf", "rand", attacks=("apgd-ce",), steps=4)
    shaken = Partial(_trembling, MODEL.args[0])
    found = autoattack(shaken, IMAGES, LABELS, 0.1, settings, KEY, batch_size=64)
    calm = evaluate("linf")
    assert 0.9 < found.accuracies["clean"] <= 1  # 0.1 / sqrt(20), the mean's noise, is little
    assert found.robust_accuracy < calm.robust_accuracy and not found.warnings


@jax.custom_gradient
def _turned(images: jax.Array) -> tuple:
    return images, lambda gradient: -gradient


def _liar(params: dict, images: jax.Array) -> jax.Array:
    return _mlp(params, _turned(images))


def test_a_gradient_that_points_downwards_is_noticed() -> None:
    settings = AutoAttack("linf", attacks=("apgd-ce",), steps=10)
    liar = Partial(_liar, MODEL.args[0])
    found = autoattack(liar, IMAGES, LABELS, 0.02, settings, KEY, batch_size=64)
    assert names(found) == {"ended_worse"}


def test_probabilities_and_dice_are_noticed() -> None:
    dice = np.random.default_rng(0)
    few = dataclasses.replace(SHORT, attacks=("apgd-ce",), steps=1)

    def found(model) -> set[str]:
        return names(autoattack(model, IMAGES, LABELS, 0.0, few, KEY, batch_size=64))

    assert found(MODEL) == set()
    assert found(lambda x: jax.nn.softmax(MODEL(x))) == {"not_logits"}
    assert found(lambda x: MODEL(x) + dice.normal(size=10)) == {"randomised"}


def test_what_the_checks_say() -> None:
    withstood = np.array([0, 2, 0, 0, 1])
    assert [warning.name for warning in check_ascent("apgd-t", withstood, 9)] == [
        "ended_worse"
    ]  # 3 of 45
    assert not check_ascent("apgd-t", withstood, 90)
    assert not check_ascent("apgd-t", withstood[:0], 9)
    broken = ["", "square", "square", "apgd-ce"]
    assert [warning.name for warning in check_square(broken, ["apgd-ce", "square"])] == [
        "square_stronger"
    ]
    assert not check_square(broken, ["square"]) and not check_square(
        broken[:2], ["apgd-ce", "square"]
    )
    assert not check_square(["square"] * 2 + [""] * 999, ["apgd-ce", "square"])


# ---- The task -----------------------------------------------------------------------------------

NETWORK = ResNetArchitecture(
    "tiny",
    "basic",
    (1,),
    (4,),
    stem_width=4,
    stem_kernel=3,
    stem_stride=1,
    stem_pool=False,
    num_classes=10,
)


def test_rows_of_the_task(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One row per radius, as for any attack; adversarial images on request."""
    variables = initialize(NETWORK, jax.random.key(1))
    Network(NETWORK, *variables, {}).save(tmp_path / "network")
    experiment = Experiment(
        task="attack",
        source=Source(str(tmp_path / "network")),
        target=Target("digits", image_size=8, num_test_images=60),
        attack=Attack(
            method="autoattack",
            norm="l2",
            eps=(0.0, 0.3),
            attacks=("apgd-ce",),
            save_images=True,
            num_shown=2,
        ),
    )
    rows = run_attack(experiment, tmp_path / "run")
    assert list(rows["method"]) == ["autoattack"] * 2 and list(rows["eps"]) == [0.0, 0.3]
    clean, robust = rows["accuracy"]
    assert 0 < robust < clean
    assert list(rows["warnings"]) == ["", ""]
    (directory,) = (tmp_path / "run").glob("runs/*")
    assert {path.name for path in directory.iterdir()} == {
        "adversarial.npz",
        "curve.png",
        "images.png",
    }
    kept = np.load(directory / "adversarial.npz")
    logits_fn = Network(NETWORK, *jax.tree.map(jnp.asarray, variables)).logits_fn()
    judge = APGD("l2", steps=1)
    again = reevaluate(
        logits_fn, kept["images"][0], kept["labels"], 0.3, judge, kept["images"][1], key=KEY
    )
    assert 100 * float(again.robust_accuracy) == pytest.approx(robust)
    assert "eps 0.3: clean" in capsys.readouterr().out
    assert "warning at eps 0.3: zero_gradients" in summarize(
        rows.assign(warnings=["", "zero_gradients"])
    )


# ---- Settings -----------------------------------------------------------------------------------


def test_versions() -> None:
    standard, plus = AutoAttack("linf").members(), AutoAttack("l2", "plus").members()
    assert tuple(standard) == STANDARD
    assert set(plus) == {*STANDARD, "apgd-dlr", "fab"} and list(plus)[-1] == "square"
    assert standard["apgd-t"].num_restarts(10) == standard["fab-t"].num_restarts(10) == 9
    assert standard["apgd-t"].num_restarts(4) == 3 and standard["apgd-ce"].num_restarts(10) == 1
    assert plus["apgd-dlr"].num_restarts(10) == plus["fab"].num_restarts(10) == 5
    rand = AutoAttack("linf", "rand").members()
    assert list(rand.values()) == [APGD("linf", passes=20), APGD("linf", "dlr", passes=20)]
    assert AutoAttack("l1").members()["apgd-t"].num_restarts(10) == 5
    assert AutoAttack("l2", attacks=("fab",)).members() == {"fab": FAB("l2", targets=0)}


@pytest.mark.parametrize(
    ("version", "classes", "left_out"),
    [
        ("standard", 2, {"apgd-t"}),
        ("standard", 3, {"apgd-t"}),
        ("standard", 4, set()),
        ("plus", 2, {"apgd-t", "apgd-dlr"}),
        ("plus", 3, {"apgd-t"}),
        ("rand", 2, {"apgd-dlr"}),
    ],
)
def test_a_version_leaves_out_what_needs_more_classes(
    version: str, classes: int, left_out: set[str]
) -> None:
    settings = AutoAttack("linf", version)
    members, warnings = settings.members_for(classes)
    assert list(members) == [name for name in settings.members() if name not in left_out]
    assert [warning.name for warning in warnings] == ["reduced_ensemble"] * bool(left_out)
    for name in left_out:
        assert f"{name} needs" in warnings[0].message
        with pytest.raises(UserError, match=f"{name} needs . classes, and the network has"):
            AutoAttack("linf", version, attacks=(name,)).members_for(classes)


def test_two_classes() -> None:
    """For a linear model, the ensemble breaks exactly the images that can be broken."""
    w = np.random.default_rng(3).normal(size=(8, 8, 3)).astype(np.float32)
    w -= w.mean()
    model = linear(w, 0.0)
    images = pictures(24, 8, 0.3, 0.7)
    score = images.astype(np.float64).reshape(24, -1) @ w.ravel()
    eps = float(np.median(np.abs(score)) / np.abs(w).sum())
    settings = AutoAttack("linf", steps=20, queries=50)
    found = autoattack(model, images, (score > 0).astype(int), eps, settings, KEY, batch_size=24)
    assert list(found.accuracies) == ["clean", "apgd-ce", "fab-t", "square"]
    assert [warning.name for warning in found.warnings] == ["reduced_ensemble"]
    worst = np.abs(score) - eps * np.abs(w).sum()
    clear = np.abs(worst) > 1e-3
    broken = np.array([name != "" for name in found.broken_by])
    np.testing.assert_array_equal(broken[clear], worst[clear] < 0)
    assert clear.sum() > 20 and found.robust_accuracy == pytest.approx(0.5, abs=0.05)


def test_what_is_wrong() -> None:
    two = mlp(pixels=192, classes=2)
    for change, message in (
        (
            dict(logits_fn=two, labels=LABELS % 2, settings=AutoAttack("linf", attacks=STANDARD)),
            "apgd-t needs 4 classes.*apgd-ce,fab-t,square",
        ),
        (dict(labels=LABELS[:5]), "labels"),
        (dict(eps=-1.0), "eps"),
        (dict(batch_size=0), "batch_size"),
        (dict(images=IMAGES * 255), "scale them"),
        (dict(logits_fn=lambda x: MODEL(x), directory="x"), "pytree"),
    ):
        arguments = dict(logits_fn=MODEL, images=IMAGES, labels=LABELS, eps=0.05)
        arguments.update(settings=AutoAttack("linf"), key=KEY, batch_size=64)
        with pytest.raises(UserError, match=message):
            autoattack(**{**arguments, **change})
    for bad in (
        dict(norm="unconstrained"),
        dict(norm="linf", version="minus"),
        dict(norm="linf", attacks=("pgd",)),
        dict(norm="linf", attacks=("square", "square")),
        dict(norm="linf", version="rand", attacks=("square",)),
    ):
        with pytest.raises(UserError, match="AutoAttack"):
            AutoAttack(**bad)


def test_images_from_elsewhere_are_looked_at() -> None:
    """Misclassification is not enough: images must lie in the ball and the box."""
    other, labels = np.roll(IMAGES, 1, axis=0), (LABELS + 5) % 10  # far away, and another class
    judge = APGD("linf", steps=1)
    near = reevaluate(MODEL, IMAGES, labels, 0.05, judge, other, key=KEY)
    far = reevaluate(MODEL, IMAGES, labels, 1.0, judge, other, key=KEY)
    assert not near.success.any() and far.success.mean() > 0.5
    outside = reevaluate(MODEL, IMAGES, labels, 2.0, judge, other + 1, key=KEY)
    assert not outside.success.any()


def test_networks_of_equal_weights_and_other_descriptions_share_no_batches(tmp_path: Path) -> None:
    """Their deviation is no weight: what withstood one need not withstand the other."""
    arch = ResNetArchitecture("tiny", "basic", (1,), (8,), num_classes=3)
    variables = jax.tree.map(np.asarray, initialize(arch, KEY))
    settings = AutoAttack("linf", attacks=("apgd-ce",), steps=2)
    labels = np.asarray(Network(arch, *variables).logits_fn()(IMAGES[:2])).argmax(1)
    for deviation in (arch.std[0], 1.001 * arch.std[0], arch.std[0]):
        described = arch.replace(std=(deviation, *arch.std[1:]))
        logits_fn = Network(described, *variables).logits_fn()
        autoattack(logits_fn, IMAGES[:2], labels, 1e-3, settings, KEY, directory=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_headings_tell_networks_of_a_sweep_apart() -> None:
    known = {"dataset": "digits", "method": "pgd", "norm": "l2", "eps": 0.5, "loss": 1.0}
    known |= {"num_images": 40, "blocks": 0, "frozen_batch_norm": "source", "seed": 1}
    rows = frame(
        [
            other("attack", accuracy=10.0, **known, **more)
            for more in (
                {"learning_rate": 0.01},
                {"learning_rate": 0.1},
                {"learning_rate": 0.1, "fold": 2},
            )
        ]
    )
    heads = [line for line in summarize(rows).splitlines() if "->" in line]
    assert [head.split("40 images, ")[1] for head in heads] == [
        "learning_rate=0.01, seed 1",
        "learning_rate=0.1, seed 1",
        "learning_rate=0.1, fold=2, seed 1",
    ]
