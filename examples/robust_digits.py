"""Draw docs/robust_digits.png, the figure at the head of README.md.

    python run.py --config configs/robust_digits.py
    python run.py --config configs/robust_digits_attack.py --workdir runs/robust_digits
    python examples/robust_digits.py --workdir runs/robust_digits

On the left six digits, each attacked through either network; on the right the accuracy of all
networks in the work directory over the radius of the attack.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import rtl_jax as rtl

EPS = 0.5
SHOWN = 6
SOURCES = {"bundled:natural": "natural source", "bundled:l2": "robust source (L2)"}
COLORS = {"bundled:natural": "#c2410c", "bundled:l2": "#1d4ed8"}


def main() -> None:
    """Read the rows, attack six digits, and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="runs/robust_digits")
    parser.add_argument("--output", type=Path, default=Path("docs/robust_digits.png"))
    options = parser.parse_args()
    figure = plt.figure(figsize=(9, 2.9), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.65, 1))
    draw_digits(left)
    draw_curves(right.subplots(), options.workdir)
    figure.savefig(options.output, dpi=110, metadata={"Software": None})


def draw_digits(figure) -> None:
    """Clean digits, and what PGD makes of them through each network, with the class it names."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8) / 16
    train, test, train_labels, test_labels = train_test_split(
        images, labels, train_size=100, random_state=0, stratify=labels
    )
    chosen = np.concatenate([np.flatnonzero(test_labels == digit)[:1] for digit in range(SHOWN)])
    axes = figure.subplots(len(SOURCES) + 1, SHOWN)
    for axis, image in zip(axes[0], test[chosen], strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axes[0, 0].set_ylabel("clean", fontsize=8)
    for row, (source, name) in zip(axes[1:], SOURCES.items(), strict=True):
        network = rtl.finetune(rtl.load(source), train, train_labels, blocks=0, head_fit="ridge")
        found = rtl.attack(network, test[chosen], test_labels[chosen], EPS, rtl.PGD("l2"))
        named = network.probabilities(network.features(found.images)).argmax(1)
        row[0].set_ylabel(name.replace(" source", "\nsource"), fontsize=8)
        for axis, image, seen, label in zip(row, found.images, named, chosen, strict=True):
            axis.imshow(image)
            right = seen == test_labels[label]
            axis.set_title(str(seen), fontsize=9, pad=2, color="#15803d" if right else "#b91c1c")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.suptitle(f"attacked within L2 {EPS:g}; above each image the predicted class", fontsize=9)


def draw_curves(axis, workdir: str) -> None:
    """Draw accuracy over the radius: a thin line for each network, and their mean."""
    rows = rtl.read_rows(workdir)
    rows = rows[rows["method"] == "pgd"]
    for source, name in SOURCES.items():
        found = rows[rows["source"] == source].pivot_table("accuracy", "eps", "seed")
        color = COLORS[source]
        axis.plot(found.index, found, color=color, linewidth=0.8, alpha=0.5)
        label = f"{name}, {found.shape[1]} networks"
        axis.plot(found.index, found.mean(axis=1), marker="o", color=color, label=label)
    axis.set(xlabel="radius of the attack (L2)", ylim=(0, 100), xticks=[0, 0.25, 0.5, 1])
    axis.set_title("test accuracy, % (100 labelled digits)", fontsize=9)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7, frameon=False, loc="lower right", bbox_to_anchor=(1, 0.2))


if __name__ == "__main__":
    main()
