"""The same work here and in torch: channels_last, bfloat16 autocast, compiled where possible."""

import importlib.util
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

# Set before importing JAX, which would otherwise preallocate three quarters of device memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")

import jax
import jax.numpy as jnp

from benchmarks import machine
from benchmarks.accelerator.results import Part
from benchmarks.accelerator.sizes import SMALL, programs_of
from benchmarks.accelerator.timing import peaks, time_case, timings
from rtl_jax.models.architecture import ResNetArchitecture, architecture
from rtl_jax.runtime import devices

SEEDS = 8


def main() -> None:
    """Compare PGD(20), a fine-tuning step with a frozen prefix, and a sweep of eight seeds."""
    part = Part.from_arguments(__doc__)
    if importlib.util.find_spec("torch") is None:
        part.results.put("skipped", "torch is not installed here")
        return
    import torch

    cuda = torch.cuda.is_available()
    if jax.default_backend() != "cpu" and not cuda:
        part.results.put("skipped", "torch sees no accelerator, where JAX does")
        return
    devices.enable_compilation_cache()
    torch.backends.cudnn.benchmark = True
    part.results.put("machine", machine.describe())
    reached = part.results.measure("peaks", lambda: peaks(tiny=part.tiny))
    comparison = Comparison(part, "cuda" if cuda else "cpu", reached)
    for name, compare in (
        ("PGD(20)", comparison.attack),
        ("fine-tuning step", comparison.step),
        ("sweep of 8 seeds", comparison.sweep),
    ):
        if part.left > 5:
            part.results.measure(name, compare)


class Comparison:
    """Comparisons with torch, one per method, with the same shapes and precision on both sides."""

    def __init__(self, part: Part, device: str, reached: dict[str, Any]):
        self.part, self.device, self.reached = part, device, reached
        self.programs = programs_of(tiny=part.tiny)
        # The torch module takes a `ResNetArchitecture` and no other.
        self.architecture: ResNetArchitecture = (
            SMALL if part.tiny else architecture("resnet50", num_classes=10)
        )

    def attack(self) -> dict[str, Any]:
        """Compare PGD(20) in L2 on the whole network: images/s, and torch's time over ours."""
        from benchmarks.attack_step import EPS, PGD20, Case
        from rtl_jax.attacks.adversarial import attack
        from tests.torch_networks import random_torch

        case = Case(
            "whole", random_torch(self.architecture), self.programs.pixels, self.programs.batch
        )
        logits_fn = case.logits_fn(self.programs.dtype)
        images, labels = jnp.asarray(case.images), jnp.asarray(case.labels)

        def ours() -> Any:
            with devices.matmul_precision("bfloat16"):
                return jax.block_until_ready(attack(logits_fn, images, labels, EPS, PGD20).images)

        def torchs(compiled: bool) -> Callable[[], Any]:
            import torch

            return case.torch_pgd(20, self.device, torch.bfloat16, compiled=compiled)

        seconds = timings(ours, quick=self.part.tiny)["seconds"]
        return self._both(seconds, torchs, case.batch)

    def step(self) -> dict[str, Any]:
        """Compare a step on images with a frozen prefix in train mode, as in the paper's loop."""
        blocks = 1 if self.part.tiny else 3
        case = self.programs.training(blocks, 1, mode="batch")
        ours = time_case(case, self.reached, quick=self.part.tiny)["seconds"]
        return self._both(ours, partial(self._torch_step, blocks), case.images)

    def _torch_step(self, blocks: int, compiled: bool) -> Callable[[], Any]:
        import torch

        from benchmarks.sweep import torch_network

        network, sgd = torch_network(self.architecture, blocks, self.device)
        forward = torch.compile(network) if compiled else network
        shape = (self.programs.batch, 3, self.programs.pixels, self.programs.pixels)
        images = torch.rand(shape, device=self.device).to(memory_format=torch.channels_last)
        labels = torch.arange(len(images), device=self.device) % 10

        def step() -> None:
            network.train()
            sgd.zero_grad()
            with torch.autocast(self.device, torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(forward(images), labels)
            loss.backward()
            sgd.step()
            if self.device == "cuda":
                torch.cuda.synchronize()

        return step

    def sweep(self) -> dict[str, Any]:
        """Compare eight seeds: here in parallel on features, in torch one after another.

        Only one seed is timed in torch; its time is multiplied by eight.
        """
        from benchmarks import sweep

        few = {"images": 16, "epochs": 1, "tests": 16, "stored": 64}
        many = {"images": 640, "epochs": 10, "tests": 512, "stored": 1600}
        size = sweep.Size(
            seeds=SEEDS,
            torch_seeds=1,
            pixels=self.programs.pixels,
            precision="bfloat16",
            **(few if self.part.tiny else many),
        )
        blocks = 1 if self.part.tiny else 3
        pair = sweep.pair_of(size, self.architecture)
        (seconds, _), _ = sweep.timed(
            partial(sweep.ours, size, "source", blocks, pair), size.epochs
        )

        def torchs(compiled: bool) -> Callable[[], Any]:
            return partial(sweep.torchs, size, blocks, pair, size.epochs, compiled=compiled)

        shown = size.seeds * size.images * size.epochs
        return self._both(seconds, torchs, shown, times=SEEDS, once=True)

    def _both(
        self,
        ours: float,
        torchs: Callable[[bool], Callable[[], Any]],
        images: int,
        *,
        times: int = 1,
        once: bool = False,
    ) -> dict[str, Any]:
        """Return our seconds and torch's, eager and compiled; `ratio` is torch's best over ours."""
        found: dict[str, Any] = {"jax_seconds": ours, "jax_images_s": images / ours}
        measure = _second if once else partial(_median, quick=self.part.tiny)
        found["torch_eager_seconds"] = times * measure(torchs(False))
        if self.device == "cpu":
            found["torch_compiled"] = "not tried on a CPU"
        elif self.part.left < 60:
            found["torch_compiled"] = "not tried: no time was left"
        else:
            try:
                found["torch_compiled_seconds"] = times * measure(torchs(True))
            except Exception as error:  # torch.compile may lack support; eager torch still runs
                found["torch_compiled"] = f"failed, {type(error).__name__}: {error}"[:500]
        best = min(v for k, v in found.items() if k.startswith("torch_") and k.endswith("_seconds"))
        return {**found, "torch_images_s": images / best, "ratio": best / ours}


def _median(call: Callable[[], Any], *, quick: bool) -> float:
    return timings(call, quick=quick)["seconds"]


def _second(call: Callable[[], Any]) -> float:
    """Return the duration of the second of two calls, in seconds."""
    call()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
