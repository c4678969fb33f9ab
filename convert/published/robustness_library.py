"""The checkpoints of the `robustness` library (Engstrom et al. 2019): the paper's own sources.

Clean accuracies are those of its README (https://github.com/MadryLab/robustness), robust ones
RobustBench's. The files contain their normalisation.
"""

from rtl_jax.convert.published.known import Known


def _known(
    data: str, threat: str, place: str, clean: float, *, robust: float | None = None
) -> Known:
    name = place.rpartition("/")[2].removesuffix(".pt")
    source = f"https://www.dropbox.com/s/{place}?dl=1"
    arch = "resnet50" if data == "ImageNet" else "resnet50 (small stem)"
    return Known(f"robustness/{name}", arch, data, threat, source, clean=clean, robust=robust)


ENGSTROM = (
    _known("ImageNet", "L2 eps=3", "knf4uimlqsi1yz8/imagenet_l2_3_0.pt", 57.90),
    _known("ImageNet", "Linf eps=4/255", "axfuary2w1cnyrg/imagenet_linf_4.pt", 62.42, robust=29.22),
    _known("ImageNet", "Linf eps=8/255", "yxn15a9zklz3s8q/imagenet_linf_8.pt", 47.91),
    _known("CIFAR-10", "none", "yhpp4yws7sgi6lj/cifar_nat.pt", 95.25),
    _known("CIFAR-10", "L2 eps=0.25", "2qsp7pt6t7uo71w/cifar_l2_0_25.pt", 92.77),
    _known("CIFAR-10", "L2 eps=0.5", "1zazwjfzee7c8i4/cifar_l2_0_5.pt", 90.83, robust=69.24),
    _known("CIFAR-10", "L2 eps=1", "s2x7thisiqxz095/cifar_l2_1_0.pt", 81.62),
    _known("CIFAR-10", "Linf eps=8/255", "c9qlt1lbdnu9tlo/cifar_linf_8.pt", 87.03, robust=49.25),
)
