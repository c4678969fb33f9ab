"""Which side of a picture is up, by the one EXIF tag that matters here."""

from PIL import Image, TiffImagePlugin

_ORIENTATION = 0x0112
_METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """The orientation of an opened picture, 1 .. 8; 1, upright, where EXIF is absent or damaged."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Metadata of any camera and any program: never a reason not to look.
        return 1
    return value if value in _METHODS else 1


def upright(image: Image.Image) -> Image.Image:
    """A picture, opened and not loaded, as viewers show it.

    Unlike `PIL.ImageOps.exif_transpose` it writes no EXIF anew, which fails for odd tags.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        image.load()  # PIL turns these itself
        return image
    turned = orientation(image)
    image.load()
    return image.transpose(_METHODS[turned]) if turned > 1 else image
