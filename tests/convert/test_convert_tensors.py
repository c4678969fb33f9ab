"""Tensors are read without torch exactly as by torch."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_files import save, state

from rtl_jax.convert.checkpoint import open_checkpoint
from rtl_jax.convert.constructors import as_tensor
from rtl_jax.convert.tensors import Storage, strided
from rtl_jax.errors import UserError

BASE = torch.arange(60, dtype=torch.float32)
VIEWS = {
    "whole": BASE,
    "matrix": BASE.view(6, 10),
    "transposed": BASE.view(6, 10).t(),
    "strided": BASE.view(6, 10)[1::2, 3:9:3],
    "permuted": BASE.view(3, 4, 5).permute(2, 0, 1),
    "scalar": BASE[7],
    "empty": BASE[:0].view(0, 4),
    "parameter": torch.nn.Parameter(BASE[3:9]),
    "grad": BASE[3:9].clone().requires_grad_(),
    "bool": BASE > 30,
    "half": BASE.half(),
    "bfloat16": BASE.bfloat16(),
    "double": BASE.double() / 7,
    "long": BASE.long() * -(2**40),
    "uint8": BASE.byte(),
    "complex": torch.complex(BASE, -BASE),
    "channels_last": BASE[:48].view(2, 2, 3, 4).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_views_and_dtypes(tmp_path, legacy):
    path = save(VIEWS, tmp_path / "a.pt", legacy)
    expected = torch.load(path, weights_only=True)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.entries.keys() == VIEWS.keys()
        for name, tensor in expected.items():
            got = as_tensor(checkpoint.entries[name]).load()
            assert got.shape == tuple(tensor.shape), name
            if tensor.dtype == torch.bfloat16:
                got, tensor = got.astype(np.float32), tensor.float()
            np.testing.assert_array_equal(got, tensor.detach().numpy(), err_msg=name)


def test_a_subclass_of_tensor_and_numpy_arrays(tmp_path):
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    content = {
        "array": array,
        "scalar": np.float32(1.5),
        "size": torch.Size([2, 3]),
        "raw": b"\xff",
    }
    with open_checkpoint(save(content, tmp_path / "a.pt")) as checkpoint:
        entries = checkpoint.entries
        np.testing.assert_array_equal(as_tensor(entries["array"]).load(), array)
        assert entries["scalar"] == 1.5 and entries["size"] == (2, 3) and entries["raw"] == b"\xff"
        assert checkpoint.placeholders == ()


def test_big_endian(tmp_path):
    """Archives from big-endian machines declare this in a member of their own."""
    path = save({"a": torch.arange(4.0), "b": torch.arange(4).bfloat16()}, tmp_path / "a.pt")
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    swapped = tmp_path / "b.pt"
    with zipfile.ZipFile(swapped, "w") as archive:
        for name, data in members.items():
            if name.endswith("byteorder"):
                data = b"big"
            elif name.endswith("data/0"):
                data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
            elif name.endswith("data/1"):
                data = np.frombuffer(data, "<u2").astype(">u2").tobytes()
            archive.writestr(name, data)
    with open_checkpoint(swapped) as checkpoint:
        for name in "ab":
            got = checkpoint.entries[name].load().astype(np.float32)
            np.testing.assert_array_equal(got, [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (0, (11,), (1,)),
        (1, (10,), (1,)),
        (0, (2, 5), (6, 1)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (-2,), (1,)),
        (0, (2**50,), (0,)),
        (0, (1000,), (0,)),
        (0, (2**40, 2**40), (2**47, 2**47)),
        (0, (2, 2), (1,)),
        (0, (True,), (1,)),
        (0, (1.0,), (1,)),
        (None, (1,), (1,)),
        (0, None, (1,)),
        (0, (1,) * 1000, (1,) * 1000),
    ],
)
def test_a_view_that_leaves_its_storage_is_refused(offset, shape, stride):
    data = bytes(40)
    storage = Storage("0", np.dtype(np.float32), 40, lambda a, b: data[a:b])
    with pytest.raises(UserError):
        strided(storage, storage.dtype, offset, shape, stride)


def test_a_conversion_does_not_import_torch(tmp_path):
    path = save(state(), tmp_path / "a.pt")
    code = (
        "import sys; from rtl_jax.convert import convert; convert(sys.argv[1], sys.argv[2]); "
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "out")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True)
    assert (tmp_path / "out").is_dir()
