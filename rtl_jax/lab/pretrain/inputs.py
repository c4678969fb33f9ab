"""The number of steps per epoch of a source's training."""

import jax

from rtl_jax.errors import UserError


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Return the number of full batches in an epoch.

    Raises UserError if there is none, or if a batch does not divide evenly over the devices.
    """
    if num_images < batch_size:
        raise UserError(
            f"pretraining.batch_size: expected at most the {num_images} training images there "
            f"are, received {batch_size}"
        )
    if batch_size % jax.device_count():
        raise UserError(
            f"pretraining.batch_size: expected a multiple of the {jax.device_count()} devices, "
            f"received {batch_size}"
        )
    return num_images // batch_size
