"""Every family of architectures keeps its contract, in small, and describes all its members."""

from pathlib import Path

import pytest

from rtl_jax.models import registry
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.convnext import ConvNeXtArchitecture
from rtl_jax.models.vit import ViTArchitecture
from tests.contracts.models import check_description, check_model, check_parts

pytestmark = pytest.mark.slow

STEM = {"stem_width": 8, "stem_kernel": 3, "stem_stride": 1, "stem_pool": False, "num_classes": 5}

# A small one or two of each family, every kind of block among them.
SMALL = {
    "resnet": (
        ResNetArchitecture("bottlenecks", "bottleneck", (1, 2), (4, 6), **STEM),
        ResNetArchitecture("basic", "basic", (1, 1, 1), (8, 8, 12), **{**STEM, "stem_pool": True}),
    ),
    "vit": (
        ViTArchitecture(
            "patches", width=12, depth=2, heads=3, patch=8, grid=(3, 3), mlp_width=20, num_classes=5
        ),
        ViTArchitecture(
            "convolutions",
            width=12,
            depth=1,
            heads=2,
            grid=(1, 1),
            mlp_width=16,
            stem="convolutions",
            stem_width=4,
            class_position=False,
            layer_scale=True,
            pool="average",
            norm_after_pool=True,
            num_classes=5,
        ),
    ),
    "convnext": (
        ConvNeXtArchitecture("patches", depths=(1, 2), widths=(8, 12), num_classes=5),
        ConvNeXtArchitecture(
            "convolutions",
            depths=(2, 1),
            widths=(8, 10),
            stem="three",
            kernel=3,
            layer_scale=False,
            norm_before_pool=True,
            num_classes=5,
        ),
    ),
}


def test_every_family_has_small_members() -> None:
    assert SMALL.keys() == registry.FAMILIES.keys()
    for name, members in SMALL.items():
        assert all(registry.to_dict(member)["family"] == name for member in members)


@pytest.mark.parametrize("member", sum(SMALL.values(), ()), ids=lambda member: member.name)
def test_models(member: registry.Architecture, tmp_path: Path) -> None:
    check_model(member, tmp_path)


@pytest.mark.parametrize(
    "member",
    [member for family in registry.FAMILIES.values() for member in family.named.values()],
    ids=lambda member: member.name,
)
def test_named_architectures(member: registry.Architecture) -> None:
    check_description(member)
    check_parts(member)
