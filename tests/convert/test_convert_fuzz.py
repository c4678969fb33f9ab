"""Whatever happens to a file's bytes, it is read completely or rejected with a UserError."""

import random

import numpy as np
import pytest
from safetensors.torch import save_file
from torch_files import BASIC, robustness, save, state

from rtl_jax.convert import network
from rtl_jax.convert.checkpoint import open_checkpoint, translated
from rtl_jax.convert.layouts.entry import COUNTER
from rtl_jax.errors import UserError

ROUNDS = 150


def read(path):
    """Read a file as `convert` does before it writes: return all tensors, or raise UserError."""
    with open_checkpoint(path) as checkpoint, translated(path):
        found = network.find(checkpoint)
        network.file_size_check(found, path)
        network.compare_copies(found, lambda _: None)
        return {name: network.load(tensor, name) for name, tensor in found.tensors.items()}


def damage(data: bytes, where: list[int], draw: random.Random) -> bytes:
    """Flip, set, cut, duplicate or drop some bytes, mostly in structural parts."""
    damaged = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 5])):
        place = min(draw.choice(where), max(len(damaged) - 1, 0))
        kind = draw.randrange(6)
        if not damaged:
            break
        if kind == 0:
            damaged[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            damaged[place] = draw.choice([0, 1, 0x2E, 0x52, 0x62, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            del damaged[place:]
        elif kind == 3:
            damaged[place:place] = damaged[place : place + draw.randrange(1, 40)]
        elif kind == 4:
            del damaged[place : place + draw.randrange(1, 40)]
        else:
            damaged[place : place + 4] = draw.randbytes(4)
    return bytes(damaged)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_damaged_files(tmp_path, form, rounds=ROUNDS, seed=0):
    path, weights = tmp_path / "a.pt", state(BASIC)
    if form == "safetensors":
        save_file(weights, path)
    else:
        save(robustness(weights), path, legacy=form == "legacy")
    assert len(read(path)) == len(weights)
    data = path.read_bytes()
    expected = {name: value.shape for name, value in weights.items()}
    pickle = data.find(b"\x80\x02}q") if form == "zip" else 0
    structure = [pickle + i for i in range(3000)]
    structure += [len(data) - 1 - i for i in range(3000)] if form == "zip" else []
    structure += list(range(0, len(data), 97))
    draw = random.Random(seed)
    read_whole = 0
    for _ in range(rounds):
        path.write_bytes(damage(data, structure, draw))
        try:
            values = read(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
            continue
        read_whole += 1
        values = {n: v for n, v in values.items() if not n.endswith(COUNTER)}
        assert values.keys() <= expected.keys()
        for name, value in values.items():
            assert value.shape == tuple(expected[name]) and np.isfinite(value).all()
    assert read_whole < rounds
