"""A hostile file runs no code, is rejected in one sentence, and exhausts no resources."""

# ruff: noqa: SIM905 (a list of names reads best as words)

import builtins
import functools
import importlib
import operator
import os
import pickle
import resource
import subprocess
import time

import numpy as np
import pytest
import torch
from torch_files import (
    BASIC,
    Call,
    legacy_with_pickle,
    pickle_of,
    prefixed,
    robustness,
    save,
    state,
    zip_with_pickle,
)

from rtl_jax.convert import convert
from rtl_jax.convert.command import main
from rtl_jax.convert.denylist import refused
from rtl_jax.errors import UserError
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.network import Network

pytestmark = pytest.mark.slow


def refuse(path, tmp_path, capsys) -> str:
    """Run the convert command; return its one line, and require exit code 2 and no destination."""
    destination = tmp_path / "destination"
    before = sorted(tmp_path.iterdir())
    assert main([str(path), str(destination)]) == 2
    assert sorted(tmp_path.iterdir()) == before
    error = capsys.readouterr().err
    assert error.startswith(f"convert: {path}: ") and error.count("\n") == 1, error
    return error


CALLS = {
    "os.system": lambda marker: Call(os.system, f"touch {marker}"),
    "subprocess": lambda marker: Call(subprocess.call, ["touch", str(marker)]),
    "Popen": lambda marker: Call(subprocess.Popen, ["touch", str(marker)]),
    "eval": lambda marker: Call(eval, f"open({str(marker)!r}, 'w')"),
    "exec": lambda marker: Call(exec, f"open({str(marker)!r}, 'w')"),
    "open": lambda marker: Call(open, str(marker), "w"),
    "getattr": lambda marker: Call(getattr, "text", "upper"),
    "import": lambda marker: Call(builtins.__import__, "antigravity"),
    "importlib": lambda marker: Call(importlib.import_module, "antigravity"),
    "partial": lambda marker: functools.partial(os.mkdir, str(marker)),
    "attrgetter": lambda marker: operator.attrgetter("x"),
    "loads": lambda marker: Call(pickle.loads, b"N."),
    "torch.load": lambda marker: Call(torch.load, str(marker)),
    "numpy.load": lambda marker: Call(np.load, str(marker)),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_way_to_run_code_is_refused_beside_good_weights(tmp_path, capsys, name, protocol, legacy):
    marker = tmp_path / "marker"
    path = tmp_path / "a.pt"
    content = {"model": state(BASIC), "beside": CALLS[name](marker)}
    torch.save(
        content,
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=not legacy,
    )
    assert "way to run code" in refuse(path, tmp_path, capsys)
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    """posix:system nt:system os.path:join sys:exit __builtin__:eval __builtin__:apply builtins:map
    commands:getoutput runpy:run_path pty:spawn shutil:rmtree socket:socket ctypes:CDLL
    pickle:loads _pickle:Unpickler cPickle:loads marshal:loads types:FunctionType types:CodeType
    code:interact webbrowser:open operator:methodcaller functools:reduce copyreg:add_extension
    codecs:open torch.hub:load torch:load torch.jit:load torch.serialization:load
    torch.storage:_load_from_bytes torch:os.system torch.serialization:os numpy:load
    numpy.testing._private.utils:runstring numpy.f2py.crackfortran:getlincoef
    dill._dill:_eval_repr dill:loads dill._dill:_get_attr cloudpickle:loads joblib:load
    pandas:read_pickle yaml:load pip:main collections:abc.sys.modules
    robustness.tools:__import__ some.module:Class.__init__.__globals__ re:sub
    asyncio.unix_events:_UnixSubprocessTransport._start logging.config:fileConfig gzip:GzipFile
    logging:FileHandler some.module:Class.method torch.utils.benchmark.utils.timer:Timer
    torch.backends.xeon.run_cpu:main""".split(),
)
def test_names_that_run_code(tmp_path, capsys, name):
    for write, ending in ((zip_with_pickle, "zip.pt"), (legacy_with_pickle, "legacy.pt")):
        path = write(tmp_path / ending, pickle_of(name, "true"))
        message = refuse(path, tmp_path, capsys)
        assert name.replace(":", ".") in message and "way to run code" in message


def test_a_name_is_refused_however_it_is_spelled(tmp_path, capsys):
    """GLOBAL, STACK_GLOBAL, INST, memoised names, and names that are never called."""
    spelled = [
        b"\x80\x02}cos\nsystem\n0.",
        b"\x80\x04}\x8c\x02os\x8c\x06system\x93" + b"0.",
        b"\x80\x04\x8c\x06system\x94\x8c\x02os\x94" + b"00}h\x01h\x00\x93" + b"0.",
        b"\x80\x02(X\x04\0\0\0trueios\nsystem\n.",
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x05torch\x8c\tos.system\x93.",
        b"\x80\x02cdill._dill\n_import_module\nX\x02\0\0\0os\x85R.",
        b"\x80\x02ccloudpickle.cloudpickle\nsubimport\nX\n\0\0\0subprocess\x85R.",
    ]
    for number, data in enumerate(spelled):
        path = zip_with_pickle(tmp_path / f"{number}.pt", data)
        assert "way to run code" in refuse(path, tmp_path, capsys), data
    for number, data in enumerate(spelled[:1] + spelled[4:5], start=100):
        (tmp_path / f"{number}.pt").write_bytes(data)
        assert "way to run code" in refuse(tmp_path / f"{number}.pt", tmp_path, capsys), data


class Schedule:
    """A user's own class, with methods that a pickle would call."""

    ran = False

    def __init__(self, *_):
        type(self).ran = True

    def __setstate__(self, fields):
        type(self).ran = True

    def __reduce__(self):
        return Schedule, (1,), {"gamma": 0.1}, iter([1]), iter([("a", 2)])


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_other_classes_become_placeholders_and_are_listed(tmp_path, capsys, legacy):
    content = robustness(state()) | {"schedule": Schedule()}
    Schedule.ran = False
    path = save(content, tmp_path / "a.pt", legacy)
    assert main([str(path), str(tmp_path / "out")]) == 0
    assert not Schedule.ran
    name = f"{Schedule.__module__}.Schedule"
    assert f"placeholders: never run: {name}" in capsys.readouterr().out
    assert Network.load(tmp_path / "out").provenance["placeholders"] == [name]


# {'x': dill's pickle of `lambda epoch: 0.1`}, its code object included.
DILL_LAMBDA = (
    b"\x80\x02cdill._dill\n_create_function\n(cdill._dill\n_create_code\n"
    b"(X\x00\x00\x00\x00K\x01K\x00K\x00tRc__main__\n__dict__\nX\x08\x00\x00\x00<lambda>NNtR."
)


def test_code_objects_of_dill_are_placeholders(tmp_path):
    """`robustness`'s CIFAR files contain these beside their weights, which are still read."""
    path = save(state(), tmp_path / "a.pt", legacy=True)
    data = path.read_bytes()
    # Put the function before the weights in the pickle, and drop it from the stack again.
    start = data.index(b"\x80\x02ccollections\nOrderedDict") + 2
    path.write_bytes(data[:start] + DILL_LAMBDA[2:-1] + b"0" + data[start:])
    lines = []
    convert(path, tmp_path / "out", report=lines.append)
    listed = next(line for line in lines if line.startswith("placeholders"))
    assert "dill._dill._create_code" in listed and "dill._dill._create_function" in listed


def test_ordinary_names_are_not_refused():
    for module, name in [
        ("collections", "OrderedDict"),
        ("collections", "Counter"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch.nn.modules.conv", "Conv2d"),
        ("torch.optim.lr_scheduler", "LambdaLR"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "scalar"),
        ("argparse", "Namespace"),
        ("pathlib", "PosixPath"),
        ("datetime", "datetime"),
        ("decimal", "Decimal"),
        ("cox.utils", "Parameters"),
        ("robustness.attacker", "AttackerModel"),
        ("omegaconf.dictconfig", "DictConfig"),
        ("__main__", "Outer.Inner"),
        ("__builtin__", "set"),
        ("numpy.random._pickle", "__bit_generator_ctor"),
        ("re", "_compile"),
    ]:
        assert not refused(module, name), (module, name)


# Its multiples have one hash.
COLLIDING = (1 << 61) - 1

# Small pickles that would take much memory or time from a reader that trusts them.
BOMBS = {
    "bytes that are not there": b"\x80\x04\x8e" + (1 << 60).to_bytes(8, "little") + b"x.",
    "a number of 2 GiB": b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\1" * 100 + b".",
    "a decimal number of a million digits": b"L" + b"9" * 1_000_000 + b"L\n.",
    "nested lists": b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b".",
    "nested tuples": b"\x80\x02)" + b"\x85" * 900_000 + b".",
    "doubled tuples": b"\x80\x02)" + b"2\x86" * 400_000 + b".",
    "doubled tuples as a message": b"\x80\x02ctorch\nSize\n" + b")" + b"2\x86" * 60 + b"\x85R.",
    "many opcodes": b"\x80\x02" + b"]0" * 2_000_000 + b"N.",
    "copies of one text": b"\x80\x02X"
    + (1 << 20).to_bytes(4, "little")
    + b"x" * (1 << 20)
    + b"X\6\0\0\0latin1\x86q\0"
    + b"0"
    + b"c_codecs\nencode\nq\1"
    + b"("
    + b"h\1h\0R" * 100_000
    + b"t.",
    "copies of one list": b"\x80\x02]("
    + b"NN\x86" * 100_000
    + b"e\x85q\0"
    + b"0ccollections\nOrderedDict\nq\1("
    + b"h\1h\0R" * 100_000
    + b"t.",
    "copies by calls within calls": b"\x80\x02]("
    + b"".join(b"J" + i.to_bytes(4, "little") + b"N\x86" for i in range(50_000))
    + b"e\x85q\0"
    + b"0ctorch._tensor\n_rebuild_from_type_v2\nq\1"
    + b"0ccollections\nOrderedDict\nq\2"
    + b"0("
    + b"h\1(h\2Nh\0tR" * 100_000
    + b"t.",
    "keys that collide": b"\x80\x02ccollections\nOrderedDict\n]("
    + b"".join(
        b"\x8a\x0c" + (i * COLLIDING).to_bytes(12, "little") + b"N\x86" for i in range(200_000)
    )
    + b"e\x85R.",
    "places that collide": b"\x80\x02N"
    + b"".join(b"p%d\n" % (i * COLLIDING) for i in range(200_000))
    + b".",
    "long names": b"\x80\x02X"
    + (3 << 20).to_bytes(4, "little")
    + b"aa." * (1 << 20)
    + b"q\0X\1\0\0\0bq\1("
    + b"h\0h\1\x93" * 10_000
    + b"t.",
    "long imports": b"\x80\x02X"
    + (3 << 20).to_bytes(4, "little")
    + b"aa." * (1 << 20)
    + b"\x85q\0cdill._dill\n_import_module\nq\1("
    + b"h\1h\0R" * 10_000
    + b"t.",
    "no mark": b"\x80\x02t.",
    "an empty stack": b"\x80\x020.",
    "an absent memo": b"\x80\x02h\7.",
    "extension": b"\x80\x02\x82\1.",
    "an odd dictionary": b"\x80\x02}(NNNu.",
    "a list as a key": b"\x80\x02}]Ns.",
    "reduce of odd arguments": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\1K\2tR.",
    "an array of a wrong size": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\1K\5\x85"
    b"cnumpy\ndtype\nX\2\0\0\0f4\x85R\x89C\1xtb.",
    "an array of absurd sizes": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\1("
    + b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f" * 9_000
    + b"tcnumpy\ndtype\nX\2\0\0\0f4\x85R\x89C\1xtb.",
    "a storage of a negative size": b"\x80\x02(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000"
    b"X\3\0\0\0cpuJ\xff\xff\xff\xfftQ.",
    "no end": b"\x80\x02}",
    "not a pickle": b"\x80\x02\xff\xff",
    "bytes behind the end": b"\x80\x02}.cos\nsystem\n.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(tmp_path, capsys, name):
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuse(zip_with_pickle(tmp_path / "zip.pt", BOMBS[name]), tmp_path, capsys)
    refuse(legacy_with_pickle(tmp_path / "legacy.pt", BOMBS[name]), tmp_path, capsys)
    assert time.monotonic() - start < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # KiB


def test_build_and_items_on_placeholders_do_nothing(tmp_path, capsys):
    """State, items and calls of placeholders have no effect."""
    data = (
        b"\x80\x02csome.module\nThing\n)R}X\t\0\0\0__class__cother\nThing\nsb"
        b"(K\1K\2e(X\1\0\0\0aK\1u(K\1K\2\x90)R."
    )
    path = zip_with_pickle(tmp_path / "a.pt", data)
    assert "one object" in refuse(path, tmp_path, capsys)


def test_names_from_the_file_cannot_steer_the_terminal(tmp_path, capsys):
    weights = state() | {"\x1b[2J\x1b]0;owned\x07" + "x" * 5000: torch.ones(2)}
    path = save(weights, tmp_path / "a.pt")
    assert main([str(path), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error and "left over" in error and len(error) < 1000
    content = {"\x1b[2J": prefixed("\x1b[2J.", state(BASIC))}
    content["\x1b[2J"]["\x1b[2J.\x1b[2J.num_batches_tracked"] = torch.ones(2)
    assert main([str(save(content, tmp_path / "b.pt")), str(tmp_path / "out")]) == 0
    assert "names under \\x1b[2J." in (printed := capsys.readouterr().out)
    assert "\x1b" not in printed
    content = robustness(state(BASIC))
    content["model"] = {"module.model.\x1b.num_batches_tracked": torch.ones(2)} | content["model"]
    assert main([str(save(content, tmp_path / "c.pt")), str(tmp_path / "c")]) == 0
    assert "differs in 1 tensors" in (printed := capsys.readouterr().out)
    assert "\x1b" not in printed


def test_a_flood_of_names_is_cut_short(tmp_path, capsys):
    """Each name takes time or a line, and there are arbitrarily many."""
    values = torch.ones(3)
    networks = {f"{i}.{name}.weight": values for i in range(9000) for name in ("conv1", "fc")}
    assert "9,000 networks" in refuse(save(networks, tmp_path / "a.pt"), tmp_path, capsys)
    pairs = {f"{i}.{name}": values for i in range(4000) for name in ("mean", "std")}
    assert "4,000 normal" in refuse(save(pairs | state(BASIC), tmp_path / "b.pt"), tmp_path, capsys)
    one = {str(i): 0 for i in range(20_000)}
    same = {str(i): one for i in range(50_000)}
    assert "no weights" in refuse(save(same, tmp_path / "c.pt"), tmp_path, capsys)
    more = state(BASIC) | {str(i): values for i in range(9000)}
    assert main([str(save(more, tmp_path / "d.pt")), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "... and 8,900 more" in error and len(error) < 5000
    blocks = {f"layer{s}.99.conv{c}.weight": values for s in range(1, 100) for c in (1, 3)}
    blocks |= {"conv1.weight": torch.ones(8, 3, 7, 7), "fc.weight": torch.ones(3, 3)}
    assert "block 99" in refuse(save(blocks, tmp_path / "e.pt"), tmp_path, capsys)


def test_a_small_file_does_not_unfold_to_a_large_network(tmp_path):
    """Tensors that share or repeat the values of one storage."""
    arch = ResNetArchitecture("wide", "bottleneck", (3, 3), (32, 64), num_classes=5)
    weights = state(arch)
    values = torch.zeros(max(value.numel() for value in weights.values()))
    shared = {
        name: values[: value.numel()].view(value.shape) if value.ndim else value
        for name, value in weights.items()
    }
    expanded = {name: torch.zeros(()).expand(value.shape) for name, value in weights.items()}
    with pytest.raises(UserError, match="repeats the elements"):
        convert(save(expanded, tmp_path / "a.pt"), tmp_path / "out", report=lambda _: None)
    with pytest.raises(UserError, match="share their values"):
        convert(save(shared, tmp_path / "b.pt"), tmp_path / "out", report=lambda _: None)
