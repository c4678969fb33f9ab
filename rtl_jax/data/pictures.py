"""Decode pictures of any size and mode to uint8 pixels of one size."""

import io
import itertools
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from rtl_jax.data import depth, exif
from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import printable
from rtl_jax.runtime.progress import bar
from rtl_jax.runtime.resources import host_free

# Exceptions of PIL and its decoders for files that are damaged or not pictures.
# MemoryError: a damaged header can claim any size. SyntaxError: PNG chunks. struct.error and
# AttributeError: truncated metadata, or metadata of the wrong type.
BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, MemoryError,
          OverflowError, RuntimeError, AttributeError, struct.error, zlib.error,
          Image.DecompressionBombError)  # fmt: skip

# JPEG can be decoded at 1/2, 1/4 or 1/8 of its size. Requesting at least twice the target size
# makes large photographs several times faster and hardly changes any pixel.
_DRAFT_FACTOR = 2

# The number of encoded pictures in memory at a time.
_BATCH = 256


def decode_all(
    sources: Iterable[Path | bytes], count: int, size: tuple[int, int], *, native: bool, name: str
) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Decode `count` pictures to uint8 [count, *size, C], where C is 1 if every one is grey.

    Pictures are resized to `size`, a square, unless `native`: then each must have this size. `name`
    is the name of the source, for messages.

    Returns the pixels, and the row and reason for every picture that cannot be decoded. Raises
    UserError if the pixels exceed free memory, or if 16-bit pictures use only part of their range
    (see `depth`).
    """
    rgb = allocate(count, size, 3, name)
    broken: list[tuple[int, str]] = []
    tops: list[int] = []
    grey = True
    target = None if native else size[0]
    stream = iter(sources)
    # Other threads share the warning filters, so they are set once, outside of them. PIL
    # warns about metadata, and between its limit for decompression bombs and the double,
    # where it refuses.
    with (
        bar(f"decoding {name}", count) as progress,
        warnings.catch_warnings(),
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        warnings.simplefilter("ignore")
        row = 0
        while batch := list(itertools.islice(stream, _BATCH)):
            jobs = [(source, target, size) for source in batch]
            # Small pictures spend most time in Python, where threads only slow things down.
            for result in map(_try_decode, jobs) if native else pool.map(_try_decode, jobs):
                if isinstance(result, str):
                    broken.append((row, result))
                else:
                    rgb[row] = result.rgb
                    grey = grey and is_grey(result.rgb)
                    tops += () if result.top is None else (result.top,)
                row += 1
            progress.update(len(batch))
    if not broken:
        depth.check_range(tops, name)
    return (np.ascontiguousarray(rgb[..., :1]) if grey else rgb), broken


class Picture(NamedTuple):
    """Decoded pixels, uint8 [H, W, 3], and the largest value of a 16-bit file, or None."""

    rgb: np.ndarray
    top: int | None


def decode(source: Path | bytes, size: int | None) -> np.ndarray:
    """Decode a picture to RGB, uint8 [size, size, 3], or [H, W, 3] if `size` is None.

    The shorter side is resized to `size` (bilinear, antialiased) and the centre is cropped. The
    EXIF orientation is applied, transparency is composited on white, 16-bit values are scaled to 8,
    and an animation yields its first frame.

    Raises one of `BROKEN` for anything that cannot be decoded, including PIL's limit against
    decompression bombs.
    """
    return decode_with_range(source, size).rgb


def decode_with_range(source: Path | bytes, size: int | None) -> Picture:
    """Decode like `decode`, also returning the input of `depth.check_range`."""
    rgb, top = _open_rgb(source, size and _DRAFT_FACTOR * size)
    return Picture(np.asarray(rgb if size is None else _fit(rgb, size)), top)


def decode_crop(
    source: Path | bytes, size: int, choose: Callable[[int, int], tuple[int, int, int, int]]
) -> np.ndarray:
    """Decode a picture like `decode`, and resize a crop of it to uint8 [size, size, 3].

    `choose` receives height and width of the picture and returns top, left, height and width of the
    crop. As in torchvision's `resized_crop`, the picture is cropped before it is resized. Raises as
    `decode`.
    """
    rgb, _ = _open_rgb(source, None)
    top, left, height, width = choose(rgb.height, rgb.width)
    part = rgb.crop((left, top, left + width, top + height))
    return np.asarray(part.resize((size, size), Image.Resampling.BILINEAR))


def common_size(paths: Sequence[Path]) -> tuple[int, int] | None:
    """Return the height and width shared by all pictures, read from their headers, or None."""
    sizes = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths:
            try:
                with Image.open(path) as image:
                    sizes.add((image.height, image.width))
            except BROKEN:
                continue  # Decoding will report it.
            if len(sizes) > 1:
                return None
    return sizes.pop() if sizes else None


def list_broken(broken: Sequence[str], most: int = 5) -> str:
    """List the first few broken pictures, one per line, and the number of others."""
    more = [f"... and {len(broken) - most} more"] if len(broken) > most else []
    return "\n".join(f"  {line}" for line in [*broken[:most], *more])


def reason(error: BaseException) -> str:
    """Return why a picture cannot be decoded, in one line."""
    if isinstance(error, Image.DecompressionBombError):
        # PIL's message suspects an attack, but it may be a panorama or a scan.
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"it has more than {most:,} pixels: make it smaller, or cut it into parts"
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image in a known format"
    lines = str(error).splitlines() or [type(error).__name__]
    return printable(lines[0])[:160]


def is_grey(rgb: np.ndarray) -> bool:
    """Return whether the three channels of uint8 [H, W, 3] are equal everywhere."""
    return bool((rgb == rgb[..., :1]).all())


def _open_rgb(source: Path | bytes, draft: int | None) -> tuple[Image.Image, int | None]:
    """Open a picture; also return its largest value if it has 16 bits."""
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        if draft is not None:
            image.draft(None, (draft, draft))
        wide = depth.is_wide(image)
        whole = exif.upright(image)
        return _to_rgb(whole), depth.largest(whole) if wide else None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return depth.eight_bits(image).convert("RGB")
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        # Fully transparent pixels often have arbitrary colours, which must not show through.
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _fit(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    scale = size / min(width, height)
    new = max(size, round(width * scale)), max(size, round(height * scale))
    # `box` selects, in source pixels, the square that becomes the centre. Resizing only this
    # square avoids enlarging a panorama before it is cropped.
    left, top = (new[0] - size) // 2, (new[1] - size) // 2
    across, down = width / new[0], height / new[1]
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


def _try_decode(job: tuple[Path | bytes, int | None, tuple[int, int]]) -> Picture | str:
    source, target, size = job
    try:
        picture = decode_with_range(source, target)
    except BROKEN as error:
        return reason(error)
    height, width, _ = picture.rgb.shape
    if (height, width) != size:
        return f"it is {height}x{width}, expected {size[0]}x{size[1]}"
    return picture


def allocate(count: int, size: tuple[int, int], channels: int, name: str) -> np.ndarray:
    """Allocate uint8 [count, *size, channels]. Raises UserError if it exceeds free memory."""
    needed = count * size[0] * size[1] * channels
    if needed > (free := host_free()):
        raise UserError(
            f"{name}: {count} images of {size[0]}x{size[1]} need {needed / 2**30:.1f} GiB of "
            f"memory, and {free / 2**30:.1f} are free: lower image_size, or use fewer images"
        )
    return np.empty((count, *size, channels), np.uint8)
