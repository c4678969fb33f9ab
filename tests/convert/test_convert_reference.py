"""Options of networks that no tensor shows, and reference outputs that determine them."""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch_files import BASIC, BOTTLENECK, prefixed, save, state

from rtl_jax.convert import convert
from rtl_jax.convert.command import main
from rtl_jax.models.architecture import IMAGENET_MEAN, IMAGENET_STD, ResNetArchitecture
from rtl_jax.models.network import Network

pytestmark = pytest.mark.slow

IMAGES = np.random.default_rng(0).random((5, 3, 48, 48), np.float32)


def forward(
    weights, images, *, activation=F.relu, v1=False, eps=1e-5, odd=False, train=False, **norm
):
    """Compute logits of images [N, 3, H, W] by BOTTLENECK, written in torch's functions alone."""
    mean, std = norm.get("mean", IMAGENET_MEAN), norm.get("std", IMAGENET_STD)
    x = torch.from_numpy(images)
    x = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)

    def step(x, conv, bn, stride=1):
        kernel = weights[f"{conv}.weight"]
        x = F.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2)
        names = ("running_mean", "running_var", "weight", "bias")
        moments = [weights[f"{bn}.{name}"].clone() for name in names]
        return F.batch_norm(x, *moments, training=train, eps=eps)

    x = F.max_pool2d(activation(step(x, "conv1", "bn1", 2)), 3, 2, 1)
    for name, stride in (("layer1.0", 1), ("layer2.0", 2), ("layer2.1", 1)):
        shortcut = x
        if f"{name}.downsample.0.weight" in weights:
            shortcut = step(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
        x = activation(step(x, f"{name}.conv1", f"{name}.bn1", stride if v1 else 1))
        x = activation(step(x, f"{name}.conv2", f"{name}.bn2", 1 if v1 or odd else stride))
        if odd and stride == 2:
            x = F.max_pool2d(x, 2)
        x = activation(step(x, f"{name}.conv3", f"{name}.bn3") + shortcut)
    return F.linear(x.mean((2, 3)), weights["fc.weight"], weights["fc.bias"]).numpy()


def reference(path, logits, images=IMAGES):
    np.savez(path, images=images, logits=logits)
    return path


OPTIONS = {
    "silu": (["--activation", "silu"], {"activation": F.silu}),
    "gelu": (["--activation", "gelu"], {"activation": F.gelu}),
    "v1": (["--stride-in", "1x1"], {"v1": True}),
    "eps": (["--bn-eps", "0.001"], {"eps": 1e-3}),
    "usual": ([], {}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_compute_what_torch_computes(tmp_path, capsys, name):
    flags, options = OPTIONS[name]
    path, truth = save(state(), tmp_path / "a.pth"), forward(state(), IMAGES, **options)
    known = reference(tmp_path / "a.npz", truth, np.moveaxis(IMAGES, 1, -1))
    arguments = [str(path), str(tmp_path / "out"), *flags, "--reference", str(known)]
    assert main(arguments) == 0
    assert "reference: equal, within" in capsys.readouterr().out
    network = Network.load(tmp_path / "out")
    found = network.logits_fn()(np.moveaxis(IMAGES, 1, -1))
    np.testing.assert_allclose(found, truth, atol=1e-4)
    assert network.provenance["reference"]["images"] == len(IMAGES)
    assert main(["export", str(tmp_path / "out"), str(tmp_path / "back.safetensors")]) == 0
    again = convert(tmp_path / "back.safetensors", tmp_path / "again", report=lambda _: None)
    assert Network.load(again).architecture == network.architecture
    said = capsys.readouterr().out
    assert ("torchvision's ResNet computes something else" in said) == (name != "usual")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"activation": F.silu}, "--activation silu"),
        ({"v1": True}, "--stride-in 1x1"),
        ({"mean": (0, 0, 0), "std": (1, 1, 1)}, "--mean 0,0,0 --std 1,1,1"),
        ({"train": True}, "model.eval()"),
    ],
)
def test_a_reference_names_the_network_that_was_run(tmp_path, capsys, options, said):
    path = save(state(), tmp_path / "a.pth")
    known = reference(tmp_path / "a.npz", forward(state(), IMAGES, **options))
    assert main([str(path), str(tmp_path / "out"), "--reference", str(known)]) == 2
    error = capsys.readouterr().err
    assert "What fits" in error and said in error and str(known) in error
    assert not (tmp_path / "out").exists()


def test_two_changes_at_once_and_channels_of_another_order(tmp_path, capsys):
    path = save(state(), tmp_path / "a.pth")
    logits = forward(state(), IMAGES[:, ::-1].copy(), activation=F.silu)
    known = reference(tmp_path / "a.npz", logits)
    assert main([str(path), str(tmp_path / "out"), "--reference", str(known)]) == 2
    error = capsys.readouterr().err
    assert "--activation silu and blue, green, red" in error


def test_what_no_option_explains_is_said_to_differ(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "rtl_jax.convert.variants.itertools.combinations", lambda *_: []
    )  # for time
    path = save(state(), tmp_path / "a.pth")
    known = reference(tmp_path / "a.npz", forward(state(), IMAGES, odd=True))
    assert main([str(path), str(tmp_path / "out"), "--reference", str(known)]) == 2
    error = capsys.readouterr().err
    assert "dilation" in error and "What fits" not in error
    assert not (tmp_path / "out").exists()


def test_rounding_of_lower_precision_is_no_difference(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "rtl_jax.convert.variants.itertools.combinations", lambda *_: []
    )  # for time
    path, truth = save(state(), tmp_path / "a.pth"), forward(state(), IMAGES)
    noise = np.random.default_rng(1).uniform(-1e-3, 1e-3, truth.shape).astype(np.float32)
    known = reference(tmp_path / "a.npz", truth + noise)
    assert main([str(path), str(tmp_path / "out"), "--reference", str(known)]) == 0
    assert "equal up to rounding" in capsys.readouterr().out


LOGITS = np.zeros((5, 5), np.float32)
BAD = {
    "no images": ({"x": IMAGES, "logits": LOGITS}, "has no images"),
    "bytes": ({"images": np.zeros((5, 3, 8, 8), np.uint8), "logits": LOGITS}, "by 255"),
    "255": ({"images": IMAGES * 255, "logits": LOGITS}, "expected [0, 1]"),
    "nan": ({"images": IMAGES * np.nan, "logits": LOGITS}, "expected [0, 1]"),
    "grey": ({"images": IMAGES[:, :1], "logits": LOGITS}, "images are [5, 1, 48, 48]"),
    "rows": ({"images": IMAGES, "logits": LOGITS[:3]}, "a row for each image"),
    "softmax": ({"images": IMAGES, "logits": LOGITS + 0.2}, "before the softmax"),
    "classes": ({"images": IMAGES, "logits": LOGITS[:, :4]}, "another network"),
    "objects": ({"images": np.array([None]), "logits": LOGITS}, "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_references_that_are_none(tmp_path, capsys, name):
    arrays, said = BAD[name]
    np.savez(tmp_path / "a.npz", **arrays)
    path = save(state(), tmp_path / "a.pth")
    arguments = [str(path), str(tmp_path / "out"), "--reference", str(tmp_path / "a.npz")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error and str(tmp_path / "a.npz") in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_reference_that_claims_more_than_it_has(tmp_path, capsys):
    known = reference(tmp_path / "a.npz", LOGITS)
    data = known.read_bytes().replace(b"(5, 3, 48, 48)", b"(5, 3, 48, 4<)".replace(b"<", b"9"))
    known.write_bytes(data)
    path = save(state(), tmp_path / "a.pth")
    assert main([str(path), str(tmp_path / "out"), "--reference", str(known)]) == 2
    assert main([str(path), str(tmp_path / "out"), "--reference", str(tmp_path / "none")]) == 2
    os.mkfifo(tmp_path / "fifo")
    assert main([str(path), str(tmp_path / "out"), "--reference", str(tmp_path / "fifo")]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_the_name_that_a_file_gives_its_network(tmp_path, capsys):
    path = save({"state_dict": state(BASIC), "arch": "resnetblur50"}, tmp_path / "a.pth")
    assert main([str(path), str(tmp_path / "out")]) == 2
    assert "pass --anti-aliasing blur, or --anti-aliasing none" in capsys.readouterr().err
    command = [str(path), str(tmp_path / "out"), "--anti-aliasing", "none"]
    assert main(command) == 0
    assert "warning: the file calls its network 'resnetblur50'" in capsys.readouterr().out


def test_check_says_what_equal_means(tmp_path, capsys):
    path = save(state(BASIC), tmp_path / "a.pth")
    assert main([str(path), str(tmp_path / "out"), "--check"]) == 0
    said = capsys.readouterr().out
    assert "equal: every stage" in said
    assert "torchvision's ResNet with these weights" in said and "--reference" in said


@pytest.mark.parametrize("scale", [255.0, 256.0])
def test_a_normalisation_of_bytes_is_refused(tmp_path, capsys, scale):
    mean, std = (torch.tensor(part) * scale for part in (IMAGENET_MEAN, IMAGENET_STD))
    path = save(prefixed("model.", state(BASIC)) | {"mean": mean, "std": std}, tmp_path / "a.pth")
    assert main([str(path), str(tmp_path / "out")]) == 2
    plain = save(state(BASIC), tmp_path / "b.pth")
    flags = ["--mean", "123.675,116.28,103.53", "--std", "1,1,1"]
    assert main([str(plain), str(tmp_path / "out"), *flags]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "divide both by 255" in first and "divide both by 255" in second
    # What it then proposes is taken, and is the same function of pixels.
    flags = second.split("by 255, ")[-1].split()
    assert main([str(plain), str(tmp_path / "out"), *flags]) == 0
    arch = Network.load(tmp_path / "out").architecture
    assert arch.mean == pytest.approx(IMAGENET_MEAN) and arch.std == pytest.approx((1 / 255,) * 3)


def test_the_usual_options_are_in_no_manifest():
    """Earlier names and digests of architectures remain valid."""
    fields = BOTTLENECK.to_dict()
    assert not {"activation", "stride_in", "bn_eps"} & fields.keys()
    assert ResNetArchitecture.from_dict(fields) == BOTTLENECK
    other = BOTTLENECK.replace(activation="silu", stride_in="1x1", bn_eps=1e-3)
    assert ResNetArchitecture.from_dict(other.to_dict()) == other


def test_options_that_do_not_exist(tmp_path, capsys):
    path = save(state(BASIC), tmp_path / "a.pth")
    assert main([str(path), str(tmp_path / "out"), "--stride-in", "1x1"]) == 2
    assert main([str(path), str(tmp_path / "out"), "--bn-eps", "-1"]) == 2
    assert "bottleneck" in capsys.readouterr().err
