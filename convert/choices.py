"""Facts about a network that its file does not state, and overrides by the user."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rtl_jax.convert.heads import seed_of
from rtl_jax.convert.layouts import all_options
from rtl_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Choices:
    """How to read a checkpoint; None leaves a choice to the file, then to torchvision's default.

    arch: the name of the architecture that it must hold.
    mean, std: for pixels in [0, 1], three numbers each.
    key, prefix: the network to read in a file with several: its dictionary, 'a.b' for a nested one,
      and the prefix of all names of its tensors.
    ignore: shell-style patterns for names of tensors that are not part of the network.
    head: for a network without one, 'zeros' or 'seed:N': a placeholder for fine-tuning to replace.
    options: of the network's layout, which no tensor's shape shows: 'activation', 'stem', ...
    """

    arch: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    key: str | None = None
    prefix: str | None = None
    ignore: Sequence[str] = ()
    head: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.prefix and not self.prefix.endswith("."):
            object.__setattr__(self, "prefix", f"{self.prefix}.")
        if self.head is not None and self.head != "zeros":
            seed_of(self.head)

    @classmethod
    def of(cls, **choices: Any) -> Self:
        """Return choices from one flat dictionary of fields and layouts' options.

        Raises UserError for a name that is neither.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        known = all_options()
        if unknown := choices.keys() - fields - known.keys():
            raise UserError(
                f"unknown choices {sorted(unknown)}: expected some of "
                f"{', '.join(sorted(fields | known.keys()))}"
            )
        options = {name: v for name, v in choices.items() if name in known and v is not None}
        rest = {name: v for name, v in choices.items() if name in fields}
        return cls(**{**rest, "options": {**rest.get("options", {}), **options}})


DEFAULT = Choices()
