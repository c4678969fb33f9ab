"""What a network's manifest may say, checked before anything is built from it.

A directory from elsewhere may say anything. Entries that nothing reads are left as they are.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rtl_jax.conformal import Guarantees
from rtl_jax.errors import UserError, require, shown
from rtl_jax.models import registry
from rtl_jax.runtime import limits
from rtl_jax.runtime.documents import is_number, is_whole

FORMAT = "rtl_jax network"
FORMAT_VERSION = 1

# Fitted temperatures lie in [0.02, 50].
TEMPERATURES = (1e-3, 1e3)


class Entry(NamedTuple):
    """Whether a value is one that an entry may have, and which those are, in words."""

    holds: Callable[[Any], bool]
    words: str


_NAME = Entry(lambda value: _is_text(value), f"text of at most {limits.TEXT:,} characters")
_SHA256 = Entry(lambda value: _is_hex(value, 64), "64 hex digits")
_SIZE = Entry(lambda value: is_whole(value, 1, limits.IMAGE_SIZE), f"1 to {limits.IMAGE_SIZE:,}")
_TABLE = Entry(lambda value: isinstance(value, dict), "a table")
_SETTING = Entry(lambda value: _is_setting(value), "a number, a text, or a list of them")
_ERROR = Entry(lambda value: is_number(value, 0, 100), "a number from 0 to 100")

_CALIBRATION = {
    "temperature": Entry(
        lambda value: is_number(value, *TEMPERATURES),
        f"a number from {TEMPERATURES[0]:g} to {TEMPERATURES[1]:g}",
    ),
    "before": _ERROR,
    "after": _ERROR,
    "images": Entry(lambda value: is_whole(value, 1, limits.IMAGES), "a positive whole number"),
}


def check(manifest: object) -> None:
    """Raise UserError, naming the entry, unless a parsed manifest is one that `save` writes."""
    if not isinstance(manifest, dict):
        raise UserError(f"expected a table, received {_shortened(manifest)}")
    found = manifest.get("format")
    if found != FORMAT:
        raise UserError(f"it describes a {_shortened(found)}, expected {FORMAT!r}")
    version: Any = manifest.get("version")
    require(is_whole(version, 1, 10**6), "version", "a positive whole number", version)
    if version > FORMAT_VERSION:
        raise UserError(
            f"it has version {version}, this code reads up to {FORMAT_VERSION}: update rtl_jax"
        )
    try:
        for name in ("architecture", "provenance"):
            _require(_TABLE, name, manifest.get(name))
        _optional(_SHA256, "digest", manifest.get("digest"))
        architecture = registry.from_dict(manifest["architecture"])
        _check_provenance(manifest["provenance"], architecture.num_classes)
        if (guarantees := manifest["provenance"].get("guarantees")) is not None:
            Guarantees.from_dict(guarantees, architecture.num_classes, architecture.num_blocks)
    except UserError as error:
        raise UserError(f"{error}; convert or train it again") from error


def _check_provenance(known: Mapping[str, Any], num_classes: int) -> None:
    """Raise UserError unless what `Network` and the tasks read of a provenance is what they read.

    Null is what was not known.
    """
    for name in ("kind", "run"):
        _optional(_NAME, f"provenance.{name}", known.get(name))
    _optional(_SHA256, "provenance.sha256", known.get("sha256"))
    _optional(_SIZE, "provenance.image_size", known.get("image_size"))
    source = known.get("source")
    if isinstance(source, dict):
        _optional(_SHA256, "provenance.source.sha256", source.get("sha256"))
    else:
        _optional(_NAME, "provenance.source", source)
    if (settings := known.get("settings")) is not None:
        _check_settings(settings)
    _optional(
        Entry(lambda value: _are_classes(value, num_classes), f"{num_classes:,} different names"),
        "provenance.class_names",
        known.get("class_names"),
    )
    _optional(
        Entry(_are_digests, "a list of digests of 16 hex digits"),
        "provenance.training_images",
        known.get("training_images"),
    )
    if (calibration := known.get("calibration")) is not None:
        _require(_TABLE, "provenance.calibration", calibration)
        for name, entry in _CALIBRATION.items():
            _require(entry, f"provenance.calibration.{name}", calibration.get(name))


def _check_settings(settings: object) -> None:
    """Whoever uses settings checks their values: here only that they are values, in groups."""
    _require(_TABLE, "provenance.settings", settings)
    assert isinstance(settings, dict)
    for name, group in settings.items():
        values = group if isinstance(group, dict) else {"": group}
        for key, value in values.items():
            _require(_SETTING, f"provenance.settings.{name}.{key}".rstrip("."), value)
    target = settings.get("target", {})
    _require(_TABLE, "provenance.settings.target", target)
    _optional(_SIZE, "provenance.settings.target.image_size", target.get("image_size"))


def _require(entry: Entry, key: str, value: object) -> None:
    if not entry.holds(value):
        raise UserError(f"{key}: expected {entry.words}, received {_shortened(value)}")


def _optional(entry: Entry, key: str, value: object) -> None:
    if value is not None:
        _require(entry, key, value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= limits.TEXT


def _is_hex(value: object, digits: int) -> bool:
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) is not None


def _is_setting(value: object) -> bool:
    return all(map(_is_value, value if isinstance(value, list) else [value]))


def _is_value(value: object) -> bool:
    return value is None or isinstance(value, bool) or is_number(value) or _is_text(value)


def _are_classes(value: object, number: int) -> bool:
    if not isinstance(value, list) or not all(map(_is_text, value)):
        return False
    return len(value) == len(set(value)) == number


def _are_digests(value: object) -> bool:
    return isinstance(value, list) and all(_is_hex(one, 16) for one in value)


def _shortened(value: object) -> str:
    """What was received, in a few words, whatever its size: it may be millions of digests."""
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'table'} of {len(value):,}"
    return shown(value)
