"""The paper's optimizer (appendix A.4): SGD with momentum, weight decay and a step schedule."""

from collections.abc import Mapping

import jax
import optax

from rtl_jax.train.recipe import Recipe


def step_schedule(
    learning_rate: float, drop: float, drop_every: int, steps_per_epoch: int
) -> optax.Schedule:
    """Torch's StepLR: the rate of step t is learning_rate * drop^(epoch // drop_every).

    Epochs count from 0 here, so 100 epochs with drop_every 33 drop after 33, 66 and 99.
    """

    def schedule(step: jax.Array) -> jax.Array:
        return learning_rate * drop ** (step // steps_per_epoch // drop_every)

    return schedule


def sgd(
    schedule: optax.Schedule, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """Torch's SGD: weight decay is added to the gradient before the momentum."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay), optax.sgd(schedule, momentum=momentum or None)
    )


def optimizer(
    settings: Recipe, mask: Mapping[str, bool], *, epochs: int, steps_per_epoch: int
) -> optax.GradientTransformation:
    """`sgd` on the trainable parameters; frozen ones own no state.

    Weight decay covers everything that trains, batch normalisation and biases included (Table 3).
    """
    schedule = step_schedule(
        settings.learning_rate,
        settings.learning_rate_drop,
        settings.drop_every or max(epochs // 3, 1),
        steps_per_epoch,
    )
    return optax.masked(sgd(schedule, settings.momentum, settings.weight_decay), dict(mask))
