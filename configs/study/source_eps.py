"""Which eps should a robust source be trained with, for which target?

For EPS in 0.05, 0.1 and 0.25:

    python run.py --config configs/sources/tiny_l2.py --workdir runs/sources/l2_epsEPS \
      --config.pretraining.eps=EPS --config.pretraining.epochs=6

and then

    python run.py --config configs/study/source_eps.py --workdir runs/study_source_eps

The L2 and the natural source of six epochs in configs/study/source_epochs.py, which also has their
cells, are those with 0.5 and 0.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.source_epochs import get_config as source_epochs

EPS = (0.05, 0.1, 0.25)


def get_config() -> ConfigDict:
    """Return the settings of configs/study/source_epochs.py for other sources."""
    config = source_epochs()
    config.sweep.sources = tuple(f"runs/sources/l2_eps{eps:g}" for eps in EPS)
    return config
