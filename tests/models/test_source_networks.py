"""Where sources are found, and messages about missing ones."""

from pathlib import Path

import numpy as np
import pytest

from rtl_jax.errors import UserError
from rtl_jax.models import sources
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.model import variable_shapes
from rtl_jax.models.network import Network
from rtl_jax.models.sources import load_source
from rtl_jax.runtime.paths import cache_path

pytestmark = pytest.mark.slow

TINY = ResNetArchitecture(
    "tiny",
    "bottleneck",
    (1,),
    (4,),
    stem_width=4,
    stem_kernel=3,
    stem_stride=1,
    stem_pool=False,
    num_classes=3,
)
RANDOM = {"arch": "resnet18", "stem": "small", "stage_sizes": (1,), "stage_widths": (4,)}


def save_constant(place: Path, value: float) -> Path:
    """Save a network whose variables all have one value, by which it is recognised."""
    variables = (
        {path: np.full(leaf.shape, value, np.float32) for path, leaf in tree.items()}
        for tree in variable_shapes(TINY)
    )
    Network(TINY, *variables, {"value": value}).save(place)
    return place


def value_of(network: Network) -> float:
    return float(network.params["fc/bias"][0])


def error_of(checkpoint: str | Path, **settings: str) -> str:
    with pytest.raises(UserError) as caught:
        load_source(str(checkpoint), **settings)
    return str(caught.value)


# ---- Random --------------------------------------------------------------------------------------


def test_random_networks_are_drawn_by_the_seed() -> None:
    first, again, other = (load_source("random", seed=seed, **RANDOM) for seed in (5, 5, 6))
    assert all(type(array) is np.ndarray for array in first.params.values())
    for path, array in first.params.items():
        assert array.tobytes() == again.params[path].tobytes()
        if path.endswith("kernel"):
            assert array.tobytes() != other.params[path].tobytes()
    assert first.provenance == {"kind": "random", "seed": 5}


def test_random_networks_have_the_shape_that_is_asked_for() -> None:
    settings = {"stem": "small", "stage_sizes": (1, 2), "stage_widths": (4, 8)}
    network = load_source("random", arch="resnet50", **settings)
    arch = network.architecture
    assert (arch.block, arch.stage_sizes, arch.stage_widths) == ("bottleneck", (1, 2), (4, 8))
    assert (arch.stem_kernel, arch.stem_stride, arch.stem_pool, arch.stem_width) == (3, 1, False, 4)
    assert network.params["conv1/kernel"].shape == (3, 3, 3, 4)
    assert network.params["layer2/1/conv2/kernel"].shape == (3, 3, 8, 8)
    assert network.params["fc/kernel"].shape[0] == 32
    assert "layer3/0/conv1/kernel" not in network.params


def test_the_imagenet_stem_is_the_default() -> None:
    settings = {"stage_sizes": (1,), "stage_widths": (4,)}
    arch = load_source("random", arch="resnet18", **settings).architecture
    assert (arch.stem_kernel, arch.stem_stride, arch.stem_pool) == (7, 2, True)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "source.arch: a random source needs an architecture, such as resnet50"),
        ({"arch": "resnet51"}, "unknown architecture 'resnet51'"),
        ({"arch": "resnet18", "stage_sizes": (1,)}, "stage_sizes (1,)"),
    ],
)
def test_random_networks_that_cannot_be(settings: dict, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load_source("random", **settings)
    assert expected in str(caught.value)


# ---- Directories ---------------------------------------------------------------------------------


def test_a_network(tmp_path: Path) -> None:
    network = load_source(str(save_constant(tmp_path / "net", 2.0)))
    assert value_of(network) == 2.0
    assert network.architecture == TINY
    assert network.provenance == {"value": 2.0}


def test_the_only_network_of_a_work_directory(tmp_path: Path) -> None:
    save_constant(tmp_path / "runs" / "abc" / "network", 3.0)
    (tmp_path / "runs" / "def" / "checkpoints").mkdir(parents=True)  # not finished
    (tmp_path / "rows").mkdir()
    assert value_of(load_source(str(tmp_path))) == 3.0


def test_several_networks_are_listed(tmp_path: Path) -> None:
    for value, run in enumerate(("b", "a")):
        save_constant(tmp_path / "runs" / run / "network", value)
    message = error_of(tmp_path)
    assert "has several networks, name one:" in message
    assert [line.strip() for line in message.splitlines()[1:]] == [
        str(tmp_path / "runs" / run / "network") for run in ("a", "b")
    ]


def test_a_directory_without_a_network(tmp_path: Path) -> None:
    message = error_of(tmp_path)
    assert f"{tmp_path} holds neither a converted network nor a finished run" in message
    assert "rtl-jax convert SOURCE DESTINATION" in message


def test_a_damaged_network_is_named(tmp_path: Path) -> None:
    place = save_constant(tmp_path / "net", 1.0)
    (place / "manifest.json").write_text("{")
    assert f"{place / 'manifest.json'} is damaged" in error_of(place)


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_constant(tmp_path / "net", 4.0)
    assert value_of(load_source("~/net")) == 4.0
    assert str(tmp_path / "absent") in error_of("~/absent")


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_constant(tmp_path / "net", 5.0)
    assert value_of(load_source("net")) == 5.0


# ---- The architecture is checked -----------------------------------------------------------------


def test_the_expected_architecture(tmp_path: Path) -> None:
    place = str(save_constant(tmp_path / "net", 1.0))
    assert load_source(place, arch="tiny").architecture == TINY
    message = error_of(place, arch="resnet50")
    assert message.startswith("source.arch: expected 'resnet50'")
    assert "'tiny'" in message and place in message


# ---- Torch files, and names that a converter reads -----------------------------------------------


def test_torch_files_need_a_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "entry_points", lambda group: ())
    file = tmp_path / "weights.pt"
    file.write_bytes(b"x")
    for source in (str(file), "hf:madrylab/robust-imagenet-models/resnet50_l2_eps3.ckpt"):
        assert f"rtl-jax convert {source} DESTINATION" in error_of(source)


def test_the_converter_is_given_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = save_constant(tmp_path / "net", 6.0)
    file = tmp_path / "weights.pt"
    file.write_bytes(b"x")
    received = []

    def convert(source: str, cache_dir: Path) -> Path:
        received.append(source)
        assert cache_dir == cache_path() / "converted"
        return place

    monkeypatch.setattr(sources, "converter", lambda: convert)
    for source in (str(file), "hf:owner/repo/file.ckpt"):
        network = load_source(source)
        assert value_of(network) == 6.0
    assert received == [str(file), "hf:owner/repo/file.ckpt"]
    with pytest.raises(UserError, match=r"source\.arch: expected 'resnet50'"):
        load_source(str(file), arch="resnet50")


def test_the_converter_of_this_project_is_found() -> None:
    from rtl_jax.convert import ensure_converted

    assert sources.converter() is ensure_converted


def test_the_converter_is_not_called_without_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def converter() -> None:
        raise AssertionError

    monkeypatch.setattr(sources, "converter", converter)

    place = save_constant(tmp_path / "net", 7.0)
    assert value_of(load_source(str(place))) == 7.0
    with pytest.raises(UserError, match="there is no absent"):
        load_source("absent.pt")
    load_source("random", **RANDOM)


# ---- What is not there ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("imagenet_l2_3_0.pt", ["L2 eps=3", "MadryLab/robustness", "resnet50_l2_eps3.ckpt"]),
        ("imagenet_linf_4.pt", ["Linf eps=4/255", "robustness", "resnet50_linf_eps4.0.ckpt"]),
        ("imagenet_linf_8.pt", ["Linf eps=8/255", "robustness", "resnet50_linf_eps8.0.ckpt"]),
        ("resnet50-19c8e357.pth", ["torchvision", "IMAGENET1K_V1"]),
    ],
)
def test_known_files_say_where_to_get_them(tmp_path: Path, name: str, expected: list[str]) -> None:
    message = error_of(tmp_path / "checkpoints" / name)
    assert message.startswith(f"source.checkpoint: there is no {tmp_path / 'checkpoints' / name}.")
    assert all(part in message for part in [*expected, "download", "put it there"])


def test_what_configs_name_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """For every source in the paper's configs, the message must say where to get it."""
    from rtl_jax.lab import cli

    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    for path in sorted(root.glob("configs/*.py")):
        experiment, _ = cli.parse(["--config", str(path)])
        checkpoint = experiment.source.checkpoint
        if checkpoint.startswith("checkpoints/") and not Path(checkpoint).exists():
            assert "download" in error_of(checkpoint), path


def test_unknown_files_say_what_is_expected(tmp_path: Path) -> None:
    message = error_of(tmp_path / "mine.pt")
    assert f"there is no {tmp_path / 'mine.pt'}" in message
    assert all(part in message for part in ("converted directory", ".safetensors", "hf:", "random"))


def test_bundled_networks() -> None:
    message = error_of("bundled:cifar")
    assert message.startswith("there is no bundled:cifar: expected one of natural, gaussian, ")
