"""Pictures of every mode, written by PIL or by hand, compared with known pixel values."""

import io
import itertools
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtl_jax.data import depth, pictures
from rtl_jax.errors import UserError


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def solid(mode: str, colour: object, kind: str = "PNG", **options: object) -> bytes:
    return encode(Image.new(mode, (4, 3), colour), kind, **options)


def palette_with_hole() -> bytes:
    image = Image.new("P", (4, 3), 1)
    image.putpalette([10, 20, 30, 200, 0, 0])
    return encode(image, transparency=1)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (solid("L", 77), (77, 77, 77)),
        (solid("1", 1), (255, 255, 255)),
        (solid("RGB", (1, 2, 3)), (1, 2, 3)),
        (solid("RGBA", (1, 2, 3, 255)), (1, 2, 3)),
        # Transparency lies on white, whatever colour hides under it.
        (solid("RGBA", (1, 2, 3, 0)), (255, 255, 255)),
        (solid("RGBA", (0, 0, 0, 128)), (127, 127, 127)),
        (solid("LA", (50, 0)), (255, 255, 255)),
        (palette_with_hole(), (255, 255, 255)),
        (solid("RGB", (9, 9, 8), transparency=(9, 9, 8)), (255, 255, 255)),
        # 16 bits: v / 257, rounded.
        (encode(Image.fromarray(np.full((3, 4), 65535, np.uint16))), (255, 255, 255)),
        (encode(Image.fromarray(np.full((3, 4), 32896, np.uint16))), (128, 128, 128)),
        (encode(Image.fromarray(np.full((3, 4), 400, np.uint16)), "TIFF"), (2, 2, 2)),
        (encode(Image.fromarray(np.full((3, 4), 25700, np.int32)), "TIFF"), (100, 100, 100)),
        (solid("CMYK", (0, 255, 255, 0), "TIFF"), (255, 0, 0)),
        (solid("RGB", (0, 255, 0), "BMP"), (0, 255, 0)),
        (solid("RGB", (0, 255, 0), "WEBP", lossless=True), (0, 255, 0)),
        (solid("RGB", (0, 255, 0), "PPM"), (0, 255, 0)),
    ],
)
def test_modes(content, expected):
    pixels = pictures.decode(content, None)
    assert pixels.shape == (3, 4, 3) and pixels.dtype == np.uint8
    assert (pixels == expected).all()


def test_jpeg_of_cmyk_and_grey():
    for mode, colour, expected in [("CMYK", (0, 255, 255, 0), (255, 0, 0)), ("L", 90, (90,) * 3)]:
        pixels = pictures.decode(solid(mode, colour, "JPEG", quality=100), None)
        assert (np.abs(pixels.astype(int) - expected) <= 6).all()


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 3), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10)
    assert (pictures.decode(content, None) == (255, 0, 0)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_exif_orientation(orientation, kind):
    # The definition of the tag: which side of the stored array is the picture's top and left.
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255  # The top left corner is white.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    content = encode(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    pixels = pictures.decode(content, None)
    assert np.abs(pixels.astype(int) - upright).max() <= 4


def exif_of(order: str, *entries: tuple[int, int, int, bytes]) -> bytes:
    """Encode EXIF as cameras do: entries of tag, type, count and four bytes."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    packed = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0" + head + struct.pack(f"{order}H", len(entries)) + packed + bytes(4)


# Resolution unit, exposure bias, artist, orientation of a thumbnail, its own sub-directory, ...
ODD_TAGS = (0x0128, 0x9204, 0x013B, 0x8769, 0x8825, 0xA005, 0x927C, 0x0000, 0xFFFF)


@pytest.mark.filterwarnings("ignore")  # PIL's, of metadata
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nothing_but_the_orientation_is_read_of_exif(kind, order):
    """Every tag in every type, with several lengths, also beyond the end: the picture is turned."""
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255
    stored = Image.fromarray(np.ascontiguousarray(upright.transpose(1, 0, 2)[::-1]))
    turned = (0x0112, 3, 1, struct.pack(f"{order}HH", 6, 0))
    options = {"quality": 100} | ({"subsampling": 0} if kind == "JPEG" else {})
    for tag, form, count in itertools.product(ODD_TAGS, range(14), (0, 1, 2**31)):
        odd = (tag, form, count, struct.pack(f"{order}i", 20))
        entries = sorted([turned, odd])
        content = encode(stored, kind, exif=exif_of(order, *entries), **options)
        pixels = pictures.decode(content, None)
        assert pixels.shape == (16, 24, 3), (tag, form, count)
        assert np.abs(pixels.astype(int) - upright).max() <= 60


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0II*\0\xff" * 3])
def test_damaged_exif_leaves_the_picture_as_it_is(exif):
    content = solid("RGB", (0, 255, 0), "JPEG", exif=exif)
    assert pictures.decode(content, None).shape == (3, 4, 3)


def wide_png(values: np.ndarray) -> bytes:
    """Encode a 16-bit RGB PNG, which PIL reads but does not write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name: bytes, body: bytes) -> bytes:
        body = name + body
        return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def grey(kind: str, dtype: type):
    return lambda values: encode(Image.fromarray(values[..., 0].astype(dtype)), kind)


WIDE = {
    "I;16 PNG": grey("PNG", np.uint16),
    "I;16 TIFF": grey("TIFF", np.uint16),
    "I TIFF": grey("TIFF", np.int32),
    "RGB PNG": wide_png,
}


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("kind", WIDE)
def test_a_set_that_uses_few_of_16_bits_is_a_question(kind, bits):
    """A single picture cannot answer it; one bright picture, here or in the other half, does."""
    rng = np.random.default_rng(bits)
    dark = [rng.integers(0, 2**bits, (3, 4, 3)) for _ in range(3)]
    dark[1][0] = 2**bits - 1
    files = [WIDE[kind](values) for values in dark]
    with pytest.raises(
        UserError,
        match=rf"^x: the images with 16 bits per channel \(3\) .*\* 65535 // {2**bits - 1}",
    ):
        pictures.decode_all([*files, solid("RGB", 255)], 4, (3, 4), native=True, name="x")
    bright = WIDE[kind](np.full((3, 4, 3), 65535))
    images, broken = pictures.decode_all([*files, bright], 4, (3, 4), native=True, name="x")
    assert not broken and (images[3] == 255).all()
    # PIL itself takes the upper byte of colour, which is a grey level less here and there.
    assert np.abs(images[1, ..., 0] - dark[1][..., 0] / 257).max() <= 1


def test_full_16_bits_and_8_bits_are_no_question(tmp_path):
    files = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.bmp", tmp_path / "d.png"]
    files[0].write_bytes(WIDE["I;16 PNG"](np.full((3, 4, 3), 20)))
    files[1].write_bytes(WIDE["RGB PNG"](np.full((3, 4, 3), 32768)))
    files[2].write_bytes(solid("RGB", (3, 3, 3), "BMP"))
    files[3].write_bytes(b"broken")
    depth.check_files(files, "x")
    depth.check_files(files[2:], "x")
    with pytest.raises(UserError, match="use only values up to 20 of 65535: they would become bl"):
        depth.check_files([files[0], *files[2:]], "x")


def test_floats_have_no_range():
    """Each has its own range, so no single file determines the scale."""
    content = encode(Image.fromarray(np.full((3, 4), 200, np.float32)), "TIFF")
    _, broken = pictures.decode_all([content], 1, (3, 4), native=True, name="x")
    assert "no fixed range: save them with 8 or 16 bits, all images scaled alike" in broken[0][1]


@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (20, 20), (7, 5), (1, 50)])
def test_the_shorter_side_is_resized_and_the_centre_cut(shape):
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(0, 256, (*shape, 3), dtype=np.uint8))
    pixels = pictures.decode(encode(image), 10)
    # The plain way: resize all of it, then crop.
    scale = 10 / min(shape)
    whole = image.resize(
        (round(shape[1] * scale), round(shape[0] * scale)), Image.Resampling.BILINEAR
    )
    left, top = (whole.width - 10) // 2, (whole.height - 10) // 2
    expected = np.asarray(whole.crop((left, top, left + 10, top + 10)))
    assert pixels.shape == (10, 10, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_a_large_jpeg_in_draft_equals_a_full_decode():
    ramp = np.linspace(0, 255, 1600).astype(np.uint8)
    photo = np.stack(np.broadcast_arrays(ramp, ramp[:1200, None], np.uint8(90)), -1)
    content = encode(Image.fromarray(photo), "JPEG", quality=95)
    full = Image.open(io.BytesIO(content)).resize((43, 32), Image.Resampling.BILINEAR)
    expected = np.asarray(full)[:, 5:37].astype(int)
    assert np.abs(pictures.decode(content, 32) - expected).max() <= 4


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>404</html>",
        solid("RGB", (1, 2, 3))[:-30],
        encode(Image.effect_noise((64, 64), 50), "JPEG")[:-400],
        solid("L", 1)[:20],
        encode(Image.fromarray(np.full((3, 4), 0.5, np.float32)), "TIFF"),
    ],
)
@pytest.mark.parametrize("size", [None, 8])
def test_broken_pictures_raise_what_is_expected(content, size):
    with pytest.raises(pictures.BROKEN):
        pictures.decode(content, size)


def test_a_decompression_bomb_is_a_broken_picture(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    _, broken = pictures.decode_all([solid("L", 1)], 1, (3, 4), native=True, name="x")
    assert not broken  # 12 pixels: PIL would warn.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    _, broken = pictures.decode_all([solid("L", 1)], 1, (3, 4), native=True, name="x")
    assert broken == [(0, "it has more than 10 pixels: make it smaller, or cut it into parts")]


def test_decode_all_keeps_order_and_finds_grey():
    levels = [solid("L", level) for level in range(200)]
    for native, size in ((True, (3, 4)), (False, (8, 8))):
        images, broken = pictures.decode_all(iter(levels), 200, size, native=native, name="x")
        assert images.shape == (200, *size, 1) and not broken
        assert images[:, 0, 0, 0].tolist() == list(range(200))
    images, _ = pictures.decode_all(
        [*levels, solid("RGB", (0, 0, 1))], 201, (8, 8), native=False, name="x"
    )
    assert images.shape == (201, 8, 8, 3)


def test_decode_all_reports_rows_and_restores_the_warning_filters():
    before = list(warnings.filters)
    sources = [solid("L", 1), b"no", encode(Image.new("L", (9, 9)))]
    _, broken = pictures.decode_all(sources, 3, (3, 4), native=True, name="x")
    assert [row for row, _ in broken] == [1, 2]
    assert "9x9, expected 3x4" in broken[1][1]
    assert warnings.filters == before


def test_memory_is_refused_before_it_is_taken():
    with pytest.raises(UserError, match=r"GiB.*lower image_size"):
        pictures.decode_all([], 10**9, (224, 224), native=False, name="x")


def test_common_size(tmp_path: Path):
    for name, size in (("a.png", (4, 3)), ("b.png", (4, 3)), ("c.png", (3, 4))):
        Image.new("L", size).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"x")
    paths = sorted(tmp_path.iterdir())
    assert pictures.common_size(paths[:3]) == (3, 4)  # a, b and the broken one
    assert pictures.common_size(paths) is None
