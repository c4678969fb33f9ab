"""TensorBoard's files, read as their format says."""

import struct
from pathlib import Path

import pytest

from rtl_jax.lab.sweep.events import SCALARS, crc32c, write_events


def rows() -> list[dict]:
    scalars = dict(zip(SCALARS, (50.5, 1.25, 60.0, 1e30), strict=True))
    epochs = [dict(scalars, run="r", method="transfer", epoch=epoch) for epoch in (1, 300)]
    return [*epochs, dict(scalars, run="r", method="linear_pixels", epoch=300)]


def test_the_checksum_is_castagnolis():
    # The test vectors of RFC 3720, B.4.
    assert crc32c(b"\x00" * 32) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_events_are_read_back_by_the_format(tmp_path: Path):
    write_events(tmp_path, rows())
    data = (tmp_path / "tensorboard" / "r" / "events.out.tfevents.rows").read_bytes()
    contents = []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        for part, checksum in ((data[:8], data[8:12]), (data[12:][:length], data[12 + length :])):
            crc = crc32c(part)
            mask = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
            assert struct.unpack("<I", checksum[:4]) == (mask,)
        contents.append(data[12 : 12 + length])
        data = data[16 + length :]
    assert len(contents) == 3 and b"brain.Event:2" in contents[0]
    assert contents[1][9:11] == b"\x10\x01" and contents[2][9:12] == b"\x10\xac\x02"  # 300
    for name, value in zip(SCALARS, (50.5, 1.25, 60.0, 1e30), strict=True):
        found = name.encode() + b"\x15" + struct.pack("<f", value)
        assert all(found in content for content in contents[1:])


def test_tensorboard_reads_them(tmp_path: Path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write_events(tmp_path, rows())
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "r"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (1, 1.25),
        (300, 1.25),
    ]
