"""Networks exported as functions to StableHLO and ONNX, compared with the network, by family."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jax import export

from rtl_jax.convert import onnx_file
from rtl_jax.convert.command import main
from rtl_jax.convert.export import export_network
from rtl_jax.errors import UserError
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.network import Network
from tests.contracts.test_contracts_models import SMALL
from tests.drawn_variables import drawn_variables
from tests.reference_networks import reference

MEMBERS = [members[0] for members in SMALL.values()]  # one of each family
SIZE = 24
TEMPERATURE = 1.7
NAMES = list("abcde")
IMAGES = np.random.default_rng(0).random((3, SIZE, SIZE, 3), np.float32)

# Without rtl_jax: of every file its probabilities of the images, and of one image alone.
READER = """
import sys
from pathlib import Path
import numpy as np
from jax import export
images = np.load(sys.argv[1])
for path in sorted(Path(sys.argv[2]).glob("*.stablehlo")):
    exported = export.deserialize(bytearray(path.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    np.save(path.with_suffix(".npy"), exported.call(images))
    np.testing.assert_allclose(exported.call(images[:1]), exported.call(images)[:1], atol=1e-6)
assert not {"rtl_jax", "flax", "torch"} & set(sys.modules)
"""


def small(member, **known) -> Network:
    calibration = {
        "calibration": {"temperature": TEMPERATURE, "before": 9.0, "after": 1.0, "images": 10}
    }
    return Network(member, *drawn_variables(member), {**calibration, "image_size": SIZE, **known})


@pytest.mark.slow
def test_stablehlo_needs_jax_alone(tmp_path: Path):
    np.save(tmp_path / "images.npy", IMAGES)
    networks = {member.name: small(member) for member in MEMBERS}
    for name, network in networks.items():
        export_network(network, tmp_path / f"{name}.stablehlo", report=lambda _: None)
    command = [sys.executable, "-c", READER, str(tmp_path / "images.npy"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name, network in networks.items():
        received = np.load(tmp_path / f"{name}.npy")
        np.testing.assert_allclose(received, network.predict_proba(IMAGES), atol=1e-5)
        assert np.ptp(received) > 1e-3, name


@pytest.mark.parametrize(
    "member",
    [
        ResNetArchitecture("bottleneck", "bottleneck", (1, 1), (16, 32), num_classes=5),
        SMALL["mobile"][0].replace(stem_width=32),
    ],
    ids=lambda member: member.name,
)
def test_stablehlo_takes_any_number_of_images(member, tmp_path: Path):
    """Also where one image has fewer pixels than channels, as in a network of usual width."""
    network = small(member, image_size=8)
    path = export_network(network, tmp_path / "a.stablehlo", report=lambda _: None)
    exported = export.deserialize(bytearray(path.read_bytes()))
    for number in (1, 3):
        images = np.random.default_rng(number).random((number, 8, 8, 3), np.float32)
        received = exported.call(images)
        np.testing.assert_allclose(received, network.predict_proba(images), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_onnx_computes_what_the_network_does(member, tmp_path: Path):
    pytest.importorskip("onnx"), pytest.importorskip("onnxscript")
    reference("timm"), reference("torchvision")
    onnxruntime = pytest.importorskip("onnxruntime")
    network, said = small(member, class_names=NAMES), []
    try:
        export_network(network, tmp_path / "net.onnx", report=said.append)
    except UserError as error:
        assert "cannot be built as" in str(error) and "write .stablehlo" in str(error)
        assert not list(tmp_path.iterdir())
        pytest.skip(str(error))
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert "equal: probabilities in onnxruntime" in said[-1]
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    probabilities, logits = session.run(["probabilities", "logits"], {"images": IMAGES})
    np.testing.assert_allclose(probabilities, network.predict_proba(IMAGES), atol=1e-5)
    softmax = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(softmax / softmax.sum(1, keepdims=True), probabilities, atol=1e-6)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == NAMES


# ---- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["onnx", "stablehlo"])
def test_refusals(tmp_path: Path, capsys, ending):
    small(SMALL["resnet"][1]).save(tmp_path / "net")
    out = tmp_path / f"out.{ending}"
    command = ["export", str(tmp_path / "net"), str(out)]
    assert main([*command, "--image-size", "0"]) == 2
    assert "expected a number from 1" in capsys.readouterr().err
    out.touch()
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*command[:2], str(tmp_path / "out.pb")]) == 2
    assert ".stablehlo or .timm" in capsys.readouterr().err
    assert main([*command[:2], str(tmp_path / "out.pth"), "--image-size", "24"]) == 2
    assert "only weights, which have no image size" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_onnx_says_what_it_needs(tmp_path: Path, monkeypatch, package):
    monkeypatch.setattr(onnx_file.importlib.util, "find_spec", lambda name: name != package or None)
    with pytest.raises(UserError, match=rf"needs {package}: pip install 'rtl-jax\[onnx\]'"):
        export_network(small(SMALL["resnet"][1]), tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())
