"""Salman et al. 2020, "Do adversarially robust ImageNet models transfer better?".

Clean accuracies are those of the repository's own card
(https://huggingface.co/madrylab/robust-imagenet-models), robust ones RobustBench's.
"""

from rtl_jax.convert.published.known import Known

_REPOSITORY = "hf:madrylab/robust-imagenet-models"
_L2 = ("0", "0.01", "0.03", "0.05", "0.1", "0.25", "0.5", "1", "3", "5")
_LINF = ("0.5", "1.0", "2.0", "4.0", "8.0")

# Clean accuracies by eps.
_L2_CLEAN = {
    "resnet18": (69.79, 69.90, 69.24, 69.15, 68.77, 67.43, 65.49, 62.32, 53.12, 45.59),
    "resnet50": (75.80, 75.68, 75.76, 75.59, 74.78, 74.14, 73.16, 70.43, 62.83, 56.13),
    "wide_resnet50_2": (76.97, 77.25, 77.26, 77.17, 76.74, 76.21, 75.11, 73.41, 66.90, 60.94),
    "wide_resnet50_4": (77.91, 78.02, 77.87, 77.77, 77.64, 77.10, 76.52, 75.51, 69.67, 65.20),
}
_LINF_CLEAN = {
    "resnet18": (66.13, 63.46, 59.63, 52.49, 42.11),
    "resnet50": (73.73, 72.05, 69.10, 63.86, 54.53),
    "wide_resnet50_2": (75.82, 74.65, 72.35, 68.41, 60.82),
}
# By the architecture's name in the files; clean accuracies are for L2 eps=0 and 3.
_OTHERS = {
    "densenet": ("densenet161", 77.37, 66.98),
    "mnasnet": ("mnasnet1_0", 60.97, 41.83),
    "mobilenet_v2": ("mobilenet_v2", 65.26, 50.40),
    "resnext50_32x4d": ("resnext50_32x4d", 77.38, 66.25),
    "shufflenet": ("shufflenet_v2_x1_0", 64.25, 43.32),
    "vgg16_bn": ("vgg16_bn", 73.66, 57.19),
}
_ROBUST = {"resnet18": 25.32, "resnet50": 34.96, "wide_resnet50_2": 38.14}  # Linf eps=4/255
_BYTES = {"resnet50_linf_eps4.0": 204_818_947}


def _known(word: str, arch: str, norm: str, eps: str, clean: float) -> Known:
    name = f"{word}_{norm}_eps{eps}"
    threat = f"L2 eps={eps}" if norm == "l2" else f"Linf eps={float(eps):g}/255"
    if float(eps) == 0:
        threat = "none"
    return Known(
        f"salman/{name}",
        arch,
        "ImageNet",
        threat,
        f"{_REPOSITORY}/{name}.ckpt",
        clean=clean,
        robust=_ROBUST.get(word) if (norm, eps) == ("linf", "4.0") else None,
        num_bytes=_BYTES.get(name),
        license="MIT",
    )


SALMAN = (
    *(
        _known(arch, arch, norm, eps, clean)
        for norm, sizes, every in (("l2", _L2, _L2_CLEAN), ("linf", _LINF, _LINF_CLEAN))
        for arch, accuracies in every.items()
        for eps, clean in zip(sizes, accuracies, strict=True)
    ),
    *(
        _known(word, arch, "l2", eps, clean)
        for word, (arch, *accuracies) in _OTHERS.items()
        for eps, clean in zip(("0", "3"), accuracies, strict=True)
    ),
)
