"""List the bundled sources with their cards: python -m rtl_jax.models.bundled [NAME ...]."""

import sys
from collections.abc import Mapping
from typing import Any

from rtl_jax.errors import UserError
from rtl_jax.models import bundled
from rtl_jax.runtime.output import run_and_exit


def main(chosen: list[str]) -> int:
    """Print a table of all, or the whole cards of some; return 0, or 2 for an unknown name."""
    try:
        if chosen:
            print("\n\n".join(whole(name, bundled.card(name)) for name in chosen))
        else:
            print(table())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def table() -> str:
    """A line for each source: what it was trained against, its accuracies, what it cost."""
    lines = [
        f"{'source.checkpoint':20}{'trained against':24}{'clean':>8}{'attacked':>10}"
        f"{'rough':>8}{'hours':>7}"
    ]
    for name in bundled.names():
        card = bundled.card(name)
        lines.append(
            f"{'bundled:' + name:20}{card['perturbation']:24}{card['clean_accuracy']:7.1f}%"
            f"{card['robust_accuracy']:9.1f}%{card['total_variation']:8.2f}{card['hours']:7.2f}"
        )
    lines.append(
        "\nattacked: top-1 under PGD(20), L2 0.5, the best iterate; rough: total variation of the "
        "input\ngradients. python -m rtl_jax.models.bundled NAME shows a card."
    )
    return "\n".join(lines)


def whole(name: str, card: Mapping[str, Any]) -> str:
    """A card, a line for each entry."""
    return "\n".join([f"bundled:{name}", *(f"  {key}: {value}" for key, value in card.items())])


if __name__ == "__main__":
    run_and_exit(main, sys.argv[1:])
