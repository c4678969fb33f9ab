"""Files that are not valid checkpoints: a one-sentence error and exit code 2."""

import os
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch_files import BASIC, robustness, save, state, zip_with_pickle

from rtl_jax.convert.command import main

ROOT = Path(__file__).parents[2]


def errors(capsys) -> str:
    """Return what went to standard error, without the progress that a busy machine tells first."""
    return re.sub(r"^reading: +\d+ %.*\n", "", capsys.readouterr().err, flags=re.MULTILINE)


def refuse(path, tmp_path, capsys, *options) -> str:
    before = sorted(tmp_path.iterdir())
    assert main([str(path), str(tmp_path / "destination"), *options]) == 2
    assert sorted(tmp_path.iterdir()) == before
    error = errors(capsys)
    assert error.startswith("convert: ") and str(path) in error
    assert "Traceback" not in error
    return error


def content(name: str) -> bytes:
    return {
        "empty": b"",
        "html": b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>" * 50,
        "html after blanks": b"\n\n  <html lang='en'>",
        "text": b"Quota exceeded. Please try again later.\n",
        "umlauts": ("Zu gro\u00df f\u00fcr diesen Server. " * 200).encode(),
        "json": b'{"error": "Repository not found"}',
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
        "gzip": b"\x1f\x8b\x08" + bytes(100),
        "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "tar": bytes(257) + b"ustar\x0000" + bytes(1000),
        "zeros": bytes(5000),
        "noise": bytes(range(256)) * 20,
        "one byte": b"P",
        "pickle of numbers": b"\x80\x02K\1.",
    }[name]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty", "empty"),
        ("html", "HTML page"),
        ("html after blanks", "HTML page"),
        ("text", "text file"),
        ("umlauts", "text file"),
        ("json", "JSON"),
        ("lfs", "git lfs pull"),
        ("gzip", "gzip"),
        ("hdf5", "HDF5"),
        ("tar", "tar"),
        ("zeros", "not a readable checkpoint"),
        ("noise", "not a readable checkpoint"),
        ("one byte", ""),
        ("pickle of numbers", "not one that torch.save wrote"),
    ],
)
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_no_checkpoint(tmp_path, capsys, name, said, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content(name))
    error = refuse(path, tmp_path, capsys)
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.99, -1])
def test_truncated(tmp_path, capsys, form, part):
    path = tmp_path / "a.pt"
    if form == "safetensors":
        save_file(state(BASIC), path)
    else:
        save(robustness(state(BASIC)), path, legacy=form == "legacy")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part) if part > 0 else -1])
    error = refuse(path, tmp_path, capsys)
    assert error.count("\n") == 1
    if part != 0.001:
        assert "download it again" in error


def test_a_flipped_bit_is_seen_in_an_archive(tmp_path, capsys):
    weights = state(BASIC)
    path = save(weights, tmp_path / "a.pt")
    data = bytearray(path.read_bytes())
    place = data.index(weights["layer1.0.conv1.weight"].numpy().tobytes()) + 100
    data[place] ^= 1
    path.write_bytes(data)
    assert "download it again" in refuse(path, tmp_path, capsys)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["layer2.0.conv1.weight", "bn1.running_var", "fc.bias"])
def test_not_finite(tmp_path, capsys, value, name):
    weights = state(BASIC)
    weights[name].view(-1)[1] = value
    error = refuse(save(weights, tmp_path / "a.pt"), tmp_path, capsys)
    assert name in error and "NaN or infinite" in error and error.count("\n") == 1


def test_values_beyond_float32_and_a_negative_variance(tmp_path, capsys):
    weights = state(BASIC)
    weights["fc.bias"] = weights["fc.bias"].double() * 1e200
    assert "fc.bias" in refuse(save(weights, tmp_path / "a.pt"), tmp_path, capsys)
    weights = state(BASIC)
    weights["bn1.running_var"][0] = -1
    assert "variance" in refuse(save(weights, tmp_path / "b.pt"), tmp_path, capsys)
    weights = state(BASIC)
    weights["fc.bias"] = weights["fc.bias"].long()
    assert "int64" in refuse(save(weights, tmp_path / "c.pt"), tmp_path, capsys)


def test_zip_archives_made_to_harm(tmp_path, capsys):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(200 << 20))
    assert path.stat().st_size < 1 << 20
    assert "zip bomb" in refuse(path, tmp_path, capsys)

    path = zip_with_pickle(tmp_path / "path.pt", b"\x80\x02}.", [("../../etc/x", b"")])
    assert "unsafe name" in refuse(path, tmp_path, capsys)
    path = zip_with_pickle(tmp_path / "absolute.pt", b"\x80\x02}.", [("/etc/x", b"x")])
    assert "unsafe name" in refuse(path, tmp_path, capsys)
    with pytest.warns(UserWarning, match="Duplicate"):
        zip_with_pickle(tmp_path / "twice.pt", b"\x80\x02}.", [("archive/data.pkl", b"N.")])
    assert "two members" in refuse(tmp_path / "twice.pt", tmp_path, capsys)

    path = save(state(BASIC), tmp_path / "encrypted.pt")
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    assert "encrypted" in refuse(path, tmp_path, capsys)

    path = zip_with_pickle(tmp_path / "size.pt", b"\x80\x02}.", [("archive/data/0", b"1234")])
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\1\2")
    struct.pack_into("<2I", data, place + 20, 1 << 31, 1 << 31)
    path.write_bytes(data)
    assert "download it again" in refuse(path, tmp_path, capsys)

    path = zip_with_pickle(tmp_path / "overlap.pt", b"\x80\x02}.", [("archive/data/0", b"1234")])
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\1\2")
    place = data.rindex(b"PK\1\2")
    data[place + 42 : place + 46] = data[first + 42 : first + 46]
    path.write_bytes(data)
    assert "overlap" in refuse(path, tmp_path, capsys)

    path = tmp_path / "directory.pt"
    size = 6 << 20
    end = b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 1, 1, size, 0, 0)
    path.write_bytes(b"PK\3\4" + bytes(size) + end)
    assert "zip bomb" in refuse(path, tmp_path, capsys)
    # A record for large archives that is none, so that the other's size is the one that counts.
    path.write_bytes(b"PK\3\4" + bytes(size + 56) + b"PK\6\7" + bytes(16) + end)
    assert "zip bomb" in refuse(path, tmp_path, capsys)
    members = [("archive/DATA.PKL", b"cos\nsystem\n.")]
    path = zip_with_pickle(tmp_path / "case.pt", b"\x80\x02}.", members)
    assert "two members" in refuse(path, tmp_path, capsys)


def test_zip_archives_of_another_kind(tmp_path, capsys):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.npy", b"x")
    assert "not one that torch.save wrote" in refuse(path, tmp_path, capsys)
    members = [("archive/constants.pkl", b"\x80\x02)."), ("archive/code/a.py", b"x = 1")]
    path = zip_with_pickle(tmp_path / "b.pt", b"\x80\x02}.", members)
    assert "TorchScript" in refuse(path, tmp_path, capsys)
    path = tmp_path / "compressed.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/code/a.py", b"x = 1" * 100)
    assert "TorchScript" in refuse(path, tmp_path, capsys)


def test_safetensors_made_to_harm(tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    part = '{"%s":{"dtype":"%s","shape":[1],"data_offsets":[0,4]}}'
    for header, said in [
        (part % ("a", "\\u001b[2J"), "damaged safetensors"),
        ("{" + " " * (9 << 20) + "}", "header of"),
        ((part % ("a", "F32")).replace("[1]", str([1] * 99)), "99 dim"),
    ]:
        path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(4))
        error = refuse(path, tmp_path, capsys)
        assert said in error and "\x1b" not in error and error.count("\n") == 1


def test_weights_that_are_no_plain_tensors(tmp_path, capsys):
    weights = state(BASIC)
    sparse = weights | {"fc.weight": weights["fc.weight"].to_sparse()}
    assert "_rebuild_sparse_tensor" in refuse(save(sparse, tmp_path / "a.pt"), tmp_path, capsys)
    sparse = weights | {"layer1.0.conv1.weight": weights["layer1.0.conv1.weight"].to_sparse()}
    error = refuse(save(sparse, tmp_path / "b.pt"), tmp_path, capsys)
    assert "missing: layer1.0.conv1.weight" in error and "not plain tensors" in error


def test_a_whole_model_and_odd_dictionaries(tmp_path, capsys):
    for legacy in (False, True):
        path = save(torch.nn.Linear(2, 2), tmp_path / f"{legacy}.pt", legacy)
        assert "state_dict" in refuse(path, tmp_path, capsys)
    path = save({"model": torch.nn.Linear(2, 2)}, tmp_path / "b.pt")
    assert "model.state_dict()" in refuse(path, tmp_path, capsys)
    assert "torch.nn.modules.linear.Linear" in refuse(path, tmp_path, capsys)
    assert "no weights" in refuse(save({}, tmp_path / "c.pt"), tmp_path, capsys)
    assert "no dictionary" in refuse(save([1], tmp_path / "d.pt"), tmp_path, capsys)
    path = save({"features.0.weight": torch.ones(2)}, tmp_path / "e.pt")
    assert "no network that is known" in refuse(path, tmp_path, capsys)


def test_paths(tmp_path, capsys):
    good = save(state(BASIC), tmp_path / "a.pt")
    assert "no such file" in refuse(tmp_path / "absent.pt", tmp_path, capsys)
    assert "directory" in refuse(tmp_path, tmp_path, capsys)
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in refuse(tmp_path / "fifo", tmp_path, capsys)
    assert main([str(good), str(good)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert "too long" in refuse("a" * 300, tmp_path, capsys)
    assert "no such user" in refuse("~no-such-user/a.pt", tmp_path, capsys)
    assert main([str(good), str(tmp_path / ("a" * 300))]) == 2
    assert "too long" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([str(good), str(tmp_path / "file" / "below")]) == 2
    assert errors(capsys).count("\n") == 1


def test_the_command_as_users_run_it(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(b"<html>Not found</html>")
    command = [sys.executable, "-m", "convert", str(path), str(tmp_path / "out")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and "HTML page" in result.stderr
    assert not (tmp_path / "out").exists()


def test_hub_addresses(tmp_path, capsys, monkeypatch):
    import time

    import huggingface_hub

    assert main(["hf:no-file", str(tmp_path / "out")]) == 2
    assert "hf:OWNER/REPO/FILE" in capsys.readouterr().err
    for address in ("hf:a/b/../../etc/passwd", "hf:a b/c d/e.pt", "hf:-a/b/c.pt"):
        assert main([address, str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr("rtl_jax.convert.hub._PROBE_SECONDS", 0.2)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: time.sleep(3))
    start = time.monotonic()
    source = "hf:madrylab/robust-imagenet-models/resnet50_l2_eps3.ckpt"
    assert main([source, str(tmp_path / "out")]) == 2
    assert time.monotonic() - start < 2
    error = capsys.readouterr().err
    assert "https://huggingface.co/madrylab/robust-imagenet-models" in error
    assert "by hand" in error and not (tmp_path / "out").exists()
    good = save(state(BASIC), tmp_path / "resnet.ckpt")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(good))
    assert main([source, str(tmp_path / "out")]) == 0
