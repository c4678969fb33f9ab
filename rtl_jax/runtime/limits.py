"""Upper bounds on settings and on values in untrusted files.

Legitimate values are far below these bounds. Larger ones are mistakes or attacks, and would take
gigabytes or hours, or end in a traceback.
"""

from rtl_jax.errors import require, require_whole

IMAGE_SIZE = 4096  # side in pixels
CLASSES = 1_000_000
BLOCKS = 1000  # of a network; the deepest published ResNet, with 1202 layers, has 600
STEM_KERNEL = 100  # side in pixels
PARAMETERS = 1_500_000_000
EPOCHS = 1_000_000
STEPS = 1_000_000  # of an attack, or of a search for an image
BATCH_SIZE = 65_536  # images in a program, padded to it
SEEDS = 10_000  # of one cell
RUNS = 200_000  # of a sweep; the paper's whole grid has 35,000
FOLDS = 10_000
VIEWS = 10_000
OPERATIONS = 32  # of RandAugment, in sequence
PADDING = 512  # pixels on every side
RESTARTS = 10_000
SAMPLES = 10_000_000  # noisy copies of an image
SHOWN = 1000  # images or similar in a figure
THREADS = 1024
RANK = 100_000  # eigenvectors kept
FEATURES = 1_000_000  # of a head's input
MEBIBYTES = 2**30
SECONDS = 10**9
IMAGES = 2**40  # of a dataset
TEXT = 4096  # characters of a name or a path
MANIFEST_BYTES = 64 * 2**20  # the digests of 2.5 million training images
TABLE_BYTES = 2**30  # of an imported log
MAPPING_BYTES = 2**20
CONFIG_BYTES = 2**18  # of a row's settings, as JSON
DEPTH = 64  # of nested lists and tables in JSON
CONTAINERS = 100_000  # lists and tables in JSON; an empty one, two bytes, takes 64 in memory
SOURCES = 40  # compared in one report; the curves of more cannot be told apart
PLACES = 240  # sources times targets of one report, each a chart that takes a second to draw
RADIUS = 1e6  # of an attack, for pixels in [0, 1]


def require_seed(value: object, key: str) -> int:
    """Return a seed as an int. Raises UserError unless it is a whole number of 32 bits.

    JAX takes others modulo 2**32, so that they would repeat a smaller one's random numbers.
    """
    seed = require_whole(value, key, 0)
    require(seed < 2**32, key, "a whole number below 2**32", value)
    return seed


def require_pixel_units(norm: object, eps: float, key: str) -> None:
    """Raise UserError for a radius in Linf above 1, the range of pixels: one of grey levels.

    `norm` is a name or a threat model.
    """
    words = f"at most 1 in linf, the range of pixels ({eps:g}/255 for 8-bit grey levels)"
    require(str(norm) != "linf" or eps <= 1, key, words, eps)


def require_within(settings: object, group: str, **most: float) -> None:
    """Raise UserError if a setting, or an item of one, exceeds its bound.

    A setting may be None. Messages call it GROUP.NAME.
    """
    for name, bound in most.items():
        value = getattr(settings, name)
        items = value if isinstance(value, tuple) else () if value is None else (value,)
        good = all(item <= bound for item in items)
        require(good, f"{group}.{name}", f"at most {bound:,}", value)
