"""One published checkpoint."""

import dataclasses
from collections.abc import Mapping
from typing import Any

_DRIVE = "https://drive.google.com/file/d/"


@dataclasses.dataclass(frozen=True)
class Known:
    """A checkpoint: its source, what it was trained against, and its published accuracies.

    name: the short one. arch: of the network. data: what it classifies. threat: of its training.
    source: 'hf:...', the address of the file, or that of a page to download it from by hand.
    clean, robust: published, in percent; robust is under AutoAttack at the eps of training, as
    RobustBench measures it, of ImageNet on 5,000 images. num_bytes, license: empty where they
    are not known. choices: what no tensor shows of it, in the words of the command's options.
    checked: whether it was converted and compared here.
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
        """Whether there is a page to download it from, and no address of the file."""
        return self.source.startswith(_DRIVE)

    @property
    def flags(self) -> str:
        """The choices as they are given to the command."""
        words = []
        for name, value in self.choices.items():
            text = ",".join(f"{x:g}" for x in value) if isinstance(value, tuple) else str(value)
            words.append(f"--{name.replace('_', '-')} {text}")
        return " ".join(words)


def on_drive(identifier: str) -> str:
    """The page of a file on Google Drive."""
    return f"{_DRIVE}{identifier}/view"
