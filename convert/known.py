"""Robust checkpoints that are published, by short names: what `python -m convert list` prints.

Only what is documented stands here; what is not known is left empty. Accuracies are the
publishers' own, on ImageNet, in percent.
"""

from typing import NamedTuple

_SALMAN = "hf:madrylab/robust-imagenet-models"


class Known(NamedTuple):
    """A checkpoint: its source, what it was trained against, and its published accuracies.

    `robust` is under AutoAttack at the eps of training, on RobustBench's 5,000 images. `num_bytes`
    and `license` are empty where they are not known, and `checked` says whether it was converted
    and compared here.
    """

    name: str
    source: str
    threat: str
    clean: float | None = None
    robust: float | None = None
    num_bytes: int | None = None
    license: str = ""
    checked: bool = False


def _salman(arch: str, norm: str, eps: str, **known: float | int) -> Known:
    threat = f"L2 eps={eps}" if norm == "l2" else f"Linf eps={float(eps):g}/255"
    name = f"{arch}_{norm}_eps{eps}"
    return Known(f"salman/{name}", f"{_SALMAN}/{name}.ckpt", threat, **known)  # type: ignore[arg-type]


KNOWN = (
    _salman("resnet50", "l2", "3", clean=62.83),
    _salman("resnet50", "linf", "4.0", clean=63.86, robust=34.96, num_bytes=204_818_947),
    _salman("resnet50", "linf", "8.0", clean=54.53),
    *(
        _salman(arch, "l2", "3")
        for arch in (
            "resnet18",
            "wide_resnet50_2",
            "wide_resnet50_4",
            "resnext50_32x4d",
            "densenet",
            "mnasnet",
            "mobilenet_v2",
            "shufflenet",
            "vgg16_bn",
        )
    ),
)


def table() -> str:
    """The list as a table with a line for each checkpoint."""
    rows: list[tuple[str, ...]] = [
        ("name", "threat", "clean %", "robust %", "bytes", "license", "checked", "source")
    ]
    for each in KNOWN:
        numbers = ("" if value is None else f"{value:.2f}" for value in (each.clean, each.robust))
        size = "" if each.num_bytes is None else f"{each.num_bytes:,}"
        checked = "yes" if each.checked else "no"
        rows.append((each.name, each.threat, *numbers, size, each.license, checked, each.source))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines)
