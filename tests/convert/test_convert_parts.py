"""Weights in parts or in 8 bits, and schedulers of older torch versions, read as by torch."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch_files import BASIC, Call, pickle_of, save, state, zip_with_pickle

from rtl_jax.convert import convert
from rtl_jax.convert.command import main
from rtl_jax.convert.torch_resnet import randomize, torch_resnet
from rtl_jax.models.network import Network

CONV = "layer2.0.conv1"


def in_parts(kind):
    """Return a state dict whose convolution and head are stored in parts, and both weights."""
    module = randomize(torch_resnet(BASIC), 0)
    for layer in (module.fc, module.layer2[0].conv1):
        if kind == "pruned":
            prune.l1_unstructured(layer, "weight", amount=0.3)
            prune.random_unstructured(layer, "weight", amount=0.3)
        elif kind == "weight norm":
            with pytest.warns(FutureWarning):
                nn.utils.weight_norm(layer)
        elif kind == "weight norm of all":
            parametrizations.weight_norm(layer, dim=None)
        elif kind == "weight norm, parametrised":
            parametrizations.weight_norm(layer, dim=1)
        elif kind == "spectral norm":
            nn.utils.spectral_norm(layer)
        else:
            parametrizations.spectral_norm(layer)
    module.train()(torch.rand(2, 3, 16, 16))  # so that spectral norms have estimated something
    module.eval()(torch.rand(2, 3, 16, 16))
    weights = [layer.weight.detach().numpy() for layer in (module.fc, module.layer2[0].conv1)]
    return module.state_dict(), *weights


@pytest.mark.parametrize(
    "kind",
    [
        "pruned",
        "weight norm",
        "weight norm of all",
        "weight norm, parametrised",
        "spectral norm",
        "spectral norm, parametrised",
    ],
)
def test_weights_in_parts(tmp_path, kind):
    tensors, head, conv = in_parts(kind)
    assert "fc.weight" not in tensors and f"{CONV}.weight" not in tensors
    lines = []
    path = save({"state_dict": tensors}, tmp_path / "a.pth")
    params = Network.load(convert(path, tmp_path / "out", report=lines.append)).params
    np.testing.assert_allclose(params["fc/kernel"], head.T, rtol=1e-5, atol=1e-7)
    found = params["layer2/0/conv1/kernel"].transpose(3, 2, 0, 1)
    np.testing.assert_allclose(found, conv, rtol=1e-5, atol=1e-7)
    assert any("computed from their parts: " in line and "and 1 more" in line for line in lines)


def test_parts_that_do_not_fit_together(tmp_path, capsys):
    tensors, *_ = in_parts("pruned")
    tensors["fc.weight_mask"] = torch.ones(4)
    path = save(tensors, tmp_path / "a.pth")
    assert main([str(path), str(tmp_path / "out")]) == 2
    assert "fc.weight pruned, of parts that do not fit together" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_eight_bits(tmp_path, dtype, ending):
    weights = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in state(BASIC).items()
    }
    path, lines = tmp_path / f"a.{ending}", []
    save_file(weights, path) if ending == "safetensors" else save(weights, path)
    params = Network.load(convert(path, tmp_path / "out", report=lines.append)).params
    np.testing.assert_array_equal(params["fc/kernel"], weights["fc.weight"].float().numpy().T)
    kernel = weights["conv1.weight"].float().permute(2, 3, 1, 0).numpy()
    np.testing.assert_array_equal(params["conv1/kernel"], kernel)
    assert any("float8" in line and "written as float32" in line for line in lines)


SCHEDULE = torch.optim.lr_scheduler.OneCycleLR


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("owner", ["class", "object"])
def test_a_scheduler_that_keeps_its_own_function(tmp_path, legacy, protocol, owner):
    """OneCycleLR's state before torch 2.4: a static method, and before that a bound one."""
    if owner == "class":
        function = (
            SCHEDULE._annealing_cos if protocol == 4 else Call(getattr, SCHEDULE, "_annealing_cos")
        )
    else:
        function = Call(getattr, object.__new__(SCHEDULE), "_annealing_cos")
    content = {"model": state(BASIC), "scheduler": {"anneal_func": function, "again": function}}
    path, lines = tmp_path / "a.pt", []
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    network = Network.load(convert(path, tmp_path / "out", report=lines.append))
    np.testing.assert_array_equal(network.params["fc/bias"], state(BASIC)["fc.bias"].numpy())
    assert "placeholders: never run: torch.optim" in "\n".join(lines)


_CLASS = b"ctorch.optim.lr_scheduler\nOneCycleLR\n"
_NAME = b"X\x0e\0\0\0_annealing_cos"
_HARMLESS = b"cbuiltins\ngetattr\nq\1" + _CLASS + _NAME + b"\x86R"
HOSTILE = {
    "kept": b"\x80\x02" + _HARMLESS + b"0}h\1.",
    "kept in a tuple": b"\x80\x02}" + _HARMLESS + b"0h\1\x850.",
    "dropped": b"\x80\x02}" + _HARMLESS + b"0h\x010.",
    "doubled": b"\x80\x02}" + _HARMLESS + b"0h\x012\x860.",
    "never called": b"\x80\x02}cbuiltins\ngetattr\n0.",
    "an argument": b"\x80\x02}csome.module\nThing\n" + _HARMLESS + b"0h\1\x85R0.",
    "its result is called": b"\x80\x02}" + _HARMLESS + b")R0.",
    "a dotted name is called": b"\x80\x02}ctorch.optim.lr_scheduler\nOneCycleLR.step\n)R0.",
    "a name within": b"\x80\x02}cbuiltins\ngetattr\n" + _CLASS + b"X\x08\0\0\0__dict__\x86R0.",
    "a chain": b"\x80\x02}cbuiltins\ngetattr\nq\1" + _HARMLESS + _NAME + b"\x86R0.",
    "three arguments": b"\x80\x02}cbuiltins\ngetattr\n" + _CLASS + _NAME + b"N\x87R0.",
    "of a module": b"\x80\x02}cbuiltins\ngetattr\nctorch\nnn\n" + _NAME + b"\x86R0.",
    "of another class": b"\x80\x02}cbuiltins\ngetattr\nctorch.nn\nModule\n" + _NAME + b"\x86R0.",
    "by INST": b"\x80\x02}(" + _CLASS + b"X\x04\0\0\0loadibuiltins\ngetattr\n0.",
    "a new object": b"\x80\x02}cbuiltins\ngetattr\n" + _CLASS + b"X\x04\0\0\0eval\x86\x810.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_every_other_getattr_is_refused(tmp_path, capsys, name):
    path = zip_with_pickle(tmp_path / "a.pt", HOSTILE[name])
    assert main([str(path), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "way to run code" in error and error.count("\n") == 1


def test_a_refusal_says_the_way_out(tmp_path, capsys):
    path = zip_with_pickle(tmp_path / "a.pt", pickle_of("functools:partial", "x"))
    assert main([str(path), str(tmp_path / "out")]) == 2
    assert "torch.save(model.state_dict(), path)" in capsys.readouterr().err
