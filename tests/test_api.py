"""The Python interface: its examples run, and its results equal those of the tasks, bit for bit."""

import dataclasses
import doctest
import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import rtl_jax as rtl
from rtl_jax.attacks import APGD, FAB, AutoAttack, Gaussian
from rtl_jax.data.sources import load_dataset
from rtl_jax.data.subset import draw_subset, draw_test_subset
from rtl_jax.lab.attack.task import run_attack
from rtl_jax.lab.config import Attack, Experiment, Influence, Source, Target
from rtl_jax.lab.finetune.task import run_finetune
from rtl_jax.lab.influence.task import run_influence
from rtl_jax.models.storage import networks_in

pytestmark = pytest.mark.slow

SOURCE = {"arch": "resnet18", "stem": "small", "stage_sizes": (1, 1), "stage_widths": (4, 8)}
RECIPE = rtl.Recipe(
    blocks=1,
    frozen_batch_norm="source",
    epochs=3,
    batch_size=16,
    learning_rate=0.05,
    head="uniform",
)
SEED = 7


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", data_dir=None, image_size=8)


@pytest.fixture(scope="module")
def source() -> rtl.Network:
    network = rtl.load("random", seed=1, **SOURCE)
    return network.replace(provenance={**network.provenance, "image_size": 8})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, source: rtl.Network) -> tuple[Path, Path]:
    """The work directory of a fine-tuning on 40 digits, and its network."""
    workdir = tmp_path_factory.mktemp("door")
    source.save(workdir / "source")
    run_finetune(experiment(workdir), workdir)
    (place,) = networks_in(workdir)
    return workdir, Path(place)


def experiment(workdir: Path, **changes: object) -> Experiment:
    return dataclasses.replace(
        Experiment(
            source=Source(str(workdir / "source")),
            target=Target("digits", image_size=8, num_images=40, num_test_images=30),
            augmentation=rtl.Augmentation(),
            transfer=RECIPE,
            seed=SEED,
        ),
        **changes,
    )


def test_every_name_is_there_and_says_what_it_is() -> None:
    assert set(rtl.__all__) <= set(dir(rtl))
    for name in rtl.__all__:
        assert getattr(rtl, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'fine_tune'"):
        rtl.fine_tune  # noqa: B018


DOCUMENTED = [
    "api.transfer",
    "api.robustness",
    "api.prediction",
    "api.explanation",
    "sklearn",
    "models.network",
]


@pytest.mark.parametrize("module", DOCUMENTED)
def test_the_examples_of_docstrings_run(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"rtl_jax.{module}"))
    assert found.attempted > 4 and found.failed == 0


def test_the_examples_of_the_documentation_run() -> None:
    path = Path(__file__).parents[1] / "docs/python.md"
    found = doctest.testfile(str(path), module_relative=False)
    assert found.attempted > 20 and found.failed == 0


def test_an_attack_on_training_images_says_so() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    network = rtl.finetune(rtl.load("random", **SOURCE), images[:4], [0, 1, 0, 1], recipe=RECIPE)
    settings = rtl.PGD("linf", steps=1)
    with pytest.warns(UserWarning, match="trained on 2 of these 4 images"):
        rtl.attack(network, images[2:], [0, 1, 0, 1], 0.01, settings)
    with pytest.warns(UserWarning, match="trained on 1 of these 1 images"):  # the same, as floats
        rtl.attack(network, images[:1] / 255, [0], 0.01, settings)
    rtl.attack(network, images[4:], [0, 1], 0.01, settings)  # a warning would be an error


def test_reading_rows_needs_no_jax() -> None:
    script = "import sys, rtl_jax as rtl; rtl.read_rows; print('jax' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_a_fine_tuning_equals_the_task(digits, source, trained) -> None:
    drawn = digits.train.take(draw_subset(digits.train.labels, 40, SEED, 10))
    network = rtl.finetune(source, drawn.images, drawn.labels, seeds=SEED, recipe=RECIPE)
    other = rtl.Network.load(trained[1])
    for mine, its in ((network.params, other.params), (network.batch_stats, other.batch_stats)):
        assert mine.keys() == its.keys()
        for path, leaf in mine.items():
            np.testing.assert_array_equal(leaf, its[path], err_msg=path)
    assert network.class_names == other.class_names == tuple("0123456789")
    assert network.image_size == other.image_size == 8
    assert network.training_images == other.training_images and len(network.training_images) == 40


def test_many_seeds_are_networks_of_their_own(digits, source) -> None:
    few = digits.train.take(np.arange(40))
    several = rtl.finetune(source, few.images, few.labels, seeds=[3, SEED], recipe=RECIPE)
    alone = rtl.finetune(source, few.images, few.labels, seeds=SEED, recipe=RECIPE)
    for path, leaf in alone.params.items():
        np.testing.assert_allclose(several[1].params[path], leaf, atol=2e-5, err_msg=path)
    assert not np.allclose(several[0].head.kernel, several[1].head.kernel)
    # What is frozen is the source's own.
    np.testing.assert_array_equal(alone.params["conv1/kernel"], source.params["conv1/kernel"])


def test_adversarial_fine_tuning_by_an_attack_or_by_settings(digits, source) -> None:
    """Both give the same network, which differs from that trained on clean images."""
    images, labels = digits.train.images[:24], digits.train.labels[:24]
    usual = {"blocks": 0, "epochs": 2, "seeds": 3}
    attack = rtl.PGD("l2", steps=2, keep="loss")
    found = rtl.finetune(source, images, labels, perturb=attack, eps=0.5, **usual)
    named = rtl.finetune(source, images, labels, perturbation="pgd", eps=0.5, steps=2, **usual)
    plain = rtl.finetune(source, images, labels, **usual)
    for path in found.architecture.head:
        np.testing.assert_array_equal(found.params[path], named.params[path])
        assert not np.allclose(found.params[path], plain.params[path])


def test_an_attack_equals_the_task(digits, trained) -> None:
    workdir, place = trained
    settings = Attack(norm="l2", eps=(0.5,), steps=4, batch_size=16)
    asked = experiment(workdir, task="attack", source=Source(str(place)), attack=settings)
    (row,) = run_attack(asked, workdir / "attack").itertuples()
    tested = digits.test.take(draw_test_subset(digits.test.labels, 30, 10))
    found = rtl.attack(
        rtl.load(str(place)), tested.images, tested.labels, 0.5, rtl.PGD("l2", steps=4),
        batch_size=16,
    )  # fmt: skip
    assert row.accuracy == pytest.approx(100 * float(found.robust_accuracy), abs=1e-9)
    assert row.loss == float(np.asarray(found.losses, np.float32).mean())
    assert found.images.shape == (30, 8, 8, 3)


def test_influence_equals_the_task(digits, trained) -> None:
    workdir, place = trained
    settings = Influence(run=str(place), damping=0.01, perturb=2)
    rows = run_influence(experiment(workdir, task="influence", influence=settings), workdir)
    (listed,) = workdir.glob(f"runs/{rows['run'].iloc[0]}/perturbed.csv")
    scores = np.load(next((workdir / "runs" / rows["run"].iloc[0]).rglob("scores.npy")))
    drawn = digits.train.take(draw_subset(digits.train.labels, 40, SEED, 10))
    tested = digits.test.take(draw_test_subset(digits.test.labels, 30, 10))
    found = rtl.influence(
        rtl.load(str(place)),
        (drawn.images, drawn.labels),
        (tested.images, tested.labels),
        damping=0.01,
    )
    np.testing.assert_array_equal(found, scores)
    tests = [int(np.flatnonzero(tested.labels == label)[0]) for label in (0, 1)]
    changed = rtl.perturb_training(
        rtl.load(str(place)),
        (drawn.images, drawn.labels),
        (tested.images, tested.labels),
        [(scores[row].argmax(), row) for row in tests],
        0.05,
        damping=0.01,
    )
    listed = pd.read_csv(listed)
    np.testing.assert_allclose(changed.changes, listed["predicted_change"], rtol=1e-3)
    assert changed.images.shape == (2, 8, 8, 3)
    with pytest.raises(rtl.UserError, match=r"pairs: expected rows .* 40 training and 30 test"):
        data = drawn.images, drawn.labels
        tested = tested.images, tested.labels
        rtl.perturb_training(rtl.load(str(place)), data, tested, [(40, 0)], 0.5)


def test_floats_words_and_grey_images(digits, source) -> None:
    """Float images without channels and text labels give the same network."""
    few = digits.train.take(np.arange(30))
    words = np.array(list("abcdefghij"))[few.labels]
    settings = dict(recipe=RECIPE, seeds=1, epochs=2)
    one = rtl.finetune(source, few.images, few.labels, class_names=range(10), **settings)
    floats = few.images[..., 0] / 255.0
    other = rtl.finetune(source, floats, words, class_names="abcdefghij", **settings)
    np.testing.assert_array_equal(one.head.kernel, other.head.kernel)
    assert one.training_images == other.training_images
    np.testing.assert_allclose(
        other.predict_proba(floats), one.predict_proba(few.images), atol=1e-6
    )
    with pytest.raises(rtl.UserError, match=r"labels: z is not among the 10 classes"):
        rtl.attack(other, floats[:1], ["z"], 0.1, rtl.PGD("l2"))


@pytest.mark.parametrize(
    ("images", "labels", "settings", "message"),
    [
        (np.zeros((4, 3, 8, 8)), [0, 1] * 2, {}, "channels come last"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"class_names": "aa"}, "expected different names"),
        (np.full((4, 8, 8, 3), 255.0), [0, 1] * 2, {}, r"pixels in \[0, 1\], found 255"),
        (np.full((4, 8, 8, 3), np.nan), [0, 1] * 2, {}, r"pixels in \[0, 1\]"),
        (np.zeros((4, 8, 8, 3), np.int64), [0, 1] * 2, {}, "expected uint8, or floats"),
        (np.zeros((4, 8, 8, 3)), [0] * 4, {}, "two classes or more"),
        (np.zeros((4, 8, 8, 3)), [0, 1, 0], {}, r"labels: expected \[4\]"),
        (np.zeros((4, 8, 8, 4)), [0, 1] * 2, {}, "transparency is not supported"),
        (
            np.zeros((4, 8, 3), np.uint8),
            [0, 1] * 2,
            {},
            r"single image \[4, 8, 3\]: pass images\[None\]",
        ),
        ([np.zeros((8, 8 + i, 3)) for i in range(4)], [0, 1] * 2, {}, "different shapes: resize"),
        (["a.png"] * 4, [0, 1] * 2, {}, r"received \[4\]; files are read by"),
        (np.zeros((4, 8, 8, 3)), [0, np.nan] * 2, {}, "2 are missing, the first at index 1"),
        (np.zeros((4, 8, 8, 3)), ["a", None] * 2, {}, "2 are missing, the first at index 1"),
        (np.zeros((4, 8, 8, 3)), np.array(["a", 1] * 2, object), {}, "received int and str"),
        (np.zeros((4, 8, 8, 3)), np.eye(2)[[0, 1] * 2], {}, r"one-hot rows .* \.argmax"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"blocks": "all"}, "blocks: expected a whole number"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"epochs": 2.5}, "epochs: expected a whole number"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"image_size": "32"}, "image_size: expected a pos"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"lr": 1}, "there is no setting lr"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"eps": 0.5}, "eps: expected perturb= or"),
        (
            np.zeros((4, 8, 8, 3)),
            [0, 1] * 2,
            {"perturb": rtl.PGD("l2"), "eps": 0.5, "blocks": 0, "head_fit": "ridge"},
            "perturb: expected none with head_fit='ridge' and blocks=0",
        ),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"blocks": 9}, "has 2 blocks, received 9"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"seeds": []}, "seeds: expected one or more"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"augment": "strong"}, "augmentation: expected one"),
    ],
)
def test_what_does_not_fit_is_said(source, images, labels, settings, message) -> None:
    with pytest.raises(rtl.UserError, match=message):
        rtl.finetune(source, images, labels, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        # Taken modulo 2**32, these would be another seed's networks.
        ({"seeds": 2**32}, r"seeds: expected a whole number below 2\*\*32"),
        ({"seeds": [0, -1]}, "seeds: expected a whole number"),
        ({"seeds": 1.9}, "seeds: expected a whole number"),
        ({"seeds": "3"}, "seeds: expected a whole number"),
        ({"seeds": None}, "seeds: expected a whole number"),
        ({"recipe": "paper"}, r"recipe: expected a recipe, such as rtl.Recipe\(\)"),
        ({"recipe": rtl.Recipe(epochs=2.5)}, "epochs: expected a whole number"),
        ({"augment": None}, "augment: expected 'none', 'paper' or"),
        ({"perturb": "pgd"}, r"perturb: expected an attack such as rtl\.PGD"),
        ({"perturb": rtl.PGD("l2"), "mixup": 0.2}, "mixup: expected none with perturb="),
        ({"perturb": rtl.PGD("l2", steps=1), "steps": 3}, "steps: expected none beside perturb="),
        ({"perturb": rtl.PGD("l2"), "perturbation": "pgd"}, "perturbation: expected none beside"),
    ],
)
def test_settings_without_sense_are_refused(source, settings, message) -> None:
    with pytest.raises(rtl.UserError, match=message):
        rtl.finetune(source, np.zeros((4, 8, 8, 3)), [0, 1] * 2, **settings)


def test_functions_may_take_batches_of_one_size() -> None:
    def exported(images):
        assert images.shape == (4, 16, 16, 3)
        mean = images.mean((1, 2, 3))[:, None]
        return np.array([1.0, -1.0]) * (0.5 - mean)

    images, labels = np.full((6, 16, 16, 3), 0.25, np.float32), np.zeros(6, int)
    found = rtl.attack(exported, images, labels, 0.1, rtl.PGD("linf", steps=1), batch_size=4)
    assert found.robust_accuracy == 1
    certified = rtl.certify(exported, images, labels, rtl.Smoothing(samples=20), batch_size=4)
    assert len(certified.radii) == 6
    measured = rtl.corruption_accuracy(
        exported, images, labels, names={"contrast"}, severities={5}, batch_size=4
    )
    assert measured.clean == 1


def test_attacks_have_seeds_of_their_own(source) -> None:
    data = np.zeros((2, 8, 8, 3)), [0, 1]
    for use in (
        lambda: rtl.attack(source, *data, 0.5, rtl.PGD("l2"), seed=-1),
        lambda: rtl.autoattack(source, *data, 0.5, rtl.AutoAttack("l2"), seed=2**32),
        lambda: rtl.certify(source, *data, rtl.Smoothing(0.5), seed=1.5),
    ):
        with pytest.raises(rtl.UserError, match="seed: expected a whole number"):
            use()


def test_random_sources_have_seeds_of_their_own() -> None:
    with pytest.raises(rtl.UserError, match="seed: expected a whole number"):
        rtl.load("random", arch="resnet18", seed=2**32)


def test_pixels_are_checked_in_every_use(source) -> None:
    """Floats of 0 to 255 and NaN would be clipped, or spread, in silence."""
    images = np.full((2, 8, 8, 3), 200.0)
    for use in (
        lambda pixels: source.predict_proba(pixels),
        lambda pixels: source.features(pixels),
        lambda pixels: rtl.attack(source, pixels, [0, 1], 0.5, rtl.PGD("l2", steps=1)),
        lambda pixels: rtl.corrupt(pixels, "fog", severity=1),
    ):
        with pytest.raises(rtl.UserError, match=r"images: expected pixels in \[0, 1\], found 200"):
            use(images)
        with pytest.raises(rtl.UserError, match=r"expected pixels in \[0, 1\], .*\(NaN\)"):
            use(np.where(np.arange(3) == 1, np.nan, images / 255))
        with pytest.raises(rtl.UserError, match="images: expected one or more"):
            use(images[:0])


def test_whole_numbers_are_no_pixels_of_logits(source) -> None:
    """Clipped to [0, 1] they would be black and white, and a mean of whole numbers is 0."""
    images = np.full((2, 8, 8, 3), 200, np.uint8)
    with pytest.raises(rtl.UserError, match=r"expected floats in \[0, 1\], received uint8: divide"):
        source.logits_fn()(images)
    expected = source.logits(source.features(images))
    found = source.logits_fn()(images.astype(np.float64) / 255)  # float64 makes no warning
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


class Scorer:
    """A model of other libraries: an object with weights and a method."""

    def __init__(self) -> None:
        self.weights, self.scale = np.array([1.0, -1.0], np.float32), 1.0

    def logits(self, images: jax.Array) -> jax.Array:
        mean = images.mean((1, 2, 3))[:, None]
        return self.scale * jax.numpy.asarray(self.weights) * (0.5 - mean)


@pytest.mark.parametrize(
    "accuracy",
    [
        lambda *pair: rtl.attack(*pair, 0.01, rtl.PGD("l2", steps=1)).robust_accuracy,
        lambda *pair: (
            rtl.autoattack(
                *pair, 0.01, rtl.AutoAttack("l2", attacks=("apgd-ce",), steps=2)
            ).robust_accuracy
        ),
        lambda *pair: rtl.certify(*pair, rtl.Smoothing(samples=50)).certified_accuracy(0),
        lambda *pair: rtl.corruption_accuracy(*pair, names=["contrast"], severities=[1]).clean,
    ],
)
def test_weights_of_an_object_may_change_between_calls(accuracy) -> None:
    """A program compiled for the old weights must not answer for the new ones."""
    model, images, labels = Scorer(), np.full((2, 16, 16, 3), 0.2, np.float32), [0, 0]
    assert accuracy(model.logits, images, labels) == 1
    model.weights = -model.weights
    assert accuracy(model.logits, images, labels) == 0
    model.scale = -1.0
    assert accuracy(model.logits, images, labels) == 1


def test_a_function_is_compiled_once() -> None:
    """While its weights stay as they are."""
    model, images, calls = Scorer(), np.full((2, 16, 16, 3), 0.2, np.float32), []

    def counted(images: jax.Array) -> jax.Array:
        calls.append(len(images))
        return model.logits(images)

    numbers = []
    for _ in range(3):
        rtl.attack(counted, images, [0, 0], 0.01, rtl.PGD("l2", steps=1))
        numbers.append(len(calls))
    first, second, third = np.diff([0, *numbers])
    assert first > second == third == 1  # to look at the weights


@pytest.mark.parametrize(
    "use",
    [
        lambda *pair: rtl.attack(*pair, 0.1, rtl.PGD("l2", steps=1)),
        lambda *pair: rtl.autoattack(*pair, 0.1, rtl.AutoAttack("l2", attacks=("apgd-ce",))),
        lambda *pair: rtl.certify(*pair, rtl.Smoothing(samples=10)),
        lambda *pair: rtl.corruption_accuracy(*pair, names=["contrast"], severities=[1]),
    ],
)
def test_every_image_has_a_label_that_is_a_class(source, use) -> None:
    """More images or more labels would be left out, and a label of -1 would be a wrong class."""
    images, two = np.full((3, 16, 16, 3), 0.5, np.float32), np.array([1.0, -1.0], np.float32)

    def dark(pixels: jax.Array) -> jax.Array:
        return (0.6 - pixels.mean((1, 2, 3)))[:, None] * two

    for model in (dark, source):
        for number, labels in ((3, [0, 1]), (2, [0, 1, 0]), (0, []), (1, 0)):
            with pytest.raises(rtl.UserError, match=r"^(images|labels).*: expected"):
                use(model, images[:number], np.array(labels, int))
    for labels in ([-1, 0, 1], [1, 2, 1]):
        with pytest.raises(rtl.UserError, match=r"labels: expected 0 to 1, .* found "):
            use(dark, images, labels)
    with pytest.raises(rtl.UserError, match=r"model: expected logits \[N, classes\]"):
        use(lambda pixels: pixels, images, [0, 1, 0])


def test_a_radius_in_grey_levels_is_refused(source) -> None:
    images, labels = np.zeros((1, 8, 8, 3)), [0]
    with pytest.raises(rtl.UserError, match=r"eps: expected at most 1 in linf.* \(8/255 for 8-bit"):
        rtl.attack(source, images, labels, 8, rtl.PGD("linf", steps=1))
    assert rtl.attack(source, images, labels, 8, rtl.PGD("l2", steps=1)).norms.max() <= 8
    with pytest.raises(rtl.UserError, match="eps: expected at most 1 in linf"):
        rtl.autoattack(source, images, labels, 8, rtl.AutoAttack("linf"))
    with pytest.raises(rtl.UserError, match="eps: expected a radius of 0 or more, received None"):
        rtl.autoattack(source, images, labels, None, rtl.AutoAttack("linf"))
    images, labels = np.zeros((4, 8, 8, 3)), [0, 1] * 2
    with pytest.raises(rtl.UserError, match="eps: expected at most 1 in linf"):  # 3 is for L2
        rtl.finetune(source, images, labels, perturb=rtl.PGD("linf", steps=1))


def test_influence_takes_pairs_of_images_and_labels(source) -> None:
    images, labels = np.zeros((4, 8, 8, 3)), [0, 1] * 2
    with pytest.raises(
        rtl.UserError, match=r"train: expected \(images, labels\), received ndarray"
    ):
        rtl.influence(source, images, labels)
    with pytest.raises(rtl.UserError, match=r"test: expected \(images, labels\)"):
        rtl.perturb_training(source, (images, labels), images, [[0, 0]], 0.5)
    with pytest.raises(rtl.UserError, match="damping: expected a number of 0 or more"):
        rtl.influence(source, (images, labels), (images, labels), damping=-1.0)


def test_a_source_is_a_network() -> None:
    with pytest.raises(rtl.UserError, match=r"such as rtl\.load\('bundled:l2_24'\), received str"):
        rtl.finetune("bundled:l2", np.zeros((4, 8, 8, 3)), [0, 1] * 2)


def test_numpy_numbers_are_settings(digits, source) -> None:
    few = digits.train.take(np.arange(20))
    settings = dict(recipe=RECIPE, epochs=np.int64(1), learning_rate=np.float32(0.5))
    one = rtl.finetune(source, few.images, few.labels, **settings)
    other = rtl.finetune(source, few.images, few.labels, recipe=RECIPE, epochs=1, learning_rate=0.5)
    assert one.digest == other.digest


def test_divergence_names_the_seeds(digits, source) -> None:
    few = digits.train.take(np.arange(30))
    with pytest.raises(rtl.UserError, match=r"diverged for the seeds \[1, 2\]"):
        rtl.finetune(source, few.images, few.labels, seeds=(1, 2), learning_rate=1e30)


def test_a_network_goes_to_a_file_and_to_torch(tmp_path: Path, digits, source) -> None:
    few = digits.train.take(np.arange(30))
    network = rtl.finetune(source, few.images, few.labels, recipe=RECIPE, epochs=1)
    network.save(tmp_path / "mine")
    again = rtl.load(str(tmp_path / "mine"))
    assert again.digest == network.digest and again.class_names == network.class_names
    np.testing.assert_array_equal(
        again.predict_proba(few.images), network.predict_proba(few.images)
    )
    assert network.export(tmp_path / "mine.safetensors").exists()


def test_labels_that_are_numbers_are_compared_by_value(digits, source) -> None:
    """They were names or indices, depending on which others were among them."""
    few = digits.train.take(np.arange(30))
    network = rtl.finetune(source, few.images, few.labels + 1.0, blocks=0, epochs=1)
    assert network.class_names[:2] == ("1.0", "2.0")
    for subset in (few.labels < 9, few.labels < 10):
        images, labels = few.images[subset], few.labels[subset] + 1
        with pytest.warns(UserWarning, match="was trained on"):
            found, other = (
                rtl.attack(network, images, each, 0.0, rtl.PGD("l2", steps=1))
                for each in (labels, labels.astype(float))
            )
        np.testing.assert_array_equal(found.success, other.success)
        right = network.predict_proba(images).argmax(1) == few.labels[subset]
        np.testing.assert_array_equal(found.success, ~right)
    with pytest.raises(rtl.UserError, match="labels: 0 is not among .*, not numbers from 0"):
        rtl.attack(network, few.images, few.labels, 0.0, rtl.PGD("l2", steps=1))


def test_influence_on_other_training_images_says_so(digits, source) -> None:
    few, other = digits.train.take(np.arange(30)), digits.train.take(np.arange(20, 40))
    network = rtl.finetune(source, few.images, few.labels, blocks=0, head_fit="logistic")
    test = few.images[:1], few.labels[:1]
    with pytest.warns(UserWarning, match="10 of the 20 .* not among these, and 20 of these are mi"):
        rtl.influence(network, (other.images, other.labels), test)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rtl.influence(network, (few.images[::-1], few.labels[::-1]), test)


def test_an_attack_without_a_gradient_says_so() -> None:
    images, labels = np.full((4, 8, 8, 3), 0.5, np.float32), np.zeros(4, int)

    def rounded(images: jax.Array) -> jax.Array:
        mean = images.mean((1, 2, 3))[:, None].round(1)
        return np.array([1.0, -1.0]) * (1 - mean)

    with pytest.warns(UserWarning, match="the attack changed no image"):
        found = rtl.attack(rounded, images, labels, 0.5, rtl.PGD("l2", steps=2))
    assert found.robust_accuracy == 1.0


def test_images_of_another_range_are_named(digits, source) -> None:
    """Raw digits have 0 to 16, and would be nearly black."""
    few = digits.train.take(np.arange(20))
    raw = (few.images // 16).astype(np.uint8)
    with pytest.warns(UserWarning, match="no pixel .* is brighter than 15 of 255"):
        rtl.finetune(source, raw, few.labels, blocks=0, epochs=1)


def test_settings_of_another_kind_are_refused(source) -> None:
    images, labels = np.zeros((1, 8, 8, 3)), [0]
    for settings, said in (
        ("l2", "received str"),
        (rtl.PGD, "received the class PGD"),
        (rtl.AutoAttack("l2"), "received AutoAttack; rtl.autoattack takes"),
    ):
        with pytest.raises(rtl.UserError, match=rf'settings: expected.*PGD\("l2"\), {said}'):
            rtl.attack(source, images, labels, 0.5, settings)
    with pytest.raises(rtl.UserError, match="settings: expected.*AutoAttack.* received PGD"):
        rtl.autoattack(source, images, labels, 0.5, rtl.PGD("l2"))
    with pytest.raises(rtl.UserError, match="settings: expected.*Smoothing.* received float"):
        rtl.certify(source, images, labels, 0.25)
    with pytest.raises(rtl.UserError, match="batch_size: expected a whole number, .* received 0"):
        rtl.attack(source, images, labels, 0.5, rtl.PGD("l2"), batch_size=0)
    with pytest.raises(rtl.UserError, match="eps: expected a number such as 8 / 255"):
        rtl.attack(source, images, labels, "8/255", rtl.PGD("linf"))
    with pytest.raises(rtl.UserError, match="model: expected a network.* list: pass one of its"):
        rtl.attack([source], images, labels, 0.5, rtl.PGD("l2"))
    with pytest.raises(rtl.UserError, match="labels: expected whole numbers with a function"):
        rtl.attack(lambda images: images, images, ["a"], 0.5, rtl.PGD("l2"))


TINY, CE = np.full((2, 16, 16, 3), 0.5, np.float32), AutoAttack("l2", attacks=("apgd-ce",))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: corrupted(severities=3), r"severities: expected a list.* received 3"),
        (lambda: corrupted(severities=[]), r"severities: expected a list.* received \[\]"),
        (lambda: corrupted(severities=[3.0]), "a severity of 1 to 5, received 3.0"),
        (lambda: corrupted(seed=-1), "seed: expected a whole number, 0 or more, received -1"),
        (lambda: corrupted(batch_size=0), "batch_size: expected a whole number, 1 or more"),
        (lambda: corrupted(names="fog"), r"names: expected a list such as \['fog'\]"),
        (lambda: rtl.corrupt(TINY, "fog", 3.0), "a severity of 1 to 5, received 3.0"),
        (lambda: rtl.corrupt(TINY, "fog", seed=-1), "seed: expected a whole number, 0 or more"),
        (lambda: rtl.autoattack(darkness, TINY, [0, 0], [0.1, 0.2], CE), "eps: expected a radius"),
        (lambda: rtl.attack(darkness, TINY, [0, 0], [], rtl.PGD("l2")), "eps: expected a number"),
        (lambda: Gaussian(loss="entropy"), "Gaussian: loss: expected one of 'cross_entropy'"),
        (lambda: FAB("l2", targets=-1), "FAB: targets: expected a whole number, 0 or more"),
        (lambda: APGD("l2", "dlr", targets=-1), "APGD: targets: expected a whole number, 0 or"),
        (lambda: AutoAttack("l2", steps=2.5), "AutoAttack: steps: expected a whole number, 1 or"),
    ],
)
def test_other_mistakes_are_named(use, message: str) -> None:
    with pytest.raises(rtl.UserError, match=message):
        use()


def darkness(images: jax.Array) -> jax.Array:
    """Return logits of 300 classes, of which the first is for dark images and the last for none."""
    mean = images.mean((1, 2, 3))[:, None]
    return jax.numpy.concatenate([0.6 - mean, mean - 0.6, mean * 0 - np.arange(1, 299)], axis=1)


def corrupted(**changes):
    settings = {"names": ["fog"], "severities": [1], **changes}
    return rtl.corruption_accuracy(darkness, TINY, [0, 0], **settings)


def test_counts_and_labels_of_numpy() -> None:
    """NumPy's whole numbers are settings, and 8 bits suffice for labels of many classes."""
    three = np.int64(3)
    assert rtl.PGD("l2", steps=three) == rtl.PGD("l2", steps=3)
    assert type(rtl.AutoAttack("l2", steps=three, queries=three).steps) is int
    assert rtl.corrupt(TINY, "fog", three).shape == TINY.shape
    for labels in (np.zeros(2, np.uint8), np.zeros(2, np.int8), np.zeros(2, np.int64)):
        found = rtl.attack(darkness, TINY, labels, np.float32(0.01), rtl.PGD("l2", steps=three))
        assert found.robust_accuracy == 1


def test_sources_are_named_in_a_list_or_a_mapping(source) -> None:
    images, labels = np.zeros((4, 8, 8, 3)), [0, 1] * 2
    with pytest.raises(rtl.UserError, match="sources: expected a list of names.* received str"):
        rtl.choose("bundled:l2", images, labels)
    with pytest.raises(rtl.UserError, match="sources: expected a list.* received a Network"):
        rtl.choose([source], images, labels)
    with pytest.raises(rtl.UserError, match="blocks: expected a list of whole numbers"):
        rtl.choose(["bundled:l2"], images, labels, blocks=0)
    with pytest.raises(rtl.UserError, match="Did you mean bundled:l2_24"):
        rtl.load("l2_24")


def test_a_network_is_shown_without_its_weights(tmp_path: Path, source) -> None:
    assert repr(source) == "<Network resnet18, 1000 classes, 8 px>"
    source.save(tmp_path / "mine")
    assert rtl.load(tmp_path / "mine").digest == source.digest  # a path that is no text


def test_a_digest_tells_what_variables_do_not_show(source) -> None:
    """Of two conversions of the same weights, only one is right: they are not the same run."""
    arch = source.architecture
    others = [
        arch.replace(**change)
        for change in (
            {"activation": "silu"},
            {"bn_eps": 1e-3},
            {"stem_stride": 2},
            {"stem_pool": True},
            {"mean": (0.0, 0.0, 0.0)},
        )
    ]
    digests = {source.replace(architecture=other).digest for other in (arch, *others)}
    assert len(digests) == 6
    # Names of runs from the bundled sources stay as they are published.
    assert rtl.load("bundled:l2").digest.startswith("10bb7c232019")


def test_a_file_keeps_stem_and_image_size(tmp_path: Path, monkeypatch) -> None:
    """A stride of 2 in a small stem was read as 1, and the size was ImageNet's."""
    monkeypatch.setenv("RTL_JAX_CACHE_DIR", str(tmp_path))
    source = rtl.load("bundled:l2")
    again = rtl.load(source.export(tmp_path / "l2.safetensors"))
    assert again.architecture.stem_stride == 2 and again.image_size == 32
    assert again.digest == source.digest
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(again.predict_proba(images), source.predict_proba(images), atol=1e-6)
