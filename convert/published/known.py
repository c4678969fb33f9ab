"""The description of a published checkpoint."""

import dataclasses
from collections.abc import Mapping
from typing import Any

_DRIVE = "https://drive.google.com/file/d/"


@dataclasses.dataclass(frozen=True)
class Known:
    """A checkpoint: its source, the threat model of its training, and its published accuracies.

    name: its short name. arch: the network's. data: the data set it classifies. threat: the threat
    model of its training. source: 'hf:...', the file's address, or that of a page to download it
    from by hand. clean, robust: published accuracies in percent; robust is under AutoAttack at the
    eps of training, as measured by RobustBench, on 5,000 images for ImageNet. num_bytes, license:
    empty if unknown. choices: what no tensor shows, as the command's options. checked: whether it
    was converted and compared here.
    """

    name: str
    arch: str
    data: str
    threat: str
    source: str
    clean: float | None = None
    robust: float | None = None
    num_bytes: int | None = None
    license: str = ""
    choices: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    checked: bool = False

    @property
    def by_hand(self) -> bool:
        """Whether it has only a page for downloading it by hand, not a file's address."""
        return self.source.startswith(_DRIVE)

    @property
    def flags(self) -> str:
        """The choices as flags of the command."""
        words = []
        for name, value in self.choices.items():
            text = ",".join(f"{x:g}" for x in value) if isinstance(value, tuple) else str(value)
            words.append(f"--{name.replace('_', '-')} {text}")
        return " ".join(words)


def on_drive(identifier: str) -> str:
    """Return the page of a file on Google Drive."""
    return f"{_DRIVE}{identifier}/view"
