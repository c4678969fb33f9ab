from rtl_jax.config import defaults, preset


def get_config():
    config = defaults()
    config.source.checkpoint = "random"
    config.source.arch = "resnet50"
    config.source.stem = "small"
    config.source.stage_sizes = (1, 1, 1)
    config.source.stage_widths = (16, 32, 64)
    config.target.dataset = "digits"
    config.target.classes = (0, 1, 2, 3, 4)
    config.target.image_size = 16
    config.augmentation = preset("none")
    config.transfer.blocks = None
    config.transfer.head = "uniform"
    config.transfer.epochs = 20
    config.transfer.learning_rate = 0.05
    return config
