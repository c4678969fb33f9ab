"""Does adversarial fine-tuning keep what transfer loses, and at what price?

    python run.py --config configs/study/adversarial.py --workdir runs/study_adversarial
    python run.py --config configs/study/adversarial.py --workdir runs/study_adversarial \\
      --config.transfer.perturbation=none

Shafahi et al. (2020) and the paper's section 2: a robust source may lose its robustness when
fine-tuned on clean images. Here each of two sources is fine-tuned on 400 images of three targets
with one and three blocks, on images perturbed by up to 0.5 in L2 (the first command) and on clean
images (the second). As for bundled:l2, one step of PGD from a random start finds the perturbation:
five steps (--config.transfer.steps=5 --config.transfer.relative_step=2.5
--config.transfer.random_start=false) take three times as long. Five seeds; 200 test images under
PGD(20) after the last epoch, and the first seed's networks under AutoAttack:

    python run.py --config configs/study/adversarial_autoattack.py --workdir runs/autoattack
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.transfer import get_config as transfer


def get_config() -> ConfigDict:
    """Return 30 epochs of four steps, as for the study's 400 images."""
    config = transfer()
    config.sweep.sources = ("bundled:natural", "bundled:l2")
    config.sweep.targets = ("tfds:mnist", "tfds:fashion_mnist", "tfds:cifar10_jpeg")
    config.sweep.blocks = (1, 3)
    config.sweep.num_images = (400,)
    config.sweep.epochs = (30,)
    config.sweep.seeds = 5
    config.sweep.keep_networks = True
    config.transfer.perturbation = "pgd"
    config.transfer.norm = "l2"
    config.transfer.eps = 0.5
    config.transfer.steps = 1
    config.transfer.relative_step = 1.25
    config.transfer.random_start = True
    config.transfer.eval_every = 100
    config.transfer.num_attacked = 200
    config.attack.norm = "l2"
    config.attack.eps = (0.5,)
    return config
