"""The progress bars of a run, all in images."""

from tqdm import tqdm


def bar(what: str, total: int, *, done: int = 0, leave: bool = False) -> tqdm:
    """A bar over `total` images, `done` of them already; `update(n)` as they are finished."""
    return tqdm(desc=what, total=total, initial=done, unit="img", leave=leave, dynamic_ncols=True)
