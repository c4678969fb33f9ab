"""Networks on disk: bit for bit, complete or absent, and never corrupted."""

import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.manifest import FORMAT_VERSION
from rtl_jax.models.model import variable_shapes
from rtl_jax.models.network import Network
from rtl_jax.models.storage import is_network
from tests.damage import (
    DAMAGE,
    REFUSED,
    contents,
    equal_bits,
    fill_disk,
    interrupt_when_called,
    largest_file,
)

pytestmark = pytest.mark.slow

Variables = dict[str, np.ndarray]

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
# Wide enough for Orbax to keep the arrays apart from their index.
WIDE = TINY.replace(stage_widths=(48,))

PROVENANCE = {"kind": "converted", "sha256": "ab" * 32, "nested": {"list": [1, None, "é"]}}


def random_variables(
    architecture: ResNetArchitecture, seed: int = 0
) -> tuple[Variables, Variables]:
    random = np.random.default_rng(seed)
    params, stats = (
        {path: random.normal(size=leaf.shape).astype(np.float32) for path, leaf in tree.items()}
        for tree in variable_shapes(architecture)
    )
    return params, stats


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    Network(TINY, *random_variables(TINY), PROVENANCE).save(tmp_path / "net")
    return tmp_path / "net"


@pytest.mark.parametrize("architecture", [TINY, WIDE], ids=["tiny", "wide"])
def test_round_trip_keeps_every_bit(tmp_path: Path, architecture: ResNetArchitecture) -> None:
    params, stats = random_variables(architecture)
    special = np.array([-0.0, np.inf, -np.inf, np.nan, 1e-42, 3.4e38], np.float32)
    params["fc/kernel"].reshape(-1)[:6] = special
    params["fc/kernel"].reshape(-1).view(np.uint32)[3] = 0x7FC12345  # a NaN with a payload
    params["fc/bias"][:] = -0.0
    Network(architecture, params, stats, PROVENANCE).save(tmp_path / "a" / "net")
    network = Network.load(tmp_path / "a" / "net")
    assert network.architecture == architecture
    assert hash(network.architecture) == hash(architecture)
    assert network.provenance == PROVENANCE
    assert equal_bits(network.params, params)
    assert equal_bits(network.batch_stats, stats)
    arrays = [*network.params.values(), *network.batch_stats.values()]
    assert all(type(array) is np.ndarray and array.dtype == np.float32 for array in arrays)


def test_jax_arrays_are_written_too(tmp_path: Path) -> None:
    params, stats = random_variables(TINY)
    place = epath.Path(tmp_path) / "net #1 é"
    Network(TINY, *jax.tree.map(jnp.asarray, (params, stats)), {}).save(place)
    assert equal_bits(Network.load(str(place)).params, params)


def test_is_network(saved: Path, tmp_path: Path) -> None:
    assert is_network(saved) and is_network(str(saved))
    assert not is_network(tmp_path) and not is_network(tmp_path / "absent")


@pytest.mark.parametrize("kind", ["network", "directory", "file"])
def test_an_existing_destination_is_left_alone(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "net"
    if kind == "network":
        Network(TINY, *random_variables(TINY), {"first": True}).save(place)
    elif kind == "directory":
        place.mkdir()
    else:
        place.write_text("precious")
    before = {path: path.read_bytes() for path in contents(tmp_path)}
    with pytest.raises(UserError, match=f"{re.escape(str(place))} exists already"):
        Network(TINY, *random_variables(TINY, 1), {}).save(place)
    assert {path: path.read_bytes() for path in contents(tmp_path)} == before


def test_every_variable_that_does_not_fit_is_listed(tmp_path: Path) -> None:
    params, stats = random_variables(TINY)
    kernel = params.pop("fc/kernel")
    params["fc/weight"] = kernel.T
    params["fc/bias"] = np.zeros(7, np.float32)
    del stats["bn1/mean"]
    stats["bn1/var"] = np.ones((2, 4), np.float32)
    with pytest.raises(UserError) as caught:
        Network(TINY, params, stats, {}).save(tmp_path / "net")
    heading, *lines = str(caught.value).splitlines()
    assert "tiny with 3 classes" in heading
    assert [line.strip() for line in lines] == [
        "bn1/var: expected (4,), received (2, 4)",
        "fc/bias: expected (3,), received (7,)",
        "left over: fc/weight (3, 16)",
        "missing: bn1/mean (4,)",
        "missing: fc/kernel (16, 3)",
    ]
    assert list(tmp_path.iterdir()) == []


def test_no_network(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match=r"holds no network.*rtl-jax convert"):
            Network.load(place)


# ---- Damaged networks ----------------------------------------------------------------------------


def edit(**changes: Any) -> Callable[[bytes], bytes]:
    """Change fields of the manifest; `architecture__x` changes its field x."""

    def apply(text: bytes) -> bytes:
        manifest = json.loads(text)
        for name, value in changes.items():
            group, _, field = name.partition("__")
            if field:
                manifest[group][field] = value
            else:
                manifest[name] = value
        return json.dumps(manifest).encode()

    return apply


def without(name: str) -> Callable[[bytes], bytes]:
    return lambda text: json.dumps(
        {k: v for k, v in json.loads(text).items() if k != name}
    ).encode()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: b"", "is damaged"),
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda text: b"\xff\xfe" + text, "is damaged"),
        (lambda text: b"not JSON", "is damaged"),
        (lambda text: b"[1, 2]", "expected a table, received a list of 2"),
        (lambda text: b"null", "expected a table, received None"),
        (without("format"), "describes a None"),
        (without("version"), "version: expected"),
        (without("architecture"), "architecture: expected a table"),
        (without("provenance"), "provenance: expected a table"),
        (edit(format="another network"), "describes a 'another network'"),
        (edit(version=FORMAT_VERSION + 1), "update rtl_jax"),
        (edit(version="one"), "version: expected"),
        (edit(provenance=3), "provenance: expected a table"),
        (edit(architecture=None), "architecture: expected a table"),
        (edit(architecture={}), "manifest.json: incomplete architecture"),
        (edit(architecture__attention=8), "manifest.json: unknown architecture fields"),
        (edit(architecture__block="dense"), "manifest.json: unknown block 'dense'"),
        (edit(architecture__num_classes=0), "manifest.json: num_classes: expected 1 to"),
        (edit(architecture__stage_sizes=[1.5]), "stage_sizes: expected a list of whole"),
        (edit(architecture__stage_sizes="x"), "stage_sizes: expected a list of whole"),
        (edit(architecture__num_classes="ten"), "num_classes: expected a whole"),
        (edit(architecture__num_classes=10**30), "num_classes: expected 1 to"),
        (edit(architecture__num_classes=4), "damaged|does not fit"),
        (edit(architecture__stage_widths=[8]), "damaged|does not fit"),
        (edit(architecture__stage_sizes=[2]), "damaged|does not fit"),
        (edit(digest="0" * 64), "are damaged: they are not those that were written"),
    ],
)
def test_damaged_manifests(saved: Path, change: Callable[[bytes], bytes], expected: str) -> None:
    manifest = saved / "manifest.json"
    manifest.write_bytes(change(manifest.read_bytes()))
    with pytest.raises(UserError, match=expected) as caught:
        Network.load(saved)
    assert str(saved) in str(caught.value)
    assert len(str(caught.value).splitlines()[0]) < 700


def test_a_manifest_without_a_digest_is_read(saved: Path) -> None:
    manifest = saved / "manifest.json"
    manifest.write_bytes(without("digest")(manifest.read_bytes()))
    assert equal_bits(Network.load(saved).params, random_variables(TINY)[0])


def test_a_manifest_that_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "net" / "manifest.json").mkdir(parents=True)
    with pytest.raises(UserError, match="is damaged"):
        Network.load(tmp_path / "net")


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("architecture", [TINY, WIDE], ids=["tiny", "wide"])
def test_a_damaged_file_never_gives_other_values(
    tmp_path: Path, architecture: ResNetArchitecture, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every file, one at a time. Orbax leaves unused files, which may be missing."""
    params, stats = random_variables(architecture)
    Network(architecture, params, stats, {}).save(tmp_path / "net")
    refused = 0
    names = [path.relative_to(tmp_path / "net") for path in contents(tmp_path / "net")]
    for name in names:
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "net", copy)
        DAMAGE[damage](copy / name)
        try:
            network = Network.load(copy)
        except UserError as error:
            assert str(copy) in str(error)
            assert "\n" not in str(error)
            refused += 1
        else:
            assert equal_bits(network.params, params) and equal_bits(network.batch_stats, stats)
        shutil.rmtree(copy)
    assert refused >= 3  # the manifest, the index and the arrays at least
    # TensorStore's threads print a traceback per array that Orbax has stopped waiting for.
    assert "Traceback" not in capfd.readouterr().err


def test_the_variables_of_another_network_are_refused(saved: Path, tmp_path: Path) -> None:
    Network(TINY, *random_variables(TINY, 1), {}).save(tmp_path / "other")
    shutil.rmtree(saved / "variables")
    shutil.copytree(tmp_path / "other" / "variables", saved / "variables")
    with pytest.raises(UserError, match="not those that were written"):
        Network.load(saved)


def test_no_variables(saved: Path) -> None:
    shutil.rmtree(saved / "variables")
    with pytest.raises(UserError, match="the variables in .* are damaged"):
        Network.load(saved)


# ---- Whole or not there --------------------------------------------------------------------------


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        Network(TINY, *random_variables(TINY), {}).save(tmp_path / "file" / "net")


def test_a_full_disk_is_seen_before_a_network_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch)
    with pytest.raises(UserError, match=r"cannot write .*net: .*the disk has 1,000 left"):
        Network(TINY, *random_variables(TINY), {}).save(tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


@REFUSED
def test_a_full_disk_leaves_no_network(tmp_path: Path) -> None:
    variables = random_variables(WIDE)
    with pytest.raises(UserError, match="cannot write .*net: "), largest_file(32 << 10):
        Network(WIDE, *variables, {}).save(tmp_path / "net")
    assert list(tmp_path.iterdir()) == []
    Network(WIDE, *variables, {}).save(tmp_path / "net")
    assert equal_bits(Network.load(tmp_path / "net").params, variables[0])
    gc.collect()


def test_ctrl_c_leaves_no_network_and_no_thread_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close, ended = ocp.StandardCheckpointer.close, []

    def interrupted(checkpointer: ocp.StandardCheckpointer) -> None:
        os.kill(os.getpid(), signal.SIGINT)  # its threads are writing now
        close(checkpointer)
        ended.append(True)

    monkeypatch.setattr(ocp.StandardCheckpointer, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Network(WIDE, *random_variables(WIDE)).save(tmp_path / "network")
    assert ended == [True] and list(tmp_path.iterdir()) == []


def test_ctrl_c_waits_until_a_network_is_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = interrupt_when_called(monkeypatch, ocp.PyTreeCheckpointer, "restore")
    with pytest.raises(KeyboardInterrupt):
        Network.load(saved)
    assert ended == ["restore"]


def test_a_kill_leaves_no_network(tmp_path: Path) -> None:
    script = """
import os, sys
from etils import epath
from rtl_jax.runtime.paths import complete_or_absent
with complete_or_absent(sys.argv[1]) as temporary:
    temporary.mkdir()
    (temporary / "manifest.json").write_text("{}")
    os._exit(9)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script, str(tmp_path / "net")])
    assert done.returncode == 9
    assert not (tmp_path / "net").exists()
    assert [path.name[:5] for path in tmp_path.iterdir()] == [".net."]  # hidden, in nobody's way
    Network(TINY, *random_variables(TINY), {}).save(tmp_path / "net")
    assert is_network(tmp_path / "net")
