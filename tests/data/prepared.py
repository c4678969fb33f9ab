"""Directories as prepared by TFDS, written without TFDS or TensorFlow."""

import io
import json
from pathlib import Path

from PIL import Image

FEATURES = "tensorflow_datasets.core.features."


def field(number: int, content: bytes) -> bytes:
    """Encode a protocol buffer field of wire type 2."""
    size, length = b"", len(content)
    while length >= 0x80:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


def example(**features: bytes | int) -> bytes:
    """Serialise a tf.train.Example."""
    entries = b""
    for name, value in features.items():
        if isinstance(value, bytes):
            feature = field(1, field(1, value))
        else:
            number = value & (2**64 - 1)
            digits = b""
            while number >= 0x80:
                digits += bytes([number & 0x7F | 0x80])
                number >>= 7
            feature = field(3, field(1, digits + bytes([number])))
        entries += field(1, field(1, name.encode()) + field(2, feature))
    return field(1, entries)


def png(level: int, size: tuple[int, int] = (5, 4), mode: str = "L") -> bytes:
    level %= 256
    stream = io.BytesIO()
    Image.new(mode, size, level if mode == "L" else (level, 0, 9)).save(stream, "PNG")
    return stream.getvalue()


def image_feature(height: int, width: int, channels: int, dtype: str = "uint8") -> dict:
    shape = [str(n) for n in (height, width, channels)]
    return {
        "pythonClassName": FEATURES + "image_feature.Image",
        "image": {"dtype": dtype, "shape": {"dimensions": shape}},
    }


def label_feature(count: int) -> dict:
    return {
        "pythonClassName": FEATURES + "class_label_feature.ClassLabel",
        "classLabel": {"numClasses": str(count)},
    }


def write(
    root: Path,
    splits: dict[str, list[bytes]],
    features: dict | None = None,
    *,
    name: str = "toy",
    version: str = "1.0.0",
    file_format: str = "array_record",
    config: str | None = None,
    supervised: tuple[str, str] | None = None,
) -> Path:
    """Write DATA_DIR/NAME[/CONFIG]/VERSION with one shard per split."""
    path = root / name / (config or "") / version
    path.mkdir(parents=True)
    features = features or {"image": image_feature(4, 5, 1), "label": label_feature(2)}
    info = {
        "name": name,
        "version": version,
        "fileFormat": file_format,
        "moduleName": "__main__",
        "splits": [
            {
                "name": split,
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "numBytes": str(sum(map(len, records))),
                "shardLengths": [str(len(records))],
            }
            for split, records in splits.items()
        ],
    }
    if config:
        info["configName"] = config
    if supervised:
        keys = [{"featureKey": key} for key in supervised]
        info["supervisedKeys"] = {"tuple": {"items": keys}}
    (path / "dataset_info.json").write_text(json.dumps(info))
    content = {
        "pythonClassName": FEATURES + "features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }
    (path / "features.json").write_text(json.dumps(content))
    from array_record.python import array_record_module

    for split, records in splits.items():
        shard = path / f"{name}-{split}.{file_format}-00000-of-00001"
        writer = array_record_module.ArrayRecordWriter(str(shard), "group_size:1")
        for record in records:
            writer.write(record)
        writer.close()
    return path
