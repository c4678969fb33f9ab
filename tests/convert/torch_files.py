"""Small networks and the file layouts that users have, written by torch itself."""

import pickle
import zipfile
from pathlib import Path

import torch

from rtl_jax.convert.torch_resnet import randomize, torch_resnet
from rtl_jax.models.architecture import ResNetArchitecture

SMALL = {"stem_kernel": 3, "stem_stride": 1, "stem_pool": False}
BOTTLENECK = ResNetArchitecture("tiny", "bottleneck", (1, 2), (4, 8), stem_width=8, num_classes=5)
BASIC = ResNetArchitecture("tiny", "basic", (1, 1), (8, 12), stem_width=8, num_classes=3, **SMALL)


def state(architecture=BOTTLENECK, seed=0):
    """Return a state dict with torchvision's names and distinct values."""
    return randomize(torch_resnet(architecture), seed).state_dict()


def prefixed(prefix, weights):
    return {prefix + name: value for name, value in weights.items()}


def robustness(weights, level="", key="model", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)):
    """Return the layout of `robustness`: duplicated weights, normalisers and optimizer state."""
    mean, std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
    parameter = torch.nn.Parameter(torch.ones(7))
    optimizer = torch.optim.SGD([parameter], 0.1, momentum=0.9)
    parameter.grad = torch.ones(7)
    optimizer.step()
    tensors = {
        "module.normalizer.new_mean": mean,
        "module.normalizer.new_std": std,
        **prefixed(f"module.model.{level}", weights),
        "module.attacker.normalize.new_mean": mean.clone(),
        "module.attacker.normalize.new_std": std.clone(),
        **prefixed(f"module.attacker.model.{level}", weights),
    }
    beside = {"optimizer": optimizer.state_dict(), "epoch": 90, "schedule": None, "amp": None}
    return {key: tensors, **beside}


def save(value, path: Path, legacy=False) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


class Call:
    """An object whose pickle calls a function, as in a hostile file."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def pickle_of(name: str, *arguments: str) -> bytes:
    """Return a protocol-2 pickle of {'model': {}, 'x': name(*arguments)}, for unavailable names."""
    module, _, last = name.rpartition(":")
    body = b"\x80\x02}("
    body += b"X\x05\0\0\0model}X\x01\0\0\0x"
    body += f"c{module}\n{last}\n".encode() + b"("
    body += b"".join(b"X" + len(a.encode()).to_bytes(4, "little") + a.encode() for a in arguments)
    return body + b"tRu."


def zip_with_pickle(path: Path, data: bytes, members=()) -> Path:
    """Write an archive as torch.save does, around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        for name, content in members:
            archive.writestr(name, content)
    return path


def legacy_with_pickle(path: Path, data: bytes) -> Path:
    """Write a file as torch did before 1.6, around any pickle."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    start = b"".join(pickle.dumps(part, protocol=2) for part in head)
    path.write_bytes(start + data + pickle.dumps([], protocol=2))
    return path
