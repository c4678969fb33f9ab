"""Running attacks: vmap, compilation, single examples and invalid input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial

from rtl_jax.attacks import PGD, Adversarial, Gaussian, attack, robustness_curve
from rtl_jax.errors import UserError
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.model import bind, definition, initialize
from rtl_jax.models.network import Network
from tests.attacks.models import _mlp, distance, mlp, pictures

pytestmark = pytest.mark.slow

KEY = jax.random.key(3)
IMAGES, LABELS = pictures(12), np.arange(12) % 4
RANDOM = PGD("l2", steps=4, random_start=True, restarts=2)

NETWORK = ResNetArchitecture(
    "tiny",
    "basic",
    (1,),
    (4,),
    stem_width=4,
    stem_kernel=3,
    stem_stride=1,
    stem_pool=False,
    num_classes=4,
)


def close(ours: Adversarial, theirs: Adversarial, tolerance: float = 1e-5) -> None:
    np.testing.assert_array_equal(ours.success, theirs.success)
    for a, b in ((ours.images, theirs.images), (ours.losses, theirs.losses)):
        np.testing.assert_allclose(a, b, atol=tolerance)


# ---- vmap --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "num_parallel"),
    [
        (PGD("linf", steps=4), 5),
        (PGD("l2", steps=4, keep="last"), 2),
        (PGD("linf", steps=1), None),
        (PGD("linf", steps=3, unroll=True), None),
        (RANDOM, 5),
        (Gaussian("l2"), 1),
    ],
)
def test_a_curve_equals_separate_calls(settings: PGD, num_parallel: int | None) -> None:
    eps = [0.0, 0.01, 0.05, 0.2, 0.8]
    curve = robustness_curve(mlp(), IMAGES, LABELS, eps, settings, KEY, num_parallel=num_parallel)
    assert curve.images.shape == (5, 12, 4, 4, 3) and curve.robust_accuracy.shape == (5,)
    for index, one in enumerate(eps):
        alone = attack(mlp(), IMAGES, LABELS, one, settings, KEY)
        close(jax.tree.map(lambda leaf, index=index: leaf[index], curve), alone)
    np.testing.assert_array_equal(curve.images[0], IMAGES)


def test_vmap_over_seeds() -> None:
    """Maps over weights and keys; each result equals that of a separate attack."""
    models = [mlp(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    keys = jax.random.split(KEY, 3)
    found = jax.vmap(lambda model, key: attack(model, IMAGES, LABELS, 0.2, RANDOM, key))(
        stacked, keys
    )
    for seed, model in enumerate(models):
        alone = attack(model, IMAGES, LABELS, 0.2, RANDOM, keys[seed])
        close(jax.tree.map(lambda leaf, seed=seed: leaf[seed], found), alone)


def test_the_packages_networks_and_vmap_over_their_seeds() -> None:
    keys = jax.random.split(KEY, 2)
    params, stats = jax.jit(jax.vmap(partial(initialize, NETWORK)))(keys)
    logits_of = jax.jit(lambda params, stats, x: bind(definition(NETWORK), params, stats)(x))
    settings = PGD("linf", steps=2)

    def run(params: dict, stats: dict) -> Adversarial:
        return attack(Network(NETWORK, params, stats).logits_fn(), IMAGES, LABELS, 0.1, settings)

    found = jax.vmap(run)(params, stats)
    for seed in range(2):
        own = jax.tree.map(lambda leaf, seed=seed: leaf[seed], (params, stats))
        close(jax.tree.map(lambda leaf, seed=seed: leaf[seed], found), run(*own), 1e-4)
        logits = logits_of(*own, found.images[seed])
        np.testing.assert_array_equal(found.success[seed], logits.argmax(1) != LABELS)
    half = Network(NETWORK, *own).logits_fn(dtype=jnp.bfloat16)
    result = attack(half, IMAGES, LABELS, 0.1, settings)
    assert result.images.dtype == result.losses.dtype == jnp.float32
    assert distance(result.images, IMAGES, "linf").max() <= 0.1 + 1e-6


def test_black_and_white_pixels_have_their_whole_gradient() -> None:
    """As in torch, whose clamp passes the gradient at its bounds; JAX's clip halves it."""
    params, stats = initialize(NETWORK, KEY)
    model = Network(NETWORK, params, stats).logits_fn()

    @jax.jit
    def slope(image: jax.Array) -> jax.Array:
        return jax.grad(lambda x: model(x)[0, 0])(image)

    edge = np.random.default_rng(0).integers(0, 2, (1, 4, 4, 3)).astype(np.float32)
    inside = np.clip(edge, 1e-6, 1 - 1e-6)
    assert np.abs(slope(edge)).max() > 0.01
    np.testing.assert_allclose(slope(edge), slope(inside), rtol=1e-3, atol=1e-6)


# ---- Batches and single examples ---------------------------------------------------------------


@pytest.mark.parametrize("settings", [PGD("linf", steps=4), RANDOM, Gaussian("linf", sigma=0.1)])
def test_an_image_does_not_know_its_batch(settings: PGD) -> None:
    whole = attack(mlp(), IMAGES, LABELS, 0.1, settings, KEY)
    order = np.array([7, 2, 11])
    part = attack(mlp(), IMAGES[order], LABELS[order], 0.1, settings, KEY, indices=order)
    close(part, jax.tree.map(lambda leaf: leaf[order], whole))
    one = attack(mlp(), IMAGES[7], LABELS[7], 0.1, settings, KEY, indices=7)
    assert one.images.shape == (4, 4, 3) and one.success.shape == ()
    close(one, jax.tree.map(lambda leaf: leaf[7], whole))


def test_a_curve_of_one_example() -> None:
    curve = robustness_curve(mlp(), IMAGES[0], LABELS[0], [0.1, 0.2], PGD("l2", steps=1))
    assert curve.images.shape == (2, 4, 4, 3) and curve.success.shape == (2,)
    np.testing.assert_array_equal(curve.robust_accuracy, 1 - np.asarray(curve.success, float))


@pytest.mark.parametrize("label", [np.int64(2), 2, jnp.asarray(2), np.array(2)])
def test_the_robust_accuracy_of_one_example_is_a_number(label: int) -> None:
    """0 or 1, for any type of label."""
    settings, image = PGD("linf", steps=2), IMAGES[2]
    right = int(np.asarray(mlp()(image[None])).argmax())
    for shift, expected in ((0, 1.0), (1, 0.0)):
        model = Partial(_mlp, {**mlp().args[0], "second": _turned(right + shift, int(label))})
        found = attack(model, image, label, 0.0, settings)
        assert float(found.robust_accuracy) == expected and found.robust_accuracy.shape == ()


def _turned(source: int, destination: int) -> np.ndarray:
    """Relabel class `source` of the second layer as `destination`."""
    return np.roll(mlp().args[0]["second"], destination - source, axis=1)


def test_an_eps_for_every_image() -> None:
    eps = np.linspace(0, 0.3, 12)
    found = attack(mlp(), IMAGES, LABELS, eps, PGD("l2", steps=4))
    assert (distance(found.images, IMAGES, "l2") <= eps + 1e-6).all()
    for index in (3, 11):
        alone = attack(mlp(), IMAGES[index], LABELS[index], eps[index], PGD("l2", steps=4))
        np.testing.assert_allclose(found.images[index], alone.images, atol=1e-5)


def test_old_style_keys_and_float64() -> None:
    settings = PGD("l2", steps=2, random_start=True, keep="last")
    assert attack(mlp(), IMAGES, LABELS, 0.1, settings, jax.random.PRNGKey(0)).valid.all()
    with jax.enable_x64(True):
        found = attack(mlp(), IMAGES.astype(np.float64), LABELS, 0.1, settings, KEY)
        assert found.images.dtype == found.losses.dtype == jnp.float64
        assert distance(found.images, IMAGES, "l2").max() <= 0.1


# ---- Compilation -------------------------------------------------------------------------------


def test_another_eps_or_other_weights_do_not_compile_again() -> None:
    traces = []

    def counted(params: dict, images: jax.Array) -> jax.Array:
        traces.append(images.shape)
        return _mlp(params, images)

    settings = PGD("linf", steps=3)
    attack(Partial(counted, *mlp(0).args), IMAGES, LABELS, 0.1, settings)
    robustness_curve(Partial(counted, *mlp(0).args), IMAGES, LABELS, [0.1, 0.2], settings)
    before = len(traces)
    assert before > 0
    for seed, eps in ((1, 0.2), (2, 1), (3, np.float32(0.3)), (4, jnp.asarray(0.4))):
        attack(Partial(counted, *mlp(seed).args), IMAGES, LABELS, eps, PGD("linf", steps=3))
        robustness_curve(Partial(counted, *mlp(seed).args), IMAGES, LABELS, [eps, 0], settings)
    assert len(traces) == before


def test_any_callable_is_a_model() -> None:
    class Network(nnx.Module):
        def __init__(self, seed: int):
            rngs = nnx.Rngs(seed)
            self.norm = nnx.BatchNorm(48, use_running_average=True, rngs=rngs)
            self.linear = nnx.Linear(48, 4, rngs=rngs)

        def __call__(self, images: jax.Array) -> jax.Array:
            return self.linear(self.norm(images.reshape(len(images), -1)))

    network, settings = Network(0), PGD("linf", steps=3)
    expected = attack(lambda images: network(images), IMAGES, LABELS, 0.1, settings)
    close(attack(network, IMAGES, LABELS, 0.1, settings), expected)
    close(attack(Partial(network), IMAGES, LABELS, 0.1, settings), expected)
    other = attack(Network(1), IMAGES, LABELS, 0.1, settings)
    assert np.abs(np.asarray(other.losses) - np.asarray(expected.losses)).max() > 0.01


# ---- What is wrong -----------------------------------------------------------------------------


def _nan_beyond(limit: jax.Array, images: jax.Array) -> jax.Array:
    logits = mlp()(images)
    beyond = images.reshape(len(images), -1).max(1) > limit
    return jnp.where(beyond[:, None], jnp.nan, logits)


def test_nan_logits_are_an_error_and_no_success() -> None:
    images = np.full((4, 4, 4, 3), 0.5, np.float32)
    images[2] = 0.75
    labels = np.arange(4)
    model = Partial(_nan_beyond, 0.8)
    for settings in (PGD("linf", steps=2), PGD("linf", steps=2, keep="last"), Gaussian("linf")):
        with pytest.raises(UserError, match="1 of 4 images"):
            attack(model, images, labels, 0.1, settings, KEY)
        # Inside another program nothing can be raised: it is in the result.
        inside = jax.jit(lambda x, s=settings: attack(model, x, labels, 0.1, s, KEY))(images)
        np.testing.assert_array_equal(inside.valid, [True, True, False, True])
        assert np.isnan(inside.robust_accuracy)  # an image that is not judged was not withstood
        assert not inside.success[2]
    with pytest.raises(UserError, match="1 of 8 images"):
        robustness_curve(model, images, labels, [0.01, 0.1], settings, KEY)
    assert robustness_curve(model, images, labels, [0.01, 0.02], settings, KEY).valid.all()


def test_a_gradient_that_is_not_finite_is_an_error() -> None:
    def model(images: jax.Array) -> jax.Array:
        root = jnp.sqrt(jnp.abs(images - images)).reshape(len(images), -1).sum(1)
        return jnp.stack([jnp.ones_like(root), jnp.nan_to_num(root)], axis=1)

    with pytest.raises(UserError, match="not finite"):
        attack(model, IMAGES, LABELS % 2, 0.1, PGD("linf", steps=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(images=IMAGES * 255), r"pixels in \[0, 1\].*normalisation"),
        (dict(images=IMAGES - 0.5), "scale them"),
        (dict(images=IMAGES * np.nan), "pixels"),
        (dict(images=(IMAGES * 255).astype(np.uint8)), "uint8"),
        (dict(labels=LABELS + 1), "0 to 3, found 1 to 4"),
        (dict(labels=LABELS - 1), "found -1"),
        (dict(labels=LABELS[:5]), "labels"),
        (dict(labels=LABELS / 2), "integers"),
        (dict(images=IMAGES[:0], labels=LABELS[:0]), "at least one"),
        (dict(eps=-0.1), "0 or more"),
        (dict(eps=float("nan")), "0 or more"),
        (dict(eps=[0.1, 0.2]), "one per image"),
        (dict(eps=None), "radius"),
        (dict(settings=PGD("unconstrained", step_size=0.1)), "unconstrained"),
        (dict(settings=RANDOM), "key"),
        (dict(indices=np.arange(3)), "indices"),
        (dict(logits_fn=3), "callable"),
        (dict(logits_fn=lambda x: x), "logits_fn must map"),
        (dict(num_parallel=0), "num_parallel"),
        (dict(restart_indices=np.arange(2)), "restart_indices"),
    ],
)
def test_wrong_arguments(change: dict, message: str) -> None:
    arguments = dict(
        logits_fn=mlp(), images=IMAGES, labels=LABELS, eps=0.1, settings=PGD("linf", steps=1)
    )
    with pytest.raises(UserError, match=message):
        attack(**{**arguments, **change})


def test_a_curve_needs_a_list_and_a_norm() -> None:
    with pytest.raises(UserError, match="list"):
        robustness_curve(mlp(), IMAGES, LABELS, 0.1, PGD("l2"))
    with pytest.raises(UserError, match="norm"):
        settings = PGD("unconstrained", step_size=0.1)
        robustness_curve(mlp(), IMAGES, LABELS, None, settings)
