"""PGD compared with closed forms, its options one by one, and the guarantees of its result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rtl_jax.attacks import FGSM, PAPER_PGD1, PAPER_PGD20, PGD, attack
from rtl_jax.errors import UserError
from tests.attacks.models import distance, linear, mlp, pictures

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)


# ---- The worst case ----------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
@pytest.mark.parametrize(
    ("settings", "dual", "eps"),
    [
        (PGD("l2"), 2, 0.08),
        (PGD("l2", steps=3, keep="last"), 2, 0.08),
        (PAPER_PGD1, 2, 0.08),
        (PGD("linf"), 1, 0.004),
        (PGD("linf", random_start=True), 1, 0.004),
        (FGSM, 1, 0.004),
    ],
)
def test_a_linear_models_worst_case(settings: PGD, dual: int, eps: float, loss: str) -> None:
    """No image in the ball has a smaller margin than the original's minus eps ||w||_dual."""
    w = (np.random.default_rng(0).normal(size=(16, 16, 3)) / 16).astype(np.float32)
    bias = -0.5 * float(w.sum())
    images = pictures(40, 16, 0.3, 0.7)

    def score(x: np.ndarray) -> np.ndarray:
        flat = np.asarray(x, np.float64).reshape(40, -1)
        return flat @ w.ravel().astype(np.float64) + bias

    labels = (score(images) > 0).astype(int)
    sign = 2 * labels - 1
    for radius in (eps, 10 * eps):
        settings = settings.replace(loss=loss)
        found = attack(linear(w, bias), images, labels, radius, settings, KEY)
        worst = sign * score(images) - radius * np.linalg.norm(w.ravel(), ord=dual)
        np.testing.assert_allclose(sign * score(found.images), worst, atol=1e-5, rtol=0)
        np.testing.assert_array_equal(found.success, worst < 0)
        if loss == "margin":
            np.testing.assert_allclose(-found.losses, worst, atol=1e-5, rtol=0)
        if radius == eps:
            assert 0.2 < found.success.mean() < 0.8


def test_the_worst_case_where_pixels_saturate() -> None:
    """Linf and [0, 1]: every pixel moves to the nearer bound of the ball and the box."""
    w = np.random.default_rng(1).normal(size=(8, 8, 3)).astype(np.float32)
    images, eps = pictures(20, 8), 0.3
    labels = np.ones(20, int)
    found = attack(linear(w, 0.0), images, labels, eps, PGD("linf"))
    expected = np.where(w > 0, np.maximum(images - eps, 0), np.minimum(images + eps, 1))
    np.testing.assert_allclose(found.images, expected, atol=1e-6)


def test_fgsm_is_one_signed_step() -> None:
    model, images, labels = mlp(), pictures(6), np.array([0, 1, 2, 3, 0, 1])

    def loss(image: jax.Array, label: int) -> jax.Array:
        return -jax.nn.log_softmax(model(image[None])[0])[label]

    gradient = np.stack([jax.grad(loss)(x, y) for x, y in zip(images, labels, strict=True)])
    expected = np.clip(images + 0.1 * np.sign(gradient), 0, 1)
    np.testing.assert_allclose(attack(model, images, labels, 0.1, FGSM).images, expected, atol=1e-6)


def test_the_papers_single_step_goes_two_eps_and_back() -> None:
    """From zero, a step of 6 along the normalised gradient, projected onto the ball of 3."""
    w = np.random.default_rng(2).normal(size=(32, 32, 3)).astype(np.float32)
    images = np.full((1, 32, 32, 3), 0.5, np.float32)
    found = attack(linear(w, 0.0), images, np.ones(1, int), 3.0, PAPER_PGD1)
    expected = images - 3 * w / np.linalg.norm(w)
    np.testing.assert_allclose(found.images, expected, atol=1e-6)
    assert PAPER_PGD1.step_sizes(jnp.asarray(3.0)) == 6
    assert PAPER_PGD20.step_sizes(jnp.asarray(3.0)) == 0.375


# ---- Inside the ball and the box ---------------------------------------------------------------


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize(("norm", "largest"), [("l2", 20.0), ("linf", 1.0)])
def test_never_outside(norm: str, largest: float, random_start: bool) -> None:
    rng = np.random.default_rng(0)
    images = np.concatenate(
        [
            pictures(4, 224),
            rng.integers(0, 2, (2, 224, 224, 3)).astype(np.float32),  # black and white
            np.full((1, 224, 224, 3), 0.9, np.float32),  # flat: all rounding goes one way
            np.full((1, 224, 224, 3), 0.1, np.float32),
        ]
    )
    labels = np.arange(8) % 2
    settings = PGD(norm, steps=3, random_start=random_start, keep="last")
    flat = Partial(_flat, jnp.ones(()))
    for eps in (0.0, 1e-7, 1e-5, 1e-3, 0.03, 0.5, 3.0, largest):
        found = attack(flat, images, labels, eps, settings, KEY)
        inside = np.asarray(found.images)
        assert inside.dtype == np.float32
        assert inside.min() >= 0 and inside.max() <= 1
        measured = distance(inside, images, norm)
        assert measured.max() <= eps + 1e-6
        if norm == "l2":  # here even without the tolerance
            assert measured.max() <= eps * (1 + 1e-9)
        np.testing.assert_allclose(found.norms, measured, rtol=1e-6, atol=1e-7)
        if eps == 0:
            np.testing.assert_array_equal(inside, images)
        if eps in (0.03, 0.5):
            assert measured[0] > 0.9 * eps  # and not far inside, either


def _flat(weight: jax.Array, images: jax.Array) -> jax.Array:
    """A gradient that is equal for all pixels, so that rounding errors add up."""
    score = weight * (images.reshape(len(images), -1) - 0.5).mean(1)
    return jnp.stack([jnp.zeros_like(score), score], axis=1)


def test_unconstrained_follows_the_gradient_to_the_box() -> None:
    w = np.random.default_rng(3).normal(size=(4, 4, 3)).astype(np.float32)
    images, labels = pictures(5), np.zeros(5, int)
    settings = PGD("unconstrained", steps=1, step_size=0.3, loss="margin", keep="last")
    found = attack(linear(w, 0.0), images, labels, None, settings)
    np.testing.assert_allclose(found.images, np.clip(images + 0.3 * w, 0, 1), atol=1e-6)
    np.testing.assert_allclose(found.norms, distance(found.images, images, "l2"), rtol=1e-5)
    far = attack(
        linear(w, 0.0),
        images,
        labels,
        None,
        settings.replace(step_size=1e3, random_start=True),
        KEY,
    )
    np.testing.assert_array_equal(far.images, np.broadcast_to(w > 0, images.shape))


def test_random_starts() -> None:
    """Uniform in the box; in a uniform direction on the sphere."""
    still = PGD("linf", steps=1, step_size=1e-30, random_start=True, keep="last")
    images, labels = np.full((500, 4, 4, 3), 0.5, np.float32), np.zeros(500, int)
    found = attack(mlp(), images, labels, 0.2, still, KEY)
    change = np.asarray(found.images) - 0.5
    assert abs(change.mean()) < 0.002 and abs(change.std() - 0.2 / 3**0.5) < 0.002
    assert 0.1999 < change.max() <= 0.2000001 and -0.2000001 <= change.min() < -0.1999
    found = attack(mlp(), images, labels, 0.2, still.replace(norm="l2"), KEY)
    change = np.asarray(found.images) - 0.5
    np.testing.assert_allclose(found.norms, 0.2, rtol=1e-5)
    assert abs(change.mean()) < 0.001
    np.testing.assert_allclose((change**2).mean(0), 0.2**2 / 48, rtol=0.3)


# ---- Which iterate, which restart --------------------------------------------------------------


def _chances(tables: jax.Array, images: jax.Array) -> jax.Array:
    """The probability of each class is a tabulated function of the only pixel."""
    return jnp.log(_along(tables, images))


def _along(curves: jax.Array, images: jax.Array) -> jax.Array:
    """The logit of each class is a tabulated function of the only pixel."""
    places = jnp.linspace(0, 1, curves.shape[1])
    return jax.vmap(lambda curve: jnp.interp(images[:, 0], places, curve))(curves).T


# The true class, 0, loses all the way, but in the middle all it loses goes to class 1 and at the
# end to many others: misclassified in the middle with a lower loss than at the end.
MIDDLE = np.array(
    [
        [0.90, 0.44, 0.30],
        [0.02, 0.48, 0.10],
        *[[0.01, 0.01, 0.075]] * 8,
    ],
    np.float32,
)


def test_a_misclassified_iterate_is_never_lost_for_a_higher_loss() -> None:
    model = Partial(_chances, MIDDLE)
    image, label = np.zeros(1, np.float32), np.asarray(0)
    walk = PGD("linf", steps=4, step_size=0.25)
    best = attack(model, image, label, 1.0, walk)
    assert best.success and best.images == 0.5
    for keep in ("loss", "last"):
        other = attack(model, image, label, 1.0, walk.replace(keep=keep))
        assert not other.success and other.images == 1.0
        assert other.losses > best.losses


def test_the_best_iterate_may_be_any_of_them() -> None:
    """Steps that are too large skip the maximum; the first and the last iterate count, too."""
    images = np.array([[0.5], [0.25], [0.0]], np.float32)  # maximum at the first, second, last
    peak = np.array([[1.0, 0.0, -1.0, 0.0, 1.0], [0.0, 1.0, 2.0, 1.0, 0.0]], np.float32)
    for steps, expected in ((1, [0.5, 0.5, 0.25]), (2, [0.5, 0.5, 0.5])):
        settings = PGD("linf", steps=steps, step_size=0.25, keep="loss")
        found = attack(Partial(_along, peak), images, np.zeros(3, int), 1.0, settings)
        np.testing.assert_allclose(found.images[:, 0], expected, atol=1e-6)


def _gate(directions: jax.Array, images: jax.Array) -> jax.Array:
    """Misclassified beyond a distant threshold; the gradient is zero almost everywhere."""
    out = (images - 0.5) @ directions
    return jnp.stack([jnp.zeros_like(out), jnp.sign(out - 0.08)], axis=1)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_every_restart_counts(keep: str) -> None:
    """Success is random here: for some images, only the first restart succeeds."""
    images, labels = np.full((200, 6), 0.5, np.float32), np.zeros(200, int)
    model = Partial(_gate, jnp.ones(6) / 6)
    settings = PGD("linf", steps=1, random_start=True, keep=keep)

    def succeeds(restarts: int, num_parallel: int | None = None) -> np.ndarray:
        now = settings.replace(restarts=restarts)
        found = attack(model, images, labels, 0.2, now, KEY, num_parallel=num_parallel)
        return np.asarray(found.success)

    alone = succeeds(1)
    assert 0.02 < alone.mean() < 0.3
    previous = alone
    for restarts in (2, 8):
        now = succeeds(restarts)
        assert (now >= previous).all() and now.sum() > previous.sum()
        previous = now
    # Each restart has the same chance, so nothing is counted twice or left out.
    expected = 1 - (1 - alone.mean()) ** 8
    assert abs(previous.mean() - expected) < 0.15
    if keep == "best":
        np.testing.assert_array_equal(succeeds(8, num_parallel=3), previous)


def test_no_image_becomes_right_by_being_attacked() -> None:
    """A random start may lie where the network is right."""
    images, labels = np.full((50, 6), 0.5, np.float32), np.ones(50, int)
    model = Partial(_gate, jnp.ones(6) / 6)  # class 0 at the original, class 1 behind the wall
    found = attack(model, images, labels, 0.2, PGD("linf", steps=1, random_start=True), KEY)
    assert found.success.all()


def test_targeted() -> None:
    model, images = mlp(scale=2.0), pictures(30)
    clean = np.asarray(model(images).argmax(1))
    targets = (clean + 1) % 4
    settings = PGD("linf", targeted=True)
    found = attack(model, images, targets, 0.3, settings)
    said = np.asarray(model(found.images).argmax(1))
    np.testing.assert_array_equal(found.success, said == targets)
    assert found.success.mean() > 0.5
    assert (
        np.asarray(found.losses) <= np.asarray(attack(model, images, targets, 0.0, settings).losses)
    ).all()
    by_dlr = attack(model, images, targets, 0.3, settings.replace(loss="dlr"))
    assert by_dlr.success.mean() > 0.3


def test_success_is_what_the_network_says_of_the_result() -> None:
    model, images = mlp(), pictures(64)
    labels = np.asarray(model(images).argmax(1))
    for settings, eps in (
        (PGD("l2", random_start=True, restarts=2), 0.3),
        (PGD("linf", loss="dlr", keep="last"), 0.03),
    ):
        found = attack(model, images, labels, eps, settings, KEY)
        logits = np.asarray(model(found.images))
        np.testing.assert_array_equal(found.success, logits.argmax(1) != labels)
        assert 0.1 < found.success.mean() < 0.9
        assert found.valid.all()
        assert found.robust_accuracy == pytest.approx(1 - found.success.mean())


def test_settings_are_checked() -> None:
    for bad in (
        dict(norm="l1"),
        dict(norm="l2", steps=0),
        dict(norm="l2", steps=2.5),
        dict(norm="l2", loss="hinge"),
        dict(norm="l2", keep="first"),
        dict(norm="l2", step_size=-1.0),
        dict(norm="l2", relative_step=0),
        dict(norm="l2", restarts=3),
        dict(norm="unconstrained"),
    ):
        with pytest.raises(UserError):
            PGD(**bad)
