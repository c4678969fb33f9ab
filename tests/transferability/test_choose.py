"""Sources are ranked by their quality, whatever their names and order."""

import jax
import numpy as np
import pytest

import rtl_jax as rtl
from rtl_jax.data.dataset import ImageSet
from rtl_jax.data.sources import load_dataset
from rtl_jax.data.transforms import prepare
from rtl_jax.errors import UserError
from rtl_jax.models.network import Network
from rtl_jax.transferability import choose
from rtl_jax.transferability.features import pooled_features

CLOSE = {"rtol": 2e-4, "atol": 1e-5}  # of two float32 programs for one network


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    train = load_dataset("digits", data_dir=None, image_size=32).train
    return train.take(np.arange(200))


@pytest.fixture(scope="module")
def sources() -> dict[str, Network]:
    known = rtl.load("bundled:l2")
    noise = known.replace(
        params={
            path: np.asarray(jax.random.permutation(jax.random.key(1), leaf.reshape(-1))).reshape(
                leaf.shape
            )
            for path, leaf in known.params.items()
        }
    )
    return {"noise": noise, "l2": known}


def test_features_are_the_network_s(digits: ImageSet, sources: dict[str, Network]) -> None:
    """At every boundary, averaged over positions; logits are those of the whole network."""
    network, images = sources["l2"], digits.images[:20]
    found = pooled_features(network, images, 32, 5, batch_size=8)
    assert sorted(found.boundaries) == [5, 6, 7, 8]
    np.testing.assert_allclose(found.boundaries[8], network.features(images), **CLOSE)
    pixels = prepare(images, 32)
    middle = np.asarray(network.features_fn(6)(pixels)).mean((1, 2))
    np.testing.assert_allclose(found.boundaries[6], middle, **CLOSE)
    np.testing.assert_allclose(found.logits, network.logits_fn()(pixels), atol=1e-3)


def test_a_trained_source_is_before_one_of_noise(
    digits: ImageSet, sources: dict[str, Network]
) -> None:
    ranked = choose(sources, digits, 10, (0, 2), image_size=32)
    assert [one.source for one in ranked[:2]] == ["l2", "l2"]
    assert len(ranked) == 4 and ranked[0].behind == 0
    assert [one.loss for one in ranked] == sorted(one.loss for one in ranked)
    worst = ranked[-1]
    assert worst.source == "noise" and worst.behind > worst.behind_margin > 0
    turned = choose(dict(reversed(sources.items())), digits, 10, (2, 0), image_size=32)
    assert [(one.source, one.blocks, one.loss) for one in turned] == [
        (one.source, one.blocks, one.loss) for one in ranked
    ]
    for name in (
        "log_me",
        "h_score",
        "leep",
        "nearest_neighbour",
        "nearest_mean",
        "split_ridge",
        "kernel_ridge",
    ):
        values = {one.source: one.scores[name] for one in ranked if one.blocks == 0}
        assert values["l2"] > values["noise"], name


def test_the_door(digits: ImageSet) -> None:
    names = np.array(["n" + str(label) for label in digits.labels])
    ranked = rtl.choose(["bundled:l2", "bundled:natural"], digits.images, names, blocks=(0,))
    assert {one.source for one in ranked} == {"bundled:l2", "bundled:natural"}
    assert 0.7 < ranked[0].accuracy <= 1
    once = rtl.choose(
        ["bundled:l2"],
        digits.images,
        names,
        blocks=iter((0, 1)),
        num_images=iter((30,)),
        draws=1,
    )
    assert len(once) == 2 and len(once[0].curve) == 1  # an iterator can be read only once


def test_copies_are_left_out_and_said(digits: ImageSet) -> None:
    few = digits.take(np.flatnonzero(digits.labels < 2)[:20])
    once = rtl.choose(["bundled:l2"], few.images, few.labels, blocks=(0,))
    with pytest.warns(UserWarning, match="20 of 40 images repeat others"):
        twice = rtl.choose(
            ["bundled:l2"], np.tile(few.images, (2, 1, 1, 1)), np.tile(few.labels, 2), blocks=(0,)
        )
    assert twice[0].loss == once[0].loss and twice[0].scores == once[0].scores


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sources": {"mine": "bundled:l2"}}, "sources: expected networks by name"),
        ({"sources": {}}, "sources: expected networks by name, one or more"),
        ({"blocks": ()}, "blocks: expected one number or more"),
        ({"blocks": (1.0,)}, "blocks: expected a list of whole numbers"),
        ({"num_images": (30.5,)}, "num_images: expected a list of whole numbers"),
        ({"seed": -1}, "seed: expected a whole number"),
    ],
)
def test_arguments_that_do_not_fit_are_said(digits: ImageSet, arguments: dict, words: str) -> None:
    known = {"sources": ["bundled:l2"], "images": digits.images, "labels": digits.labels}
    with pytest.raises(UserError, match=words):
        rtl.choose(**known | arguments)


def test_what_cannot_be_ranked_is_said(digits: ImageSet, sources: dict[str, Network]) -> None:
    once = digits.take(np.flatnonzero(digits.labels < 9)[:100])
    with pytest.raises(UserError, match="two or more images of every class"):
        choose(sources, once, 10, (0,), image_size=32)
    with pytest.raises(UserError, match="has 8 blocks, received 9"):
        choose(sources, digits, 10, (9,), image_size=32)
    broken = {path: np.full_like(leaf, np.nan) for path, leaf in sources["l2"].params.items()}
    with pytest.raises(UserError, match="features of l2 are not finite"):
        choose({"l2": sources["l2"].replace(params=broken)}, digits, 10, (0,), image_size=32)
