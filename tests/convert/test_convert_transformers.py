"""Recent families, compared with the modules of timm, torchvision and robustbench.

Few blocks of few channels, with random weights, positions and scales.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from rtl_jax.convert import convert
from rtl_jax.convert.export import export
from rtl_jax.convert.layouts import LAYOUTS
from rtl_jax.errors import UserError
from rtl_jax.models.network import Network
from tests.last_block import require_the_same_training
from tests.reference_networks import jax_logits, reference, shaken, torch_logits

pytestmark = pytest.mark.slow

VIT = {"img_size": 64, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 7}
CONVNEXT = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32), "num_classes": 7}


class Case(NamedTuple):
    """A network, options that its file does not contain, and image sizes (height, width)."""

    name: str
    build: Callable[[], torch.nn.Module]
    options: dict[str, Any] = {}  # noqa: RUF012 (never written)
    sizes: tuple[tuple[int, int], ...] = ((64, 64), (96, 96))


def vit(**changes: Any) -> torch.nn.Module:
    module = reference("timm").models.vision_transformer
    return module.VisionTransformer(**{**VIT, "dynamic_img_size": True, **changes})


def convnext(**changes: Any) -> torch.nn.Module:
    return reference("timm").models.convnext.ConvNeXt(**{**CONVNEXT, **changes})


def torchvision_convnext() -> torch.nn.Module:
    module = reference("torchvision.models.convnext")
    widths, last = CONVNEXT["dims"], (None,)
    stages = [
        module.CNBlockConfig(width, after, depth)
        for width, after, depth in zip(widths, widths[1:] + last, CONVNEXT["depths"], strict=True)
    ]
    return module.ConvNeXt(stages, num_classes=7)


class ChannelNorm(torch.nn.LayerNorm):
    """Layer normalisation over the channels of images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvStem(torch.nn.Module):
    """Singh et al.'s stem: normalised convolutions of stride 2, followed by a given module."""

    def __init__(self, widths: list[int], strides: list[int], *last: torch.nn.Module) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for before, after, stride in zip([3, *widths], widths, strides, strict=False):
            layers.append(torch.nn.Conv2d(before, after, 3, stride, 1))
            layers += [ChannelNorm(after, eps=1e-6), torch.nn.GELU()]
        self.stem = torch.nn.Sequential(*layers, *last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stem(x)


def vit_convstem() -> torch.nn.Module:
    network = vit()
    widths = [6, 12, 24, 48]
    network.patch_embed.proj = ConvStem(widths, [2] * 4, torch.nn.Conv2d(48, 48, 1))
    return network


def convnext_convstem(widths: list[int], strides: list[int]) -> torch.nn.Module:
    network = convnext()
    network.stem = ConvStem(widths, strides)
    return network


def swin(**changes: Any) -> torch.nn.Module:
    module, sizes = reference("timm").models.swin_transformer, {"embed_dim": 8, "num_classes": 7}
    sizes |= {"depths": (2, 2), "num_heads": (2, 4), "window_size": 4, "strict_img_size": False}
    return module.SwinTransformer(**{**sizes, "img_size": 64, **changes})


def xcit(first: int = 2, **changes: Any) -> torch.nn.Module:
    module, sizes = reference("timm").models.xcit, {"embed_dim": 32, "num_classes": 7}
    sizes |= {"img_size": 64, "depth": 2, "num_heads": 4, "tokens_norm": True}
    network = module.Xcit(**{**sizes, **changes})
    for layer in (0, 2):  # where tokens are small, robustbench takes the strides away
        network.patch_embed.proj[layer][0].stride = (first, first)
    return network


def torchvision_vit() -> torch.nn.Module:
    module = reference("torchvision.models.vision_transformer")
    return module.VisionTransformer(64, 16, 2, 3, 48, 96, num_classes=7)


def torchvision_swin() -> torch.nn.Module:
    module = reference("torchvision.models.swin_transformer")
    return module.SwinTransformer([4, 4], 8, [2, 2], [2, 4], [4, 4], num_classes=7)


HEADS = {"heads": 3}
PRESENT = [
    Case("vit", vit, HEADS),
    Case("vit-average", lambda: vit(global_pool="avg"), HEADS, ((64, 64), (48, 80))),
    Case("vit-no-token", lambda: vit(global_pool="avg", class_token=False, fc_norm=False), HEADS),
    Case("deit3", lambda: vit(no_embed_class=True, init_values=1e-6, qkv_bias=False), HEADS),
    Case("vit-tanh", lambda: vit(act_layer=functools.partial(torch.nn.GELU, "tanh")),
         {**HEADS, "activation": "gelu_tanh"}, ((32, 32), (64, 64))),
    Case("vit-convstem", vit_convstem, HEADS, ((64, 64), (32, 48))),
    Case("convnext", convnext, {}, ((64, 64), (75, 50))),
    Case("convnext-hnf", lambda: convnext(conv_mlp=True, head_norm_first=True)),
    Case("convnext-no-scale", lambda: convnext(ls_init_value=None, norm_eps=1e-5),
         {"norm_eps": 1e-5}),
    Case("convnext-convstem-t", lambda: convnext_convstem([4, 8], [2, 2]), {},
         ((64, 64), (75, 50))),
    Case("convnext-convstem-b", lambda: convnext_convstem([4, 6, 8], [2, 2, 1])),
    Case("swin", swin, {}, ((64, 64), (72, 80))),
    Case("swin-window", lambda: swin(img_size=48, window_size=6), {}, ((48, 48),)),
    Case("xcit", xcit, {"tokens_norm": "yes"}, ((64, 64), (32, 48))),
    Case("xcit-small", lambda: xcit(1, tokens_norm=False), {"tokens_norm": "no", "patch": "4"},
         ((32, 32), (24, 32))),
    Case("xcit-p8", lambda: xcit(patch_size=8), {"tokens_norm": "yes"}, ((32, 48),)),
    Case("vit-torchvision", torchvision_vit, HEADS, ((64, 64),)),
    Case("swin-torchvision", torchvision_swin, {}, ((64, 64), (72, 80))),
    Case("convnext-torchvision", torchvision_convnext, {}, ((64, 64), (75, 50))),
]  # fmt: skip


def converted(module: torch.nn.Module, directory: Path, **options: Any) -> Network:
    torch.save(module.state_dict(), directory / "a.pth")
    convert(directory / "a.pth", directory / "out", report=lambda _: None, **options)
    return Network.load(directory / "out")


@pytest.mark.parametrize("case", PRESENT, ids=lambda case: case.name)
def test_logits_and_bytes(case: Case, tmp_path: Path) -> None:
    module = shaken(case.build())
    network = converted(module, tmp_path, **case.options)
    variables = {"params": network.params, "batch_stats": network.batch_stats}
    for height, width in case.sizes:
        images = np.random.default_rng(height).random((2, height, width, 3), np.float32)
        theirs = torch_logits(module, network.architecture, images)
        ours = jax_logits(network.architecture, variables, images)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
    number = sum(parameter.numel() for parameter in module.parameters())
    assert network.architecture.num_parameters == number
    export(tmp_path / "out", tmp_path / "b.pth", report=lambda _: None)
    back, saved = torch.load(tmp_path / "b.pth"), module.state_dict()
    assert back.keys() == saved.keys()
    assert all(torch.equal(back[name], saved[name]) for name in saved)


TRAINED = ("deit3", "convnext", "convnext-torchvision", "swin", "xcit")


@pytest.mark.parametrize("name", TRAINED)
def test_the_last_block_trains_as_in_torch(name: str, tmp_path: Path) -> None:
    """Five steps of SGD in float64 for the block, the normalisation after it, and the head."""
    case = next(case for case in PRESENT if case.name == name)
    atol = 1e-6 if name == "xcit" else 1e-9  # timm computes XCiT's positions in float32
    require_the_same_training(shaken(case.build()), tmp_path, 64, atol=atol, **case.options)


NAMED = [
    "deit_small_patch16_224", "deit3_base_patch16_224", "vit_base_patch32_224",
    "vit_large_patch16_224", "convnext_nano", "convnext_tiny", "convnext_small", "convnext_base",
    "convnext_large", "swin_tiny_patch4_window7_224", "swin_large_patch4_window12_384",
    "xcit_nano_12_p16_224", "xcit_small_12_p8_224",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_named_networks_are_recognised(name: str) -> None:
    from rtl_jax.convert.layouts import LAYOUTS
    from rtl_jax.convert.layouts.layout import mismatches

    with torch.device("meta"):
        module = reference("timm").create_model(name)
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    layout = next(
        each
        for each in LAYOUTS
        if any(first in shapes for first in each.first)
        and any(key.startswith(each.signs) for key in shapes)
        and each.fits(shapes)
    )
    found = layout.infer(shapes, {})
    assert found.name == name and not mismatches(layout, found, shapes)
    assert found.replace(mean=(0.0,) * 3) == layout.known[name].replace(
        mean=(0.0,) * 3, std=found.std
    )
    assert found.num_parameters == sum(value.numel() for value in module.parameters())


TORCHVISION = {
    "vit_b_16": "deit_base_patch16_224", "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224", "vit_h_14": "vit_huge_patch14_224",
    "swin_t": "swin_tiny_patch4_window7_224", "swin_b": "swin_base_patch4_window7_224",
}  # fmt: skip


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_named_networks_are_recognised(name: str) -> None:
    from rtl_jax.convert.layouts import layout_of
    from rtl_jax.convert.layouts.layout import mismatches

    with torch.device("meta"):
        module = getattr(reference("torchvision.models"), name)(weights=None)
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    family = "vit" if name.startswith("vit") else "swin"
    layout = next(each for each in LAYOUTS if each.name == f"{family}-torchvision")
    found = layout.infer(shapes, {})
    assert found.name == TORCHVISION[name] and not mismatches(layout, found, shapes)
    assert found.num_parameters == sum(value.numel() for value in module.parameters())
    assert layout_of(found, layout.name) is layout


def test_what_no_shape_shows_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pass --heads"):
        converted(shaken(vit()), tmp_path)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: reference("timm").models.deit.VisionTransformerDistilled(**VIT), "distilled"),
        (lambda: vit(reg_tokens=4, no_embed_class=True), "register tokens"),
        (
            lambda: reference("torchvision.models.swin_transformer").SwinTransformer(
                [4, 4],
                8,
                [1, 1],
                [2, 4],
                [4, 4],
                num_classes=7,
                block=reference("torchvision.models.swin_transformer").SwinTransformerBlockV2,
            ),
            "Swin transformer V2",
        ),
        (lambda: convnext(use_grn=True, ls_init_value=None), "ConvNeXt V2"),
    ],
)
def test_relatives_are_refused_by_name(
    build: Callable[[], torch.nn.Module], words: str, tmp_path: Path
) -> None:
    module = build()
    options = {} if "V2" in words else HEADS
    with pytest.raises(UserError, match=words):
        converted(module, tmp_path, **options)


def test_images_of_other_sizes_are_refused(tmp_path: Path) -> None:
    network = converted(vit(), tmp_path, **HEADS)
    variables = {"params": network.params, "batch_stats": network.batch_stats}
    with pytest.raises(UserError, match="multiples of 16, received 40 x 64"):
        jax_logits(network.architecture, variables, np.zeros((1, 40, 64, 3), np.float32))


def test_swin_of_before_2023_has_its_merging_behind_a_stage(tmp_path: Path) -> None:
    module = shaken(swin())
    (tmp_path / "new").mkdir()
    new = converted(module, tmp_path / "new")
    state = {
        name.replace("layers.1.downsample", "layers.0.downsample").replace("head.fc", "head"): value
        for name, value in module.state_dict().items()
    }
    buffers = {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16).long()}
    torch.save(state | buffers, tmp_path / "old.pth")
    convert(tmp_path / "old.pth", tmp_path / "old", report=lambda _: None)
    old = Network.load(tmp_path / "old")
    assert old.digest == new.digest and old.architecture == new.architecture
    export(tmp_path / "old", tmp_path / "back.pth", report=lambda _: None)
    assert torch.load(tmp_path / "back.pth").keys() == state.keys()


def test_torchvision_vit_of_before_2022_calls_its_mlps_otherwise(tmp_path: Path) -> None:
    module = shaken(torchvision_vit())
    (tmp_path / "new").mkdir()
    new = converted(module, tmp_path / "new", **HEADS)
    state = {
        name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): value
        for name, value in module.state_dict().items()
    }
    torch.save(state, tmp_path / "old.pth")
    convert(tmp_path / "old.pth", tmp_path / "old", report=lambda _: None, **HEADS)
    assert Network.load(tmp_path / "old").digest == new.digest
