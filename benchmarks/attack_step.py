"""Attacks compared with PyTorch: `python -m benchmarks.attack_step [--output FILE]`.

On a CPU: one step of PGD (gradient with respect to the images, step, projection) on ResNet-50 at
224 px and on two networks for small images; a complete PGD(20) on the latter; and a robustness
curve at 8 radii compared with 8 calls. On an accelerator: images/s of PGD(20) on ResNet-50 at
224 px. Torch uses channels_last, one thread per core and evaluation mode, with the same weights and
images, and computes gradients only with respect to the images. If both do not find the same images,
an error is raised instead of reporting a time.
"""

import argparse
import dataclasses
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import machine
from benchmarks.interleaved import medians
from rtl_jax.attacks.adversarial import attack, robustness_curve
from rtl_jax.attacks.base import LogitsFn
from rtl_jax.attacks.losses import judge
from rtl_jax.attacks.pgd import PGD
from rtl_jax.convert.torch_pgd import pgd
from rtl_jax.convert.torch_resnet import TorchResNet
from rtl_jax.models.architecture import architecture
from rtl_jax.models.network import Network
from rtl_jax.runtime import devices
from rtl_jax.runtime.resources import cores
from tests.torch_networks import nchw, random_torch, variables_of

EPS = 0.5
PGD20 = PGD("l2", steps=20, keep="last")
CURVE = tuple(0.1 * number for number in range(1, 9))

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """A network with random weights, and random images."""

    name: str
    network: TorchResNet
    pixels: int
    batch: int

    @functools.cached_property
    def images(self) -> np.ndarray:
        """The images, float32 [batch, pixels, pixels, 3], bounded away from 0 and 1."""
        shape = (self.batch, self.pixels, self.pixels, 3)
        return np.random.default_rng(0).uniform(0.1, 0.9, shape).astype(np.float32)

    @property
    def labels(self) -> np.ndarray:
        """The labels, int32 [batch]."""
        return np.arange(self.batch, dtype=np.int32) % self.network.architecture.num_classes

    def logits_fn(self, dtype: jnp.dtype = jnp.float32) -> LogitsFn:
        """Return the network in JAX with its weights on the device."""
        variables = jax.tree.map(jnp.asarray, variables_of(self.network))
        return Network(self.network.architecture, *variables).logits_fn(dtype=dtype)

    def torch_pgd(
        self, steps: int, device: str, dtype: torch.dtype, *, compiled: bool = False
    ) -> Callable[[], torch.Tensor]:
        """Return the attack in torch, a function that blocks until its result is on the device."""
        network = self.network.to(device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in stubs
        forward = torch.compile(network) if compiled else network
        images = nchw(self.images).to(device, memory_format=torch.channels_last)
        labels = torch.from_numpy(self.labels).long().to(device)
        relative = PGD20.relative_step * steps / PGD20.steps  # the step size of PGD(20)

        def run() -> torch.Tensor:
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                found = pgd(forward, images, labels, "l2", EPS, steps=steps, relative_step=relative)
            if device == "cuda":
                torch.cuda.synchronize()
            return found

        return run


def small_networks(batch: int) -> list[Case]:
    """Return the pinned network and one with the architecture of the bundled sources."""
    pinned = architecture(
        "resnet18",
        stem="small",
        stage_sizes=(2, 2, 2),
        stage_widths=(16, 32, 64),
        stem_width=16,
        num_classes=10,
    )
    bundled = architecture(
        "resnet26",
        stem="small_stride2",
        stage_widths=(32, 64, 128, 192),
        stem_width=32,
        num_classes=10,
    )
    return [
        Case("16 to 64 channels, 32 px", random_torch(pinned), 32, batch),
        Case("bundled architecture, 32 px", random_torch(bundled), 32, batch),
    ]


def resnet50(batch: int) -> Case:
    """Return ResNet-50 as in the paper."""
    return Case("resnet50, 224 px", random_torch(architecture("resnet50")), 224, batch)


@jax.jit
def step(logits_fn: LogitsFn, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Take the first step of PGD(20), from the original images."""
    threat = PGD20.threat
    eps = jnp.full(len(labels), EPS)

    def total(x: jax.Array) -> jax.Array:
        return judge(logits_fn(x), labels, "cross_entropy", False)[0].sum()

    x = images + jax.vmap(threat.step)(jax.grad(total)(images), PGD20.step_sizes(eps))
    return jax.vmap(threat.project)(x, images, eps)


def compare(case: Case, steps: Literal[1, 20], repetitions: int) -> Row:
    """Time one step or a complete PGD(20) in JAX and in torch on a CPU, in milliseconds."""
    logits_fn, images, labels = case.logits_fn(), jnp.asarray(case.images), jnp.asarray(case.labels)

    def ours() -> jax.Array:
        if steps == 1:
            return step(logits_fn, images, labels).block_until_ready()
        return attack(logits_fn, images, labels, EPS, PGD20).images

    torchs = case.torch_pgd(steps, "cpu", torch.float32)
    apart = np.asarray(ours()) - torchs().permute(0, 2, 3, 1).numpy()
    # Twenty steps can amplify rounding errors in a few images, but not in most.
    difference = np.median(np.linalg.norm(apart.reshape(case.batch, -1), axis=1))
    if difference > EPS / 100:
        raise SystemExit(f"{case.name}: the attacks' images differ by {difference:.2g} in L2")
    times = medians({"jax": lambda: jax.block_until_ready(ours()), "torch": torchs}, repetitions)
    return {
        "network": case.name,
        "what": "PGD step" if steps == 1 else f"PGD({steps})",
        "batch": case.batch,
        "jax_ms": 1e3 * times["jax"].wall,
        "torch_ms": 1e3 * times["torch"].wall,
        "ratio": times["jax"].wall / times["torch"].wall,
        "cpu_ratio": times["jax"].cpu / times["torch"].cpu,
    }


def compare_curve(case: Case, repetitions: int) -> Row:
    """Time a robustness curve and as many calls of `attack`, in seconds; compilation separately."""
    logits_fn, images, labels = case.logits_fn(), jnp.asarray(case.images), jnp.asarray(case.labels)

    def curve() -> Any:
        return jax.block_until_ready(robustness_curve(logits_fn, images, labels, CURVE, PGD20))

    def calls() -> Any:
        results = [attack(logits_fn, images, labels, eps, PGD20) for eps in CURVE]
        return jax.block_until_ready(results)

    functions = {"curve": curve, "calls": calls}
    first = {}
    for name, function in functions.items():
        start = time.perf_counter()
        function()
        first[name] = time.perf_counter() - start
    times = medians(functions, repetitions)
    return {
        "network": case.name,
        "what": f"PGD(20) at {len(CURVE)} eps",
        "batch": case.batch,
        "curve_s": times["curve"].wall,
        "calls_s": times["calls"].wall,
        "ratio": times["curve"].wall / times["calls"].wall,
        "cpu_ratio": times["curve"].cpu / times["calls"].cpu,
        "compile_curve_s": first["curve"] - times["curve"].wall,
        "compile_calls_s": first["calls"] - times["calls"].wall,
    }


def accelerated(case: Case, precision: Literal["float32", "bfloat16"], repetitions: int) -> Row:
    """Measure images/s of PGD(20) on an accelerator; torch's rate is None without CUDA."""
    images, labels = jnp.asarray(case.images), jnp.asarray(case.labels)
    logits_fn = case.logits_fn(devices.compute_dtype(precision))

    def ours() -> Any:
        with devices.matmul_precision(precision):
            return jax.block_until_ready(attack(logits_fn, images, labels, EPS, PGD20))

    functions: dict[str, Callable[[], Any]] = {"jax": ours}
    if torch.cuda.is_available():
        # Use full float32 in both: no TF32, neither in cuDNN nor in matrix products.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        functions["torch"] = case.torch_pgd(20, "cuda", getattr(torch, precision))
    times = medians(functions, repetitions)
    rates = {name: case.batch / both.wall for name, both in times.items()}
    return {
        "network": case.name,
        "what": f"PGD(20), {precision}",
        "batch": case.batch,
        "jax_images_s": rates["jax"],
        "torch_images_s": rates.get("torch"),
        "ratio": times["jax"].wall / times["torch"].wall if "torch" in times else None,
    }


def rows(repetitions: int) -> list[Row]:
    """Make all measurements that this machine allows, printing each as soon as it is made."""
    found: list[Row] = []

    def add(row: Row) -> None:
        print(_line(row), flush=True)
        found.append(row)

    if jax.default_backend() != "cpu":
        for precision in ("bfloat16", "float32"):
            add(accelerated(resnet50(128), precision, repetitions))
        return found
    small = small_networks(64)
    for case in (*small, resnet50(16)):
        add(compare(case, 1, repetitions))
    for case in small_networks(16):
        add(compare_curve(case, repetitions))
    for case in small:
        add(compare(case, 20, repetitions))
    return found


def _line(row: Row) -> str:
    numbers = {k: v for k, v in row.items() if k not in ("network", "what", "batch")}
    parts = [f"{k} {'none' if v is None else f'{v:.3g}'}" for k, v in numbers.items()]
    return f"{row['network']:28} {row['what']:20} batch {row['batch']:3}: {', '.join(parts)}"


def main() -> None:
    """Measure, print, and optionally write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attack_step", description=__doc__)
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write JSON here")
    parser.add_argument("--repetitions", type=int, default=11, metavar="N")
    options = parser.parse_args()
    torch.set_num_threads(cores())
    described = machine.describe()
    print(", ".join(f"{name} {value}" for name, value in described.items()), flush=True)
    found = rows(options.repetitions)
    if options.output:
        options.output.write_text(json.dumps({"machine": described, "rows": found}, indent=1))


if __name__ == "__main__":
    main()
