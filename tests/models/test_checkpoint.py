"""Networks and trainings on disk: bit for bit, whole or not there, and never garbage."""

import gc
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from rtl_jax.train.checkpoints import TrainingCheckpoints

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


def equal_bits(left: Any, right: Any) -> bool:
    """Whether two dictionaries hold the same bits under the same names."""
    if left.keys() != right.keys():
        return False
    pairs = [(np.asarray(left[key]), np.asarray(right[key])) for key in left]
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs
    )


def contents(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    Network(TINY, *random_variables(TINY), PROVENANCE).save(tmp_path / "net")
    return tmp_path / "net"


def fill_disk(patch: pytest.MonkeyPatch) -> None:
    """The disk has 1,000 bytes left."""
    usage = shutil.disk_usage(".")._replace(free=1000)
    patch.setattr(shutil, "disk_usage", lambda place: usage)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files beyond `size` bytes cannot be written: as refused as on a full disk, by the system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ---- Networks ------------------------------------------------------------------------------------


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


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "deleted": lambda path: path.unlink(),
    "flipped": lambda path: path.write_bytes(flipped(path.read_bytes())),
}


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x41]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("architecture", [TINY, WIDE], ids=["tiny", "wide"])
def test_a_damaged_file_never_gives_other_values(
    tmp_path: Path, architecture: ResNetArchitecture, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every file, one at a time. Orbax leaves files behind that nothing reads: those may go."""
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


def test_a_full_disk_is_seen_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    save_epochs(tmp_path / "c", 1)
    with monkeypatch.context() as patch, TrainingCheckpoints(tmp_path / "c") as checkpoints:
        fill_disk(patch)
        with pytest.raises(UserError, match=r"cannot write .*net: .*the disk has 1,000 left"):
            Network(TINY, *random_variables(TINY), {}).save(tmp_path / "net")
        with pytest.raises(UserError, match=r"epoch 2 .*the disk has 1,000 left.*make room"):
            checkpoints.save(2, state(2), record(2))
        assert checkpoints.latest() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["1"]
    assert capfd.readouterr().err == ""


# Where the system refuses in the middle, Orbax drops its other coroutines.
REFUSED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


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


def interrupt_when_called(patch: pytest.MonkeyPatch, owner: type, name: str) -> list[str]:
    """Ctrl-C arrives as a method begins; the methods that reached their end."""
    method, ended = getattr(owner, name), []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        result = method(*args, **kwargs)
        ended.append(name)
        return result

    patch.setattr(owner, name, interrupted)
    return ended


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


# ---- Trainings -----------------------------------------------------------------------------------


def state(epoch: int, width: int = 4) -> dict[str, Any]:
    """A training's state: many arrays of several types, other ones in every epoch."""
    random = np.random.default_rng(epoch)
    arrays: dict[str, Any] = {
        f"{index:02d}/kernel": jnp.asarray(random.normal(size=(3, 3, width, width)), jnp.float32)
        for index in range(12)
    }
    arrays["count"] = jnp.asarray(epoch, jnp.int32)
    arrays["half"] = jnp.asarray(random.normal(size=5), jnp.bfloat16)
    arrays["minus zero"] = jnp.full((200,), -0.0)
    return {"state": arrays, "key": jax.random.key_data(jax.random.key(epoch))}


def record(epoch: int) -> dict[str, Any]:
    rows = [{"accuracy": 100 / 3, "blocks": None, "run": "é"}] * epoch
    return {"epoch": epoch, "rows": rows, "seconds": 0.1 * epoch}


def save_epochs(directory: Path, *epochs: int, width: int = 4) -> None:
    with TrainingCheckpoints(directory) as checkpoints:
        for epoch in epochs:
            checkpoints.save(epoch, state(epoch, width), record(epoch))


def is_restored(checkpoints: TrainingCheckpoints, epoch: int, width: int = 4) -> bool:
    expected = state(epoch, width)
    arrays, found = checkpoints.restore(epoch, state(99, width))
    return (
        found == record(epoch)
        and equal_bits(arrays["state"], expected["state"])
        and equal_bits({"key": arrays["key"]}, {"key": expected["key"]})
        and list(arrays["state"]) == sorted(expected["state"])
    )


def test_trainings_round_trip(tmp_path: Path) -> None:
    with TrainingCheckpoints(tmp_path / "a" / "b") as checkpoints:
        assert checkpoints.latest() is None
        checkpoints.save(1, state(1), record(1))
        assert checkpoints.latest() == 1
        assert is_restored(checkpoints, 1)
    with TrainingCheckpoints(epath.Path(tmp_path / "a" / "b")) as checkpoints:
        assert checkpoints.latest() == 1
        assert is_restored(checkpoints, 1)


@pytest.mark.parametrize("name", ["restore", "close"])
def test_ctrl_c_waits_for_what_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    save_epochs(tmp_path, 1)
    with pytest.raises(KeyboardInterrupt), TrainingCheckpoints(tmp_path) as checkpoints:
        ended = interrupt_when_called(monkeypatch, ocp.CheckpointManager, name)
        is_restored(checkpoints, 1)
    assert ended == [name]


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    save_epochs(tmp_path, 1, 5, 7, 20)
    with TrainingCheckpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 20
        assert is_restored(checkpoints, 20) and is_restored(checkpoints, 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["20", "7"]


@pytest.mark.parametrize("width", [4, 32], ids=["small", "large"])
def test_an_unreadable_epoch_is_named_and_the_one_before_goes_on(
    tmp_path: Path, width: int, capfd: pytest.CaptureFixture[str]
) -> None:
    save_epochs(tmp_path / "c", 3, 4, width=width)
    newest = tmp_path / "c" / "4"
    largest = max(contents(newest / "arrays"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    for path in (newest / "arrays" / "d").iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    with TrainingCheckpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.latest() == 4
        with pytest.raises(UserError, match=rf"checkpoint {newest} cannot .* remove that direct"):
            checkpoints.restore(4, state(99, width))
    assert "Traceback" not in capfd.readouterr().err
    shutil.rmtree(newest)
    with TrainingCheckpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.latest() == 3
        assert is_restored(checkpoints, 3, width)
        checkpoints.save(4, state(4, width), record(4))
        assert is_restored(checkpoints, 4, width)


# So it does where an index file of its own is damaged.
@REFUSED
@pytest.mark.parametrize("damage", ["halved", "deleted", "flipped"])
def test_a_damaged_epoch_never_gives_other_values(tmp_path: Path, damage: str) -> None:
    width = 32
    save_epochs(tmp_path / "c", 3, width=width)
    refused = 0
    for name in [path.relative_to(tmp_path / "c") for path in contents(tmp_path / "c" / "3")]:
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "c", copy)
        DAMAGE[damage](copy / name)
        with TrainingCheckpoints(copy) as checkpoints:
            try:
                assert is_restored(checkpoints, 3, width)
            except UserError as error:
                assert str(copy / "3") in str(error)
                refused += 1
        shutil.rmtree(copy)
    gc.collect()
    assert refused >= 3


def test_another_structure_is_refused(tmp_path: Path) -> None:
    save_epochs(tmp_path, 1)
    other = state(1)
    other["state"]["another"] = jnp.zeros(3)
    with TrainingCheckpoints(tmp_path) as checkpoints, pytest.raises(UserError, match="remove"):
        checkpoints.restore(1, other)


def test_half_written_epochs_are_ignored(tmp_path: Path) -> None:
    save_epochs(tmp_path, 1)
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp-0")
    shutil.rmtree(tmp_path / "2.orbax-checkpoint-tmp-0" / "arrays")
    with TrainingCheckpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 1
        assert is_restored(checkpoints, 1)
        checkpoints.save(2, state(2), record(2))
        assert is_restored(checkpoints, 2)


def test_a_kill_while_saving_keeps_the_epoch_before(tmp_path: Path) -> None:
    """The process dies when Orbax is about to give the second epoch its name."""
    script = """
import os, sys
from pathlib import Path
from tests.models.test_checkpoint import record, state
from rtl_jax.train.checkpoints import TrainingCheckpoints
checkpoints = TrainingCheckpoints(sys.argv[1])
checkpoints.save(1, state(1), record(1))
def die(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("/2"):
        os._exit(9)
sys.addaudithook(die)
checkpoints.save(2, state(2), record(2))
"""
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment)
    assert done.returncode == 9
    assert len(list(tmp_path.iterdir())) == 2
    with TrainingCheckpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 1
        assert is_restored(checkpoints, 1)


@REFUSED
def test_a_full_disk_keeps_the_epoch_before(tmp_path: Path) -> None:
    save_epochs(tmp_path, 1, width=32)
    with (
        TrainingCheckpoints(tmp_path) as checkpoints,
        pytest.raises(UserError, match=r"cannot write the checkpoint of epoch 2 .*again"),
        largest_file(32 << 10),
    ):
        checkpoints.save(2, state(2, 32), record(2))
    with TrainingCheckpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 1
        assert is_restored(checkpoints, 1, 32)
        checkpoints.save(2, state(2, 32), record(2))
        assert is_restored(checkpoints, 2, 32)
    gc.collect()
