"""Every registered threat model and attack keeps its contract, and so does an external one."""

import dataclasses
import typing
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtl_jax.attacks import PGD, Attack, AutoAttack, Gaussian, Threat, attack, make_attack
from rtl_jax.attacks.registry import ATTACKS, attack_names, display_name, register
from rtl_jax.attacks.restarts import RestartedAttack
from rtl_jax.attacks.threats import L2, THREATS, Linf, as_threat
from rtl_jax.errors import UserError
from rtl_jax.lab import config
from tests.contracts.attacks import IMAGES, KEY, LABELS, MODEL, check_attack, check_curve
from tests.contracts.threats import check_threat

pytestmark = pytest.mark.slow


@dataclasses.dataclass(frozen=True)
class FourierBall(Threat):
    """Changes of the `kept` lowest frequencies in each direction, with bounded L2 norm.

    Clamping would add other frequencies, so the whole change is scaled down to stay in [0, 1].
    """

    kept: int = 2

    name: ClassVar[str] = "fourier"
    display_name: ClassVar[str] = "Fourier"

    def low_pass(self, change: jax.Array) -> jax.Array:
        height, width = change.shape[:2]
        low = [np.abs(np.fft.fftfreq(size) * size) < self.kept for size in (height, width)]
        spectrum = jnp.fft.fft2(change, axes=(0, 1)) * (low[0][:, None] & low[1])[..., None]
        return jnp.fft.ifft2(spectrum, axes=(0, 1)).real.astype(change.dtype)

    def norm(self, change: jax.Array) -> jax.Array:
        return L2().norm(change)

    def step(self, gradient: jax.Array, size: jax.Array) -> jax.Array:
        return L2().step(self.low_pass(gradient), size)

    def project(self, image: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        change = self.low_pass(image - original)
        room = jnp.where(change > 0, 1 - original, original)
        within = jnp.min(jnp.where(change == 0, 1, room / jnp.abs(change)))
        tiny = jnp.finfo(change.dtype).tiny
        shorter = eps / jnp.maximum(self.norm(change), tiny)
        new = original + change * jnp.minimum(1, jnp.minimum(within, shorter))
        return jnp.clip(new, 0, 1)  # of rounding alone

    def random_change(self, key: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        return L2().random_change(key, original, eps)


@pytest.mark.parametrize("threat", [*THREATS.values(), FourierBall(), FourierBall(3)], ids=str)
def test_threats(threat: Threat) -> None:
    check_threat(threat)


def small(name: str, threat: Threat) -> Attack:
    """Make a short search by this attack, random if possible."""
    few = {"steps": 4, "queries": 12, "sigma": 0.1, "random_start": True}
    if not threat.has_radius:
        few["step_size"] = 0.1
    return make_attack(name, norm=threat, **few)


# Every class in every threat model that it supports; its further names in one alone.
FIRST = {ATTACKS[name].kind: name for name in reversed(attack_names(Attack))}
MEMBERS = [
    (name, threat)
    for name in attack_names(Attack)
    for threat in (*THREATS.values(), FourierBall())
    if ATTACKS[name].kind.supports(threat)
    and (name == FIRST[ATTACKS[name].kind] or threat == Linf())
]


@pytest.mark.parametrize(("name", "threat"), MEMBERS, ids=lambda value: str(value))
def test_attacks(name: str, threat: Threat) -> None:
    check_attack(small(name, threat))


@pytest.mark.parametrize(
    "settings",
    [
        PGD("l2", steps=3),
        PGD("linf", steps=3, targeted=True, loss="margin"),
        PGD("linf", steps=2, random_start=True, restarts=2, unroll=True, keep="loss"),
        make_attack("apgd-ce", norm="linf", steps=3, restarts=2),
        make_attack("fab", norm="linf", steps=3, restarts=2),
    ],
    ids=lambda settings: settings.display_name,
)
def test_other_settings(settings: Attack) -> None:
    check_attack(settings)
    check_curve(settings)


def test_every_attack_and_threat_has_been_checked() -> None:
    names = {name for name, _ in MEMBERS}
    assert names == set(attack_names(Attack)) == set(ATTACKS) - {"autoattack"}
    methods = typing.get_args(typing.get_type_hints(config.Attack)["method"])
    # No single attacks; the other two are in tests/test_smoothing.py and test_corruption_rows.py.
    alone = {"autoattack", "smoothing", "corruptions"}
    assert {*methods, *typing.get_args(config.AttackName)} - alone == names
    assert {str(threat) for _, threat in MEMBERS} == {*THREATS, "fourier(kept=2)"}


# ---- Seams -------------------------------------------------------------------------------------


def test_a_threat_from_elsewhere_works_at_once() -> None:
    """A class is all it takes: PGD finds what lies in its subspace, and only that."""
    threat, predicted = FourierBall(2), np.asarray(MODEL(IMAGES).argmax(1))
    found = attack(MODEL, IMAGES, predicted, 1.0, PGD(threat, steps=10), KEY)
    noise = attack(MODEL, IMAGES, predicted, 1.0, Gaussian(threat), KEY)
    wider = attack(MODEL, IMAGES, predicted, 1.0, PGD(FourierBall(3), steps=10), KEY)
    for result in (found, noise):
        change = np.asarray(result.images) - IMAGES
        spectrum = np.abs(np.fft.fft2(change, axes=(1, 2)))
        assert spectrum[:, 2].max() < 1e-5 < 1e-2 < spectrum[:, :2, :2].max()
    assert found.losses.mean() > noise.losses.mean()
    assert wider.losses.mean() > found.losses.mean()  # compiled anew for another parameter


def test_a_name_is_the_object() -> None:
    assert PGD("l2") == PGD(L2()) and hash(PGD("l2")) == hash(PGD(L2()))
    assert PGD("l2") != PGD("linf") and L2() != Linf()
    assert FourierBall(2) != FourierBall(3)
    assert PGD(FourierBall(2)) != PGD(FourierBall(3))
    assert as_threat("linf") == Linf() and as_threat(Linf()) == Linf()
    for wrong in (lambda: as_threat("l3"), lambda: PGD("l3"), lambda: AutoAttack("l3")):
        with pytest.raises(UserError, match="'l2', 'linf', 'l1', 'unconstrained'.*'l3'"):
            wrong()


def test_what_an_attack_cannot_do_is_said() -> None:
    for name in ("apgd-ce", "fab-t", "square"):
        with pytest.raises(UserError, match=r"norm: expected one of 'l2', 'linf', 'l1'.*fourier"):
            make_attack(name, norm=FourierBall())
    with pytest.raises(UserError, match="'l2', 'linf', 'unconstrained', received 'l1'"):
        PGD("l1")


def test_names() -> None:
    expected = {
        "pgd": "PGD(7)",
        "fourier": "PGD(7), frequencies 0 to 0.25",
        "gaussian": "Gaussian noise",
        "autoattack": "AutoAttack",
        **{name: name for name in attack_names(RestartedAttack)},
    }
    shown = {name: display_name(name, norm="l2", steps=7) for name in ATTACKS}
    assert shown == expected
    with pytest.raises(UserError, match="one of 'apgd-ce', .*'pgd'.*received 'deepfool'"):
        make_attack("deepfool", norm="l2")


def test_settings_of_all_attacks_serve_each() -> None:
    """One group of settings makes every attack; a name's fixed fields win, others are ignored."""
    group = {"norm": "l2", "steps": 7, "loss": "cross_entropy", "keep": "last", "sigma": 0.5}
    assert make_attack("pgd", **group) == PGD("l2", steps=7, keep="last")
    assert make_attack("gaussian", **group) == Gaussian("l2", sigma=0.5)
    dlr = make_attack("apgd-dlr", **group)
    assert (dlr.loss, dlr.steps, dlr.targets) == ("dlr", 7, 0)
    assert make_attack("autoattack", **group) == AutoAttack("l2")  # of 100 steps, as published


def test_two_attacks_cannot_have_one_name() -> None:
    with pytest.raises(ValueError, match="'pgd'"):
        register("pgd")(PGD)


def test_labels_are_used() -> None:
    """The contract's network is right on all images but one, so that attacks have work to do."""
    assert (np.asarray(MODEL(IMAGES).argmax(1)) != LABELS).sum() == 1
