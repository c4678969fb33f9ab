"""A tiny source and how it is fine-tuned."""

import rtl_jax as rtl

SOURCE = {"arch": "resnet18", "stem": "small", "stage_sizes": (1, 1), "stage_widths": (4, 8)}
RECIPE = rtl.Recipe(
    blocks=1,
    frozen_batch_norm="source",
    epochs=3,
    batch_size=16,
    learning_rate=0.05,
    head="uniform",
)
SEED = 7
