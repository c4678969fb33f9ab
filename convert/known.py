"""Published checkpoints: the list of their short names, and the file behind each."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rtl_jax.convert.published import KNOWN
from rtl_jax.convert.published.known import Known
from rtl_jax.errors import UserError
from rtl_jax.runtime.download import download
from rtl_jax.runtime.paths import cache_path
from rtl_jax.runtime.program import typed

_PUBLISHERS = tuple(dict.fromkeys(f"{each.name.partition('/')[0]}/" for each in KNOWN))


def find(source: str) -> Known | None:
    """Return the checkpoint of this name, or None if the source is a path or on the hub.

    Raises UserError for an unknown name, suggesting similar ones.
    """
    if source.startswith("hf:") or Path(source).exists():
        return None
    for known in KNOWN:
        if known.name.lower() == source.lower():
            return known
    if not source.startswith(_PUBLISHERS):
        return None
    names = difflib.get_close_matches(source, [known.name for known in KNOWN], 3, 0.4)
    like = f" (is it {' or '.join(names)}?)" if names else ""
    raise UserError(
        f"{source}: no published checkpoint has this name{like}: {typed('convert')} list"
    )


def place(known: Known, report: Callable[[str], Any]) -> str:
    """Return the source of a published checkpoint for the converter, downloading it if needed.

    Raises UserError, with instructions, if it has to be downloaded by hand.
    """
    if known.source.startswith("hf:"):
        return known.source
    flags = f" {known.flags}" if known.flags else ""
    by_hand = (
        f"download it from {known.source} with a browser, and then: "
        f"{typed('convert')} FILE DESTINATION{flags}"
    )
    if known.by_hand:
        raise UserError(
            f"{known.name}: is on Google Drive, which does not serve files to programs: {by_hand}"
        )
    file = cache_path() / "published" / Path(urlsplit(known.source).path).name
    if file.is_file():
        report(f"found in the cache: {file}")
    else:
        report(f"downloading {known.source}")
        download(known.source, file, otherwise=by_hand, setting="RTL_JAX_CACHE_DIR")
    return str(file)


def table() -> str:
    """Format the list as a table with a line per checkpoint."""
    rows: list[tuple[str, ...]] = [
        ("name", "network", "data", "threat", "clean %", "robust %", "bytes", "license", "checked",
         "source")
    ]  # fmt: skip
    for each in KNOWN:
        numbers = ("" if value is None else f"{value:.2f}" for value in (each.clean, each.robust))
        size = "" if each.num_bytes is None else f"{each.num_bytes:,}"
        checked = "yes" if each.checked else "no"
        what = (each.name, each.arch, each.data, each.threat, *numbers)
        rows.append((*what, size, each.license, checked, each.source))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return (
        "\n".join(lines)
        + f"""

Accuracies are the publishers' and RobustBench's; what is not known is left empty. A name stands
for its file, {typed("convert")} NAME DESTINATION, and for what no tensor of it shows: activation
and normalisation, say. A file on Google Drive is downloaded by hand; the command then says how."""
    )
