"""Every family of architectures keeps its contract, in small, and describes all its members."""

from pathlib import Path

import pytest

from rtl_jax.models import registry
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.convnext import ConvNeXtArchitecture
from rtl_jax.models.densenet import DenseNetArchitecture
from rtl_jax.models.mobile import MobileArchitecture
from rtl_jax.models.preact import PreActArchitecture
from rtl_jax.models.shufflenet import ShuffleNetArchitecture
from rtl_jax.models.swin import SwinArchitecture
from rtl_jax.models.vgg import VGGArchitecture
from rtl_jax.models.vit import ViTArchitecture
from rtl_jax.models.xcit import XCiTArchitecture
from tests.contracts.models import check_description, check_model, check_parts

pytestmark = pytest.mark.slow

STEM = {"stem_width": 8, "stem_kernel": 3, "stem_stride": 1, "stem_pool": False, "num_classes": 5}

# A small one or two of each family, every kind of block among them.
SMALL = {
    "resnet": (
        ResNetArchitecture("bottlenecks", "bottleneck", (1, 2), (4, 6), **STEM),
        ResNetArchitecture("basic", "basic", (1, 1, 1), (8, 8, 12), **{**STEM, "stem_pool": True}),
        ResNetArchitecture(
            "grouped-d",
            "bottleneck",
            (1, 1),
            (8, 16),
            groups=2,
            deep_stem=(8,),
            average_shortcut=True,
            anti_aliasing="blur",
            **{**STEM, "stem_pool": True},
        ),
        ResNetArchitecture(
            "averaged", "basic", (1, 1), anti_aliasing="average", stage_widths=(6, 8), **STEM
        ),
    ),
    "swin": (
        SwinArchitecture(
            "windows", depths=(2, 1), heads=(2, 4), width=8, window=2, patch=2, num_classes=5
        ),
    ),
    "xcit": (
        XCiTArchitecture(
            "channels",
            width=16,
            depth=1,
            class_depth=2,
            heads=2,
            convolutions=3,
            patch=4,
            mlp_width=20,
            num_classes=5,
        ),
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
    "preact": (
        PreActArchitecture("raw", (1, 1), (6, 8), 4, "raw", 3, True, "end", 5),
        PreActArchitecture("activated", (1, 1), (6, 8), 4, "activated", activation="silu"),
    ),
    "densenet": (DenseNetArchitecture("dense", (2, 1), 4, 8, 2, 5),),
    "vgg": (
        VGGArchitecture("vgg", (1, 2), (6, 8, 8), True, 2, 10, 5),
        VGGArchitecture("vgg-plain", (2,), (6, 8), False, 2, 10, 5),
    ),
    "mobile": tuple(
        MobileArchitecture(kind, kind, 8, 6, (2, 1), (8, 8), (2, 1), (2, 3), (3, 5), 12, 5)
        for kind in ("mobilenet_v2", "mnasnet")
    ),
    "shufflenet": (ShuffleNetArchitecture("shuffle", (2, 1), (8, 12), 6, 10, 5),),
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
