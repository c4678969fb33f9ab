"""Exports that timm itself loads, as a folder and on a local hub, with a model card."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import errors
from PIL import Image

from rtl_jax.convert.command import main
from rtl_jax.convert.export import export, export_network
from rtl_jax.convert.timm_description import timm_description
from rtl_jax.data.pictures import decode
from rtl_jax.errors import UserError
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.convnext import ConvNeXtArchitecture
from rtl_jax.models.densenet import DenseNetArchitecture
from rtl_jax.models.network import Network
from rtl_jax.models.swin import SwinArchitecture
from rtl_jax.models.vit import ViTArchitecture
from rtl_jax.models.xcit import XCiTArchitecture
from tests.contracts.test_contracts_models import SMALL
from tests.drawn_variables import drawn_variables
from tests.reference_networks import reference

SIZE = 32
FOUR = (1, 1, 1, 1)
WIDTHS = (8, 12, 16, 20)
BASIC = ResNetArchitecture("basic", "basic", FOUR, WIDTHS, num_classes=5)
MEMBERS = {
    "resnet": BASIC,
    "resnext": ResNetArchitecture(
        "resnext", "bottleneck", FOUR, WIDTHS, 2, groups=2, num_classes=5, activation="silu"
    ),
    "resnet-d": ResNetArchitecture(
        "d", "basic", FOUR, WIDTHS, stem_width=16, stem_kernel=3, deep_stem=(6, 8),
        average_shortcut=True, anti_aliasing="blur", num_classes=5,
    ),
    "vit": SMALL["vit"][0].replace(grid=(4, 4)),
    "vit-average": ViTArchitecture(
        "average", width=12, depth=1, heads=2, patch=8, grid=(4, 4), mlp_width=24,
        class_token=False, class_position=True, pool="average", norm_after_pool=True,
        layer_scale=True, activation="gelu_tanh", num_classes=5,
    ),
    "convnext": ConvNeXtArchitecture("c", FOUR, WIDTHS, kernel=5, num_classes=5),
    "convnext-plain": ConvNeXtArchitecture(
        "c", FOUR, WIDTHS, layer_scale=False, norm_before_pool=True, norm_eps=1e-5, num_classes=5
    ),
    "swin": SwinArchitecture(
        "s", depths=(2, 1), heads=(2, 4), width=8, window=4, patch=2, num_classes=5
    ),
    "xcit": XCiTArchitecture(
        "x", width=16, depth=1, class_depth=2, heads=2, convolutions=3, patch=8, mlp_width=32,
        num_classes=5,
    ),
    "densenet": DenseNetArchitecture("dense", (2, 1, 1, 1), 4, 8, 2, 5),
}  # fmt: skip
SETTINGS = {
    "seed": 3,
    "source": {"checkpoint": "bundled:l2"},
    "target": {"dataset": "folder:/home/me/photos", "num_images": 100, "folds": None},
    "augmentation": {"flip": True},
    "transfer": {"blocks": 1, "learning_rate": 0.1},
}


def network(member=BASIC, **known) -> Network:
    return Network(member, *drawn_variables(member), {"image_size": SIZE, **known})


# ---- timm ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMBERS)
def test_timm_loads_the_folder(name: str, tmp_path: Path) -> None:
    timm = reference("timm")
    one, said = network(MEMBERS[name], class_names=list("abcde")), []
    folder = export_network(one, tmp_path / "net.timm", report=said.append)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.md", "config.json", "model.safetensors")
    ]
    assert "equal: timm's logits" in said[0] and f"local-dir:{folder}" in said[-1]
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = np.random.default_rng(1).random((3, SIZE, SIZE, 3), np.float32)
    config = timm.data.resolve_model_data_config(model)
    assert tuple(config["input_size"]) == (3, SIZE, SIZE) and config["crop_pct"] == 1.0
    pixels = (images - np.float32(config["mean"])) / np.float32(config["std"])
    with torch.no_grad():
        logits = model(torch.from_numpy(pixels.transpose(0, 3, 1, 2))).numpy()
    expected = np.log(one.predict_proba(images))
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())
    assert model.pretrained_cfg["label_names"] == list("abcde")
    assert timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=2).num_classes == 2
    # And back: what no tensor shows is in the file.
    assert main([str(folder / "model.safetensors"), str(tmp_path / "back")]) == 0
    back = Network.load(tmp_path / "back")
    assert back.digest == one.digest
    same = {"name": "", "mean": (0, 0, 0), "std": (1, 1, 1)}
    assert back.architecture.replace(**same) == one.architecture.replace(**same)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(96, 64), (64, 96)], ids=["wide", "high"])
def test_timm_crops_pictures_as_they_are_read_here(size: tuple[int, int], tmp_path: Path) -> None:
    """By the transform of the card's example."""
    timm, one = reference("timm"), network()
    folder = export_network(one, tmp_path / "net.timm", report=lambda _: None)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    config = timm.data.resolve_model_data_config(model)
    coarse = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    picture = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    picture.save(tmp_path / "a.png")
    pixels = timm.data.create_transform(**config, is_training=False)(picture)
    with torch.no_grad():
        theirs = model(pixels[None]).softmax(1).numpy()
    ours = one.predict_proba(decode(tmp_path / "a.png", SIZE)[None])
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (SMALL["vgg"][0], "timm has no network with these names"),
        (SMALL["preact"][0], "timm has no network with these names"),
        (BASIC.replace(stem_kernel=3), "stem_kernel 3, and not 7"),
        (MEMBERS["resnext"].replace(stride_in="1x1"), "stride_in '1x1'"),
        (BASIC.replace(stage_sizes=(1, 1), stage_widths=(8, 12)), "2 stages, and not 4"),
        (BASIC.replace(stem_width=32), "stem_width 32"),
        (SMALL["vit"][1], "stem 'convolutions'"),
        (SMALL["xcit"][0], "patch 4, and not 8"),
        (dataclasses.replace(MEMBERS["swin"], pad_before_shift=True), "padding as torchvision's"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_what_timm_has_not_is_refused_by_name(member, said) -> None:
    with pytest.raises(UserError, match=said) as caught:
        timm_description(member, SIZE)
    assert str(caught.value).startswith(f"{member.name}: timm") and ".onnx" in str(caught.value)


# ---- The card ------------------------------------------------------------------------------------


def rows(workdir: Path, run: str) -> None:
    """Make rows as runs write them: two epochs of this run, attacks on it and on other networks."""
    training = {"source": "bundled:l2", "dataset": SETTINGS["target"]["dataset"], "seed": 3}
    training |= {"blocks": 1, "num_images": 100, "optimizer": "sgd"}
    training |= dict.fromkeys(("test_dataset", "variant", "norm", "eps"))
    own = {**training, "run": run, "task": "finetune", "method": "transfer", "config": None}
    attack = {**training, "run": "x", "task": "attack", "method": "autoattack", "norm": "l2"}
    attack |= {"epoch": None, "eps": 0.5, "num_test_images": 64}

    def changed(group: str, **fields: object) -> dict[str, Any]:
        return {"config": json.dumps({**SETTINGS, group: {**SETTINGS[group], **fields}})}

    table = pd.DataFrame(
        [
            {**own, "num_test_images": 200, "epoch": 10, "accuracy": 90.0},
            {**own, "num_test_images": 200, "epoch": 1, "accuracy": 50.0},
            # Other test images, and a setting of a later version.
            {**attack, **changed("target", num_test_images=64, new=1), "accuracy": 62.5},
            {**attack, "config": json.dumps({**SETTINGS, "seed": 4}), "accuracy": 11.0},
            {**attack, **changed("transfer", learning_rate=0.01), "accuracy": 12.0},
            {**attack, **changed("augmentation", flip=False), "accuracy": 13.0},
            {**attack, **changed("source", checkpoint="bundled:linf"), "accuracy": 14.0},
            {**attack, **changed("target"), "test_dataset": "other", "accuracy": 15.0},
            {**attack, **changed("target"), "variant": "corruption=fog:3", "accuracy": 16.0},
            # On the source itself, whose row has settings of a fine-tuning that do not matter.
            {**attack, **changed("target"), "optimizer": None, "accuracy": 17.0},
        ]
    )
    (workdir / "rows").mkdir(parents=True)
    table.to_parquet(workdir / "rows" / "a.parquet")


def test_the_card_says_what_rows_and_manifest_know(tmp_path: Path) -> None:
    calibration = {"temperature": 2.0, "before": 9.0, "after": 1.0, "images": 100}
    known = {"run": "ab", "settings": SETTINGS, "class_names": ["a|b", *"bcde"]}
    place = tmp_path / "runs" / "ab" / "network"
    network(**known, calibration=calibration).save(place)
    rows(tmp_path, "ab")
    folder = export(place, tmp_path / "net.timm", license="mit", report=lambda _: None)
    card = (Path(folder) / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm\n") and "license: mit\n" in card
    # Wilson's interval of 180 of 200, computed by hand: (2 p n + z^2 -+ ...) / (2 (n + z^2)).
    assert "| accuracy | 90.0 % [85.1, 93.4] of 200 test images |" in card
    assert "| robust accuracy, autoattack in l2, eps 0.5 | 62.5 % [50.3, 73.3] of 64" in card
    assert card.count("robust accuracy") == 1 and "50.0 %" not in card
    assert "| source network | bundled:l2 |" in card and "| data | folder:photos |" in card
    assert "/home/me" not in card and "a\\|b, b, c" in card and "/ 2).softmax(1)" in card


@pytest.mark.parametrize("folds", [None, 5])
def test_what_is_not_known_is_said_to_be(tmp_path: Path, folds) -> None:
    """Also, rows on images that the network was trained on do not count as accuracy."""
    settings = {**SETTINGS, "target": {**SETTINGS["target"], "folds": folds}}
    network(run="ab", settings=settings).save(tmp_path / "net")
    rows(tmp_path / "work", "ab" if folds else "another")
    options = {"rows": tmp_path / "work" if folds else None, "report": lambda _: None}
    folder = export(tmp_path / "net", tmp_path / "net.timm", **options)
    card = (Path(folder) / "README.md").read_text()
    assert "license: unknown\n" in card and "| accuracy | not known |" in card
    assert "| robust accuracy | not known |" in card


def test_rows_that_are_none(tmp_path: Path) -> None:
    network().save(tmp_path / "net")
    with pytest.raises(UserError, match="has no results"):
        export(tmp_path / "net", tmp_path / "net.timm", rows=tmp_path)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"a\.parquet is damaged"):
        export(tmp_path / "net", tmp_path / "net.timm", rows=tmp_path)
    assert not (tmp_path / "net.timm").exists()


# ---- The hub -------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """An API that records its arguments."""
    calls = []

    class Api:
        def __init__(self, **_):
            pass

        def create_repo(self, repository, **options):
            calls.append((repository, options))

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
            calls.append((repo_id, files))
            return SimpleNamespace(commit_url="https://hub/commit/1")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return calls


def test_push_uploads_the_folder(tmp_path: Path, hub, capsys) -> None:
    network().save(tmp_path / "net")
    assert main(["export", str(tmp_path / "net"), "hf:me/digits", "--private"]) == 0
    (made, options), (repository, files) = hub
    assert made == repository == "me/digits" and options == {"private": True, "exist_ok": True}
    assert set(files) == {"README.md", "config.json", "model.safetensors"}
    assert b'create_model("hf-hub:me/digits", pretrained=True)' in files["README.md"]
    assert json.loads(files["config.json"])["architecture"] == "resnet18"
    assert "hf-hub:me/digits" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["hf:", "hf:me", "hf:me/", "hf:me/a/b"])
def test_nothing_is_uploaded_without_a_repository(tmp_path: Path, hub, name) -> None:
    network().save(tmp_path / "net")
    with pytest.raises(UserError, match="expected hf:OWNER/NAME"):
        export(tmp_path / "net", name)
    assert not hub


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"head": "zeros"}, "train it first"),
        ({"member": SMALL["preact"][0]}, "timm has no network"),
    ],
)
def test_what_timm_cannot_load_is_not_uploaded(tmp_path: Path, hub, change, said) -> None:
    network(**change).save(tmp_path / "net")
    with pytest.raises(UserError, match=said):
        export(tmp_path / "net", "hf:me/digits")
    assert not hub


def refusal(status: int, kind=errors.HfHubHTTPError) -> Exception:
    answer = SimpleNamespace(status_code=status, headers={}, request=None)
    error = kind.__new__(kind)
    Exception.__init__(error, "it says\nmuch")
    error.response = answer
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (refusal(401), r"without a token.*HTTP 401.*HF_TOKEN"),
        (refusal(403), "HTTP 403"),
        (errors.LocalTokenNotFoundError("none"), "hf auth login"),
        (refusal(429), "wait some minutes"),
        (refusal(503), "an internal error"),
        (refusal(409), "HTTP 409: it says$"),
        (errors.HFValidationError("bad"), "is not a repository name"),
        (errors.OfflineModeIsEnabled("off"), "unset it"),
        (OSError("no route"), r"cannot be reached \(OSError\).*OUT\.timm"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(tmp_path, hub, monkeypatch, error, said) -> None:
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", fail)
    network().save(tmp_path / "net")
    with pytest.raises(UserError, match=said) as caught:
        export(tmp_path / "net", "hf:me/digits", report=lambda _: None)
    assert str(caught.value).startswith("hf:me/digits: ") and "\n" not in str(caught.value)


def test_options_that_a_destination_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"license and rows only apply to \.timm and hf:OWNER/NAME"):
        export(tmp_path, tmp_path / "a.onnx", license="mit")
    with pytest.raises(UserError, match="private only applies to hf:OWNER/NAME"):
        export(tmp_path, tmp_path / "a.timm", private=True)
