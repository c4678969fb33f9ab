"""timm's config.json beside a file, which says what no tensor of its network shows."""

from pathlib import Path
from typing import Any, NamedTuple

from rtl_jax.errors import UserError
from rtl_jax.runtime import limits
from rtl_jax.runtime.documents import is_whole, parse_json, read_bytes

_NAME = "config.json"
_MAX_BYTES = 1 << 20


class TimmConfig(NamedTuple):
    """timm's name of the architecture, and the normalisation and image size, if stated.

    `fields` has 'mean' and 'std', as in the file.
    """

    architecture: str
    fields: dict[str, Any]
    image_size: int | None


def read_config(path: Path) -> TimmConfig | None:
    """Read the config beside a checkpoint; None if there is none, or another program's.

    Raises UserError if it is damaged.
    """
    place = path.parent / _NAME
    if not place.is_file():
        return None
    try:
        config = parse_json(read_bytes(place, _MAX_BYTES).decode())
    except (OSError, ValueError) as error:
        raise UserError(
            f"has a damaged {_NAME} beside it ({type(error).__name__}): repair or remove it"
        ) from error
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        return None
    found = config.get("pretrained_cfg")
    pretrained = found if isinstance(found, dict) else config
    fields = {name: pretrained[name] for name in ("mean", "std") if name in pretrained}
    size: Any = pretrained.get("input_size")
    edge = size[-1] if isinstance(size, list) and size else None
    whole = is_whole(edge, 1, limits.IMAGE_SIZE)
    return TimmConfig(config["architecture"], fields, edge if whole else None)
