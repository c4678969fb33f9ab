"""A natural ResNet-50 on ImageNet, like torchvision's: the base of the robust configs beside it.

    python run.py --config configs/sources/imagenet_natural.py --workdir runs/imagenet_natural

Sized for 8 accelerators with at least 32 GB: 32 images each in float32, with room to spare in
bfloat16. The host decodes images while the accelerators compute: about 470 per second and core at
500x375 pixels (docs/benchmarks.md). Prepare ImageNet with TFDS as ArrayRecord first, see
docs/data.md. This project had no such machine and has not run it to the end: the same code is
tested on small images, on several devices and several hosts.

Several hosts: start the same command on each, with RTL_JAX_HOSTS=RANK/NUMBER and
JAX_COORDINATOR_ADDRESS=HOST:PORT, or RTL_JAX_HOSTS=auto under Slurm or on Cloud TPUs, and a work
directory that is accessible from all of them. SIGTERM saves; the same command resumes.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults, preset


def get_config() -> ConfigDict:
    """Return 90 epochs of SGD, with the rate divided by 10 after 30 and 60."""
    config = defaults()
    config.task = "pretrain"
    config.source.checkpoint = "random"
    config.source.arch = "resnet50"
    config.target.dataset = "tfds:imagenet2012"
    config.target.image_size = 224
    config.augmentation = preset("none")
    config.augmentation.resized_crop = 0.08
    config.augmentation.flip = True
    config.pretraining.epochs = 90
    config.pretraining.batch_size = 256
    config.pretraining.drop_every = 30
    config.pretraining.precision = "bfloat16"
    config.pretraining.checkpoint_seconds = 900.0
    config.pretraining.eval_every = 5
    config.pretraining.eval_batch_size = 512
    config.pretraining.num_attacked = 1000
    config.attack.norm = "l2"
    config.attack.eps = (3.0,)
    config.attack.precision = "bfloat16"
    return config
