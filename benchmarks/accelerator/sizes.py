"""Problem sizes: those of the paper, or tiny ones for a smoke test."""

from benchmarks.programs import Programs
from rtl_jax.models.architecture import ResNetArchitecture, architecture

SMALL = ResNetArchitecture(
    "two blocks", "bottleneck", (1, 1), (8, 8), stem_width=8, stem_kernel=3, stem_stride=1,
    stem_pool=False, num_classes=10,
)  # fmt: skip


def programs_of(*, tiny: bool) -> Programs:
    """Return the programs of ResNet-50 at 224 px in batches of 128, or of two blocks at 32 px."""
    if tiny:
        return Programs(SMALL, 32, batch=8, stored=64)
    return Programs(architecture("resnet50", num_classes=10), 224, batch=128, stored=1600)


def blocks_of(*, tiny: bool) -> tuple[int, ...]:
    """Return the numbers of blocks in the grid to measure."""
    return (0, 1) if tiny else (0, 1, 3, 9)
