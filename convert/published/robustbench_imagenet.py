"""RobustBench's ImageNet checkpoints of supported families, and its XCiTs for CIFAR.

Accuracies and locations are those of its README and its `model_zoo`
(https://github.com/RobustBench/robustbench), as is whether a network normalises pixels. Those that
RobustBench took from Salman et al. and Engstrom et al. are listed as theirs.
"""

from typing import Any

from rtl_jax.convert.published.known import Known, on_drive
from rtl_jax.models.description import IMAGENET_MEAN, IMAGENET_STD

_NONE = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
_USUAL = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}

# A line for each: name, architecture, clean and robust accuracy, Google Drive id, and whether
# pixels are normalised by ImageNet's mean and standard deviation.
_FILES = """
Liu2023Comprehensive_Swin-L             swin_large_patch4_window7_224 78.92 59.56 1-57sQfcrsDsslfDR18nRD7FnpQmsSBk7 yes
Liu2023Comprehensive_ConvNeXt-L         convnext_large                78.02 58.48 1dIPLNfdQtAnqZrKPyuy3_zDI-FVgJ2FH yes
Singh2023Revisiting_ConvNeXt-L-ConvStem convnext_large_convstem       77.00 57.70 10-YOVdM2EQjHemSi9x2H44qKRSOXVQmh no
Liu2023Comprehensive_Swin-B             swin_base_patch4_window7_224  76.16 56.16 1-4mtxQCkThJUVdS3wvQ6NnmMZuySqR3c yes
Singh2023Revisiting_ConvNeXt-B-ConvStem convnext_base_convstem        75.90 56.14 1-lE-waaVvfL7lgBrydmZIM9UJimmHnVe no
Liu2023Comprehensive_ConvNeXt-B         convnext_base                 76.02 55.82 10-nSm-qUftvfKXHeOAakBQl8rxm-jCbk yes
Singh2023Revisiting_ViT-B-ConvStem      vit_base_convstem             76.30 54.66 1-JBbfi_eH3tKMXObvPPHprrZae0RiQGT no
RodriguezMunoz2024Characterizing_Swin-L swin_large_patch4_window7_224 79.36 53.82 1-Dc9WhPU2wv4OMskLo1U57n5O8VbpNXv yes
Singh2023Revisiting_ConvNeXt-S-ConvStem convnext_small_convstem       74.10 52.42 1-ZrMYajCCnrtV4oT0wa3qJJoQy1nUSnL no
RodriguezMunoz2024Characterizing_Swin-B swin_base_patch4_window7_224  77.76 51.56 1-BSUjoFXx3PP-TfeE5fjbofO2lLyUf56 yes
Singh2023Revisiting_ConvNeXt-T-ConvStem convnext_tiny_convstem        72.72 49.46 1-FjtOF6LJ3-bf4VezsmWwncCxYSx-USP no
Singh2023Revisiting_ViT-S-ConvStem      vit_small_convstem            72.56 48.08 1-1sUYXnj6bDXacIKI3KKqn4rlkmL-ZI2 yes
Chen2024Data_WRN_50_2                   wide_resnet50_2               68.76 40.60 1-PBlZVILAKFQ7mF8srKjdkTKJZAr61Uf no
Mo2022When_Swin-B                       swin_base_patch4_window7_224  74.66 38.30 1-SXi4Z2X6Zo_j8EO4slJcBMXNej8fKUd yes
Mo2022When_ViT-B                        vit_base_patch16_224          68.38 34.40 1-dUFdvDBflqMsMLjZv3wlPJTm-Jm7net yes
Wong2020Fast                            resnet50                      55.62 26.24 1deM2ZNS5tf3S_-eRURJi-IlvUL8WJQ_w yes
"""  # noqa: E501

_RELEASE = "https://github.com/RobustBench/robustbench/releases/download/v1.1"
_CIFAR10 = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616)}
_CIFAR100 = {"mean": (0.5071, 0.4867, 0.4408), "std": (0.2675, 0.2565, 0.2761)}
_XCIT = (
    ("ImageNet", "4/255", _NONE, {"S": (72.34, 41.78), "M": (74.04, 45.24), "L": (73.76, 47.60)}),
    (
        "CIFAR-10",
        "8/255",
        _CIFAR10,
        {"S": (90.06, 56.14), "M": (91.30, 57.27), "L": (91.73, 57.58)},
    ),
    (
        "CIFAR-100",
        "8/255",
        _CIFAR100,
        {"S": (67.34, 32.19), "M": (69.21, 34.21), "L": (70.76, 35.08)},
    ),
)
_SIZES = {"S": "small", "M": "medium", "L": "large"}


def _on_drive(line: str) -> Known:
    name, arch, clean, robust, drive, normalised = line.split()
    return Known(
        f"robustbench/imagenet_linf/{name}",
        arch,
        "ImageNet",
        "Linf eps=4/255",
        on_drive(drive),
        clean=float(clean),
        robust=float(robust),
        choices=_USUAL if normalised == "yes" else _NONE,
    )


def _xcit(
    data: str, eps: str, pixels: dict[str, Any], size: str, clean: float, robust: float
) -> Known:
    place, small = data.lower().replace("-", ""), data != "ImageNet"
    file = f"debenedetti2022light-xcit-{size.lower()}-{place}-linf.pth.tar"
    return Known(
        f"robustbench/{place}_linf/Debenedetti2022Light_XCiT-{size}12",
        f"xcit_{_SIZES[size]}_12_{'p4' if small else 'p16_224'}",
        data,
        f"Linf eps={eps}",
        f"{_RELEASE}/{file}",
        clean=clean,
        robust=robust,
        choices={**pixels, "tokens_norm": "yes"} | ({"patch": "4"} if small else {}),
    )


IMAGENET = (
    *(_on_drive(line) for line in _FILES.strip().splitlines()),
    *(
        _xcit(data, eps, pixels, size, *accuracies)
        for data, eps, pixels, sizes in _XCIT
        for size, accuracies in sizes.items()
    ),
)
