"""Named networks at full size compared with PyTorch's own: `python -m benchmarks.architectures`.

Every network comes from torchvision or timm, with random weights and statistics. It is saved,
converted, compared at two image sizes and exported again. One line per network gives the difference
of the logits, relative to the largest logit, and whether every exported tensor is identical to the
saved one, byte for byte. The exit status is 1 if any logits differ by more than 1e-4 or any bytes
differ. Needs torchvision and timm.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from benchmarks import machine
from rtl_jax.convert import convert
from rtl_jax.convert.export import export
from rtl_jax.models.network import Network
from tests.reference_networks import jax_logits, reference, shaken, torch_logits

TOLERANCE = 1e-4
BATCH = 2

Row = dict[str, Any]


class Case(NamedTuple):
    """A network of a library, options that its file does not contain, and the image sizes."""

    library: str
    name: str
    options: Mapping[str, Any] = {}
    sizes: Sequence[int] = (224, 160)
    arguments: Mapping[str, Any] = {}
    built_for_size: bool = False

    def build(self) -> torch.nn.Module:
        """Build the library's own module with random weights."""
        if self.library == "timm":
            module = reference("timm").create_model(self.name, **self.arguments)
        else:
            module = getattr(reference("torchvision.models"), self.name)(**self.arguments)
        return shaken(module)

    def for_size(self, module: torch.nn.Module, size: int) -> torch.nn.Module:
        """Return a module with the same weights for images of this size.

        When timm builds a Swin, it decides which stages shift their windows: a network built for
        224 px omits a shift on 256 px images that a network built for 256 px has.
        """
        if not self.built_for_size:
            return module
        resized = reference("timm").create_model(self.name, img_size=size)
        resized.load_state_dict(module.state_dict())
        return resized.eval()


_TORCHVISION = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "wide_resnet50_2",
    "densenet121", "densenet161", "densenet169", "vgg11", "vgg16_bn", "mobilenet_v2", "mnasnet0_5",
    "mnasnet1_0", "mnasnet1_3", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x2_0",
    "convnext_tiny", "convnext_small",
)  # fmt: skip
_TIMM = (
    "resnet26", "resnet26d", "resnet50d", "convnext_atto", "convnext_pico", "convnext_nano",
    "convnext_tiny", "convnext_base",
)  # fmt: skip
_VITS = (
    "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_small_patch32_224",
    "vit_base_patch16_224", "deit_tiny_patch16_224", "deit_small_patch16_224",
    "deit3_small_patch16_224",
)  # fmt: skip
_SWINS = ("swin_tiny_patch4_window7_224", "swin_small_patch4_window7_224")
_XCITS = ("xcit_nano_12_p16_224", "xcit_tiny_12_p16_224", "xcit_small_12_p16_224")

CASES = (
    *(Case("torchvision", name) for name in _TORCHVISION),
    *(Case("timm", name) for name in _TIMM),
    Case("timm", "resnetaa50", {"anti_aliasing": "average"}),
    Case("timm", "resnetblur50", {"anti_aliasing": "blur"}),
    *(Case("timm", name, arguments={"dynamic_img_size": True}) for name in _VITS),
    *(Case("timm", name, {}, (224, 256), built_for_size=True) for name in _SWINS),
    *(Case("timm", name) for name in _XCITS),
)


def compare(case: Case, directory: Path) -> Row:
    """Convert, compare and export one network; its files remain in `directory`."""
    start = time.perf_counter()
    module = case.build()
    saved = module.state_dict()
    torch.save(saved, directory / f"{case.name}.pth")
    converted = directory / "converted"
    convert(directory / f"{case.name}.pth", converted, report=lambda _: None, **case.options)
    network = Network.load(converted)
    variables = {"params": network.params, "batch_stats": network.batch_stats}
    apart = []
    for size in case.sizes:
        images = np.random.default_rng(size).random((BATCH, size, size, 3), np.float32)
        theirs = torch_logits(case.for_size(module, size), network.architecture, images)
        ours = jax_logits(network.architecture, variables, images)
        apart.append(float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
    export(converted, directory / "back.pth", report=lambda _: None)
    back = torch.load(directory / "back.pth")
    same = back.keys() == saved.keys() and all(_bytes_equal(back[n], saved[n]) for n in saved)
    return {
        "name": case.name,
        "library": case.library,
        "found_as": network.architecture.name,
        "parameters": network.architecture.num_parameters,
        "sizes": list(case.sizes),
        "logits_apart": apart,
        "same_bytes": same,
        "equal": same and max(apart) <= TOLERANCE,
        "seconds": time.perf_counter() - start,
    }


def _bytes_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    same_kind = one.dtype == other.dtype and one.shape == other.shape
    return same_kind and one.numpy().tobytes() == other.numpy().tobytes()


def main() -> int:
    """Compare the networks, print and optionally write JSON, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.architectures", description=__doc__)
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write JSON here")
    names = sorted({case.name for case in CASES})
    parser.add_argument("--name", choices=names, action="append", help="default: all")
    options = parser.parse_args()
    described = machine.describe()
    print(", ".join(f"{name} {value}" for name, value in described.items()), flush=True)
    rows: list[Row] = []
    for case in CASES:
        if options.name and case.name not in options.name:
            continue
        with tempfile.TemporaryDirectory() as directory:
            row = compare(case, Path(directory))
        rows.append(row)
        apart = ", ".join(
            f"{size} px {value:.1e}"
            for size, value in zip(row["sizes"], row["logits_apart"], strict=True)
        )
        print(
            f"{'equal' if row['equal'] else 'WRONG'} {case.library} {case.name} "
            f"({row['parameters'] / 1e6:.1f} M): {apart}; "
            f"bytes {'the same' if row['same_bytes'] else 'DIFFERENT'}, {row['seconds']:.0f} s",
            flush=True,
        )
        # Free the programs and arrays of this network before the next one.
        jax.clear_caches()
        gc.collect()
        if options.output:
            options.output.write_text(json.dumps({"machine": described, "rows": rows}, indent=1))
    return 0 if rows and all(row["equal"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
