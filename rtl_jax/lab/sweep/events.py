"""TensorBoard's event files, written without TensorBoard: a file of scalars for each run.

An event file is a sequence of records (length, its checksum, content, its checksum), each an
`Event` message of protocol buffers, of which four fields are enough here.
"""

import struct
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

SCALARS = ("accuracy", "loss", "train_accuracy", "train_loss")

_CASTAGNOLI = 0x82F63B78  # the polynomial of CRC-32C, bits reversed


def write_events(workdir: epath.PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the scalars of fine-tunings' rows to WORKDIR/tensorboard/RUN, by epoch."""
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["method"] == "transfer":
            runs.setdefault(row["run"], []).append(row)
    for run, members in runs.items():
        directory = epath.Path(workdir) / "tensorboard" / run
        directory.mkdir(parents=True, exist_ok=True)
        records = [_record(_event(0, version="brain.Event:2"))]
        records += [
            _record(_event(row["epoch"], values={name: row[name] for name in SCALARS}))
            for row in members
        ]
        (directory / "events.out.tfevents.rows").write_bytes(b"".join(records))


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of some bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_CASTAGNOLI if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + _masked(length) + content + _masked(content)


def _masked(data: bytes) -> bytes:
    """The checksum as records hold it: rotated and shifted, so that it can be summed itself."""
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _event(step: int, version: str = "", values: Mapping[str, float] | None = None) -> bytes:
    """An `Event`: step 2, file version 3, summary 5. Its time, 1, is 0: rows have their own."""
    content = b"\x09" + struct.pack("<d", 0.0) + b"\x10" + _varint(step)
    if version:
        content += b"\x1a" + _sized(version.encode())
    if values:
        summary = b"".join(
            b"\x0a" + _sized(b"\x0a" + _sized(name.encode()) + b"\x15" + struct.pack("<f", value))
            for name, value in values.items()
        )
        content += b"\x2a" + _sized(summary)
    return content


def _sized(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])
