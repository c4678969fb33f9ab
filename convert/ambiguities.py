"""Properties that no tensor shows, found elsewhere in the file or asked of the user."""

from collections.abc import Mapping
from typing import Any

from rtl_jax.convert.checkpoint import Checkpoint
from rtl_jax.convert.holders import State
from rtl_jax.convert.inert import shown
from rtl_jax.convert.layouts.layout import Layout
from rtl_jax.errors import UserError


def ask_of_names(checkpoint: Checkpoint, layout: Layout, known: Mapping[str, Any]) -> None:
    """Raise UserError if a name suggests an unusual option that nothing else states."""
    for name in _names(checkpoint):
        for option, value in layout.options_of_name(name).items():
            if option not in known and value != layout.options[option].default:
                flag = f"--{option.replace('_', '-')}"
                raise UserError(
                    f"is called {shown(name)}, which has {option.replace('_', ' ')} {value}, and "
                    f"no tensor shows whether that is so: pass {flag} {value}, or {flag} "
                    f"{layout.options[option].default}"
                )


def _names(checkpoint: Checkpoint) -> list[str]:
    """Return the names of a file and its network."""
    names = (checkpoint.entries.get("arch"), checkpoint.path.name)
    return [name for name in names if isinstance(name, str)]


def said_by_parts(
    layout: Layout,
    state: State,
    prefix: str,
    known: Mapping[str, Any],
    checkpoint: Checkpoint,
) -> dict[str, Any]:
    """Return the options that only the names of a network's modules reveal.

    Raises UserError if they leave one open.
    """
    parts = {name.removeprefix(prefix) for name in state.modules if name.startswith(prefix)}
    named = {option for name in _names(checkpoint) for option in layout.options_of_name(name)}
    found = {}
    for option, value in layout.options_of_modules(parts).items():
        if option in known or (value is None and option in named):
            continue
        if value is None:
            choice, word = layout.options[option], option.replace("_", "-")
            values = choice.values if isinstance(choice.values, tuple) else ()
            others = " or ".join(value for value in values if value != choice.default)
            raise UserError(
                f"holds {layout.words} of timm's, and nothing in it shows its {word}: pass "
                f"--{word} {choice.default} for the usual network, or --{word} {others}, or put "
                "timm's config.json beside the file"
            )
        found[option] = value
    return found
