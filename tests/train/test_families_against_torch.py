"""Fine-tuning, attacks and sweeps of families without batch statistics, compared with torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import rtl_jax as rtl
from rtl_jax.convert.layouts import entries
from rtl_jax.data.augmentation import Augmentation
from rtl_jax.errors import UserError
from rtl_jax.models import registry
from rtl_jax.models.convnext import ConvNeXtArchitecture
from rtl_jax.models.model import Weights, initialize
from rtl_jax.models.network import Network
from rtl_jax.models.swin import SwinArchitecture
from rtl_jax.models.vit import ViTArchitecture
from rtl_jax.models.xcit import XCiTArchitecture
from rtl_jax.train.freeze import combine
from rtl_jax.train.program import Program
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.split import SplitNetwork
from rtl_jax.train.step import Step
from tests.reference_networks import moved, reference
from tests.torch_networks import nchw

pytestmark = pytest.mark.slow

SIZE, STEPS = 32, 5
NONE = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "num_classes": 5}
VIT = ViTArchitecture("vit", width=24, depth=2, heads=3, patch=8, grid=(4, 4), mlp_width=32, **NONE)
CONVNEXT = ConvNeXtArchitecture("convnext", depths=(1, 1), widths=(8, 12), kernel=5, **NONE)
SWIN = SwinArchitecture(
    "swin", depths=(1, 2), heads=(2, 2), width=8, window=4, patch=2, mlp_ratio=2, **NONE
)
XCIT = XCiTArchitecture(
    "xcit", width=32, depth=1, class_depth=1, heads=4, convolutions=3, patch=8, mlp_width=32, **NONE
)


def timm_vit() -> torch.nn.Module:
    module = reference("timm").models.vision_transformer
    return module.VisionTransformer(
        img_size=SIZE, patch_size=8, embed_dim=24, depth=2, num_heads=3, mlp_ratio=4 / 3,
        num_classes=5,
    )  # fmt: skip


def timm_swin() -> torch.nn.Module:
    module = reference("timm").models.swin_transformer
    return module.SwinTransformer(
        img_size=SIZE, patch_size=2, embed_dim=8, depths=(1, 2), num_heads=(2, 2), window_size=4,
        mlp_ratio=2, num_classes=5, drop_path_rate=0.0,
    )  # fmt: skip


def timm_xcit() -> torch.nn.Module:
    module = reference("timm").models.xcit
    return module.Xcit(
        img_size=SIZE, patch_size=8, embed_dim=32, depth=1, cls_attn_layers=1, num_heads=4,
        mlp_ratio=1, num_classes=5, tokens_norm=True,
    )  # fmt: skip


def last_block(arch: registry.Architecture, path: str) -> bool:
    return arch.block_of(path) >= arch.num_blocks - 1


@pytest.mark.parametrize(
    ("arch", "build"),
    [(VIT, timm_vit), (SWIN, timm_swin), (XCIT, timm_xcit)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_last_block_trains_as_in_torch(arch, build) -> None:
    """Five steps of SGD in float64; frozen statistics, if any, do not change."""
    network = moved(build()).double()
    table = entries(arch)
    state = network.state_dict()
    trees: dict[str, dict] = {"params": {}, "batch_stats": {}}
    for entry in table:
        array = entry.arranged(state[entry.torch_name].numpy()).copy(order="C")
        trees[entry.collection][entry.path] = array
    trained = {e.torch_name for e in table if last_block(arch, e.path) and e.collection == "params"}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in trained)
    sgd = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad],
        lr=0.05,
        momentum=0.9,
        weight_decay=5e-4,
    )
    draw = np.random.default_rng(0)
    data = [(draw.uniform(size=(6, SIZE, SIZE, 3)), draw.integers(0, 5, 6)) for _ in range(STEPS)]
    for pixels, labels in data:
        sgd.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(nchw(pixels)), torch.from_numpy(labels))
        loss.backward()
        sgd.step()
    recipe = Recipe(
        blocks=1, frozen_batch_norm="source", batch_size=6, epochs=STEPS, learning_rate=0.05,
        drop_every=STEPS + 1,
    )  # fmt: skip
    with jax.enable_x64(True):
        split = SplitNetwork.of(arch, recipe, SIZE).replace(dtype=jnp.dtype(np.float64))
        program = Program(split, recipe, Augmentation(), epochs=STEPS)
        static, hyper = program.step(), program.hyper(1)
        (params, stats), frozen = static.divide(
            *(jax.tree.map(jnp.asarray, trees[name]) for name in ("params", "batch_stats"))
        )
        ours, step = static.start(params, stats), jax.jit(Step.step, static_argnums=0)
        for number, (pixels, labels) in enumerate(data):
            now = hyper._replace(learning_rate=hyper.learning_rate[number])
            ours, _ = step(static, ours, frozen, pixels, labels, now)
        found = jax.tree.map(np.asarray, combine(ours.params, frozen.params))
    after = network.state_dict()
    # timm's sines of places are float32's, whatever its network is.
    near = {"rtol": 1e-5, "atol": 1e-6} if arch is XCIT else {"rtol": 1e-9, "atol": 1e-10}
    for entry in table:
        if entry.collection == "params":
            wanted = entry.arranged(after[entry.torch_name].numpy())
            np.testing.assert_allclose(found[entry.path], wanted, **near)
            moved_by = np.abs(found[entry.path] - trees["params"][entry.path]).max()
            assert (moved_by > 0) == (entry.torch_name in trained), entry.path


@pytest.mark.filterwarnings("ignore:the network was trained on")
@pytest.mark.parametrize("arch", [VIT, CONVNEXT, SWIN, XCIT], ids=lambda arch: arch.name)
def test_from_fine_tuning_to_influence(arch: registry.Architecture) -> None:
    """Two seeds in one program on striped images, an attack on one, and influence of its head."""
    network = Network(
        arch, *Weights(*jax.tree.map(np.asarray, initialize(arch, jax.random.key(0))))
    )
    draw = np.random.default_rng(0)
    images = draw.integers(0, 60, (40, SIZE, SIZE, 3)).astype(np.uint8)
    labels = np.arange(40) % 2
    images[labels == 1, ::2] += 150
    images[labels == 0, :, ::2] += 150
    settings = {"epochs": 12, "batch_size": 20, "learning_rate": 0.05, "image_size": SIZE}
    if arch is XCIT:  # one block learns little: its class token alone trains
        settings |= {"blocks": 2, "epochs": 30}
    tuned = rtl.finetune(network, images, labels, seeds=[0, 1], **settings)
    # Depthwise kernels with an axis of seeds are the ones that differ most.
    alone = rtl.finetune(network, images, labels, seeds=1, **settings) if arch is CONVNEXT else None
    for path, wanted in ({} if alone is None else alone.params).items():
        np.testing.assert_allclose(tuned[1].params[path], wanted, rtol=1e-2, atol=1e-3)
    correct = tuned[0].predict_proba(images).argmax(1) == labels
    assert correct.mean() > 0.9
    found = rtl.attack(tuned[0], images[:8], labels[:8], 8 / 255, rtl.PGD("linf", steps=3))
    assert np.abs(np.asarray(found.images) - images[:8] / 255).max() <= 8 / 255 + 1e-6
    scores = rtl.influence(tuned[0], (images, labels), (images[:2], labels[:2]))
    assert scores.shape == (2, 40) and np.isfinite(scores).all()


def test_there_are_no_statistics_to_adapt() -> None:
    with pytest.raises(UserError, match="no batch normalisation"):
        SplitNetwork.of(VIT, Recipe(frozen_batch_norm="adapt", blocks=1), SIZE)
    assert SplitNetwork.of(VIT, Recipe(frozen_batch_norm="batch", blocks=1), SIZE).constant_prefix
    SplitNetwork.of(XCIT, Recipe(frozen_batch_norm="adapt", blocks=1), SIZE)
