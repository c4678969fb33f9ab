"""Export to StableHLO as one function, which `jax.export` reads without this package."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from rtl_jax.errors import UserError
from rtl_jax.models.network import Network

PLATFORMS = ("cpu", "cuda", "tpu")
_MAX_BYTES = (2 << 30) - (1 << 24)  # a flatbuffer's limit, and room for the program


def write_stablehlo(network: Network, path: Path, image_size: int) -> None:
    """Write the function of images [N, size, size, 3] in [0, 1] to probabilities [N, classes].

    Normalisation and the network's temperature are inside; N is arbitrary. It computes in float32
    on any of PLATFORMS:

        jax.export.deserialize(bytearray(path.read_bytes())).call(images)

    Raises UserError for a network of more than 2 GiB.
    """
    size = sum(value.nbytes for tree in (network.params, network.batch_stats) for value in
               tree.values())  # fmt: skip
    if size > _MAX_BYTES:
        raise UserError(
            f"{path}: such a file holds at most 2 GiB, and the network has {size / 2**30:.1f} GiB: "
            "write .safetensors instead"
        )
    # Without platform-specific kernels, such as a CPU's form of a convolution.
    logits, temperature = network.logits_fn(method="xla"), network.temperature

    def probabilities(images: jax.Array) -> Any:
        return jax.nn.softmax(logits(images) / temperature)

    shape = (*export.symbolic_shape("n"), image_size, image_size, 3)
    with jax.default_matmul_precision("float32"):
        exported = export.export(jax.jit(probabilities), platforms=PLATFORMS)(
            jax.ShapeDtypeStruct(shape, jnp.float32)
        )
    path.write_bytes(exported.serialize())
