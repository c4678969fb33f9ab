"""The choice of a network and of tensors in a file, and heads of other names or none."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch_files import BASIC, prefixed, robustness, save, state

import rtl_jax
from rtl_jax.convert import convert
from rtl_jax.convert.command import main
from rtl_jax.models.network import Network

ONE, OTHER = state(BASIC), state(BASIC, seed=1)


def run(path, tmp_path, capsys, *options, code=0):
    """Run the convert command; return its output and, if there is one, the network."""
    out = tmp_path / "out"
    assert main([str(path), str(out), *options]) == code
    said = capsys.readouterr()
    assert out.exists() == (code == 0)
    return (said.out, Network.load(out)) if code == 0 else (said.err, None)


def is_of(network, weights) -> bool:
    kernel, bias = network.params["fc/kernel"], network.params["fc/bias"]
    stem = network.params["conv1/kernel"].transpose(3, 2, 0, 1)
    return (
        np.array_equal(kernel, weights["fc.weight"].numpy().T)
        and np.array_equal(bias, weights["fc.bias"].numpy())
        and np.array_equal(stem, weights["conv1.weight"].numpy())
    )


def renamed(head, weights=ONE):
    return {name.replace("fc.", f"{head}."): value for name, value in weights.items()}


@pytest.mark.parametrize("head", ["fc.1", "head.fc", "head", "classifier.2", "last_linear"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_heads_of_other_names(tmp_path, capsys, head, prefix):
    path = save(prefixed(prefix, renamed(head)), tmp_path / "a.pth")
    said, network = run(path, tmp_path, capsys)
    assert is_of(network, ONE) and f"head: {head}, its only linear layer" in said


def test_a_head_beside_the_backbone(tmp_path, capsys):
    tensors = {
        ("head." + name[3:] if name.startswith("fc.") else f"backbone.{name}"): value
        for name, value in ONE.items()
    }
    _, network = run(
        save({"state_dict": prefixed("m.", tensors)}, tmp_path / "a"), tmp_path, capsys
    )
    assert is_of(network, ONE)


def test_a_head_without_bias(tmp_path, capsys):
    tensors = {name: value for name, value in ONE.items() if name != "fc.bias"}
    said, network = run(save(tensors, tmp_path / "a.pth"), tmp_path, capsys)
    assert "fc has no bias" in said
    assert is_of(network, ONE | {"fc.bias": torch.zeros(BASIC.num_classes)})


def test_a_head_of_two_layers(tmp_path, capsys):
    tensors = renamed("fc.2") | {"fc.0.weight": torch.ones(12, 12), "fc.0.bias": torch.ones(12)}
    path = save(tensors, tmp_path / "a.pth")
    error, _ = run(path, tmp_path, capsys, code=2)
    assert "2 linear layers" in error and "fc.0.weight" in error and "--ignore" in error
    _, network = run(path, tmp_path, capsys, "--head", "zeros", "--ignore", "fc.*")
    assert network.provenance["head"] == "none of its own: zeros"


@pytest.mark.parametrize("word", ["zeros", "seed:3"])
@pytest.mark.parametrize("prefix", ["", "module.encoder_q."])
def test_a_backbone(tmp_path, capsys, caplog, word, prefix):
    tensors = {name: value for name, value in ONE.items() if not name.startswith("fc.")}
    path = save({"state_dict": prefixed(prefix, tensors)}, tmp_path / "a.pth")
    error, _ = run(path, tmp_path, capsys, code=2)
    assert "without its head" in error and "--head zeros" in error
    said, network = run(path, tmp_path, capsys, "--head", word, "--check")
    assert "warning: a network without a head" in said and "are meaningless" in said
    assert network.provenance["head"] == f"none of its own: {word}"
    # Whoever predicts with it reads this in the place of a class, and no data set has such names.
    assert all(name.startswith("(no head") for name in network.class_names)
    assert rtl_jax.load(str(tmp_path / "out")).num_classes == 2
    assert "only a placeholder head" in caplog.text and "are meaningless" in caplog.text
    assert main(["export", str(tmp_path / "out"), str(tmp_path / "back.safetensors")]) == 0
    assert "only a placeholder" in capsys.readouterr().out
    assert np.any(network.params["fc/kernel"]) == (word != "zeros")
    again = convert(path, tmp_path / "again", head=word, report=lambda _: None)
    np.testing.assert_array_equal(
        Network.load(again).params["fc/kernel"], network.params["fc/kernel"]
    )
    kernel = network.params["layer2/0/conv2/kernel"].transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(kernel, ONE["layer2.0.conv2.weight"].numpy())


def test_a_backbone_in_two_equal_copies(tmp_path, capsys):
    tensors = {name: value for name, value in ONE.items() if not name.startswith("fc.")}
    path = save(robustness(tensors), tmp_path / "a.pt")
    said, _ = run(path, tmp_path, capsys, "--head", "seed:0")
    assert "equal in every bit" in said


def test_words_for_a_head_that_do_not_fit(tmp_path, capsys):
    path = save(ONE, tmp_path / "a.pth")
    error, _ = run(path, tmp_path, capsys, "--head", "zeros", code=2)
    assert "has a head" in error
    error, _ = run(path, tmp_path, capsys, "--head", "random", code=2)
    assert "zeros or seed:N" in error
    error, _ = run(path, tmp_path, capsys, "--head", "zeros", "--reference", "x.npz", code=2)
    assert "of its own" in error


@pytest.mark.parametrize("key", ["state_dict_ema", "deep.er.ema"])
def test_a_dictionary_by_its_key(tmp_path, capsys, key):
    content = {"state_dict": ONE, "state_dict_ema": OTHER}
    if key.startswith("deep"):
        content = {"state_dict": ONE, "deep": {"er": {"ema": OTHER}}}
    path = save(content, tmp_path / "a.pth")
    said, network = run(path, tmp_path, capsys)
    assert is_of(network, ONE) and f"--key NAME converts one of them: {key}" in said
    network = Network.load(convert(path, tmp_path / "b", key=key, report=lambda _: None))
    assert is_of(network, OTHER) and network.provenance["key"] == key
    error, _ = run(path, tmp_path / "x", capsys, "--key", "emma", code=2)
    assert f"state_dict, {key}" in error


def test_nested_dictionaries_are_found(tmp_path, capsys):
    path = save({"checkpoint": {"model": {"weights": ONE}}}, tmp_path / "a.pth")
    said, network = run(path, tmp_path, capsys)
    assert is_of(network, ONE) and "read: checkpoint.model.weights" in said


def test_a_network_by_its_prefix(tmp_path, capsys):
    content = prefixed("model.", ONE) | prefixed("ema_model.", OTHER)
    path = save({"state_dict": content}, tmp_path / "a.pth")
    error, _ = run(path, tmp_path, capsys, code=2)
    assert "two networks" in error and "--prefix" in error
    error, _ = run(path, tmp_path, capsys, "--prefix", "emma", code=2)
    assert "'model.', 'ema_model.'" in error
    said, network = run(path, tmp_path, capsys, "--prefix", "ema_model", "--check")
    assert is_of(network, OTHER) and "not read, under: model." in said
    assert network.provenance["prefix"] == "ema_model."


def test_tensors_that_are_no_part_of_the_network(tmp_path, capsys):
    content = {"n_averaged": torch.tensor(5), **prefixed("module.", ONE)}
    _, network = run(save(content, tmp_path / "a.pth"), tmp_path, capsys)
    assert is_of(network, ONE)
    content |= {"criterion.weight": torch.ones(10), "acc.tp": torch.zeros(10)}
    path = save(content, tmp_path / "b.pth")
    error, _ = run(path, tmp_path / "x", capsys, code=2)
    assert "left over: criterion.weight" in error and "--ignore" in error
    flags = ["--ignore", "criterion.*", "--ignore", "acc.*"]
    error, _ = run(path, tmp_path / "x", capsys, *flags, "--ignore", "loss.*", code=2)
    assert "loss.*" in error
    out = convert(path, tmp_path / "c", ignore=("criterion.*", "acc.*"), report=lambda _: None)
    assert is_of(Network.load(out), ONE)
    error, _ = run(path, tmp_path / "x", capsys, *flags, "--ignore", "*.bn1.bias", code=2)
    assert "missing: bn1.bias" in error


def test_what_is_said_of_shards_and_other_networks(tmp_path, capsys):
    names = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    for name, half in zip(names, (list(ONE)[:9], list(ONE)[9:]), strict=True):
        save_file({n: ONE[n] for n in half}, tmp_path / name)
        error, _ = run(tmp_path / name, tmp_path, capsys, code=2)
        assert "of 2 of a network that is saved in shards" in error
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(ONE, names[0])}))
    assert "the index of a network" in run(index, tmp_path, capsys, code=2)[0]
    for extra, said in [
        ({"layer2.0.conv1.filt": torch.ones(8, 1, 3, 3)}, "Blur pooling"),
        ({"layer2.0.se.fc1.weight": torch.ones(2, 12, 1, 1)}, "squeeze-and-excitation"),
        ({"layer2.0.downsample.2.weight": torch.ones(12)}, "left over: layer2.0.downsample.0"),
        ({"mean": torch.ones(3)}, "--std"),
        ({"fc.weight_scale": torch.ones(1)}, "Quantised"),
    ]:
        path = save(ONE | extra, tmp_path / "c.pth")
        assert said in run(path, tmp_path, capsys, code=2)[0]
    error, _ = run(save([ONE, 3], tmp_path / "e"), tmp_path, capsys, code=2)
    assert "no dictionary of weights but a list of 2" in error
