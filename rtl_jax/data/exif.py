"""The orientation of pictures, from their EXIF tag."""

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
    """Return the orientation of an opened picture, 1 .. 8; 1 (upright) without valid EXIF."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Broken metadata, from any camera or program, is ignored.
        return 1
    return value if value in _METHODS else 1


def upright(image: Image.Image) -> Image.Image:
    """Rotate an opened picture, not yet loaded, as viewers show it.

    Unlike `PIL.ImageOps.exif_transpose`, this does not rewrite EXIF, which fails for odd tags.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        image.load()  # PIL turns these itself
        return image
    turned = orientation(image)
    image.load()
    return image.transpose(_METHODS[turned]) if turned > 1 else image
