"""Image decoding: a picture file of any format as pixels, upright, of eight bits, opaque, of the wanted size (floor 4).

What a network is given of them is decided in `preprocess.py`.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ...errors import DataError

IMAGE_ENDINGS = {
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".avif",
    ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".qoi", ".dds", ".pcx", ".sgi",
}  # fmt: skip
FOREIGN = {  # what to do with pictures that Pillow alone does not read
    **dict.fromkeys(
        (".heic", ".heif", ".hif"),
        "HEIC, a phone's format, which is not read; expected JPEG or PNG; convert: on a Mac sips -s format jpeg *.heic --out jpegs, "
        "else magick mogrify -format jpg *.heic; or set the phone to Most Compatible",
    ),
    ".jxl": "JPEG XL, which is not read; expected JPEG or PNG; convert: magick mogrify -format png *.jxl",
    ".svg": "SVG, drawings and not pixels; expected JPEG or PNG; convert: magick mogrify -format png *.svg",
    **dict.fromkeys(
        (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"),
        "a camera's raw format, which is not read; expected JPEG or PNG; export the pictures from the camera's program",
    ),
}  # fmt: skip
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")  # of a file whatever its ending
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # modes of more than eight bits, which Pillow would clip
ROTATION = 0x0112  # EXIF's tag; from 5 on the picture lies on its side
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, ArithmeticError, LookupError, TypeError, struct.error, zlib.error,
)  # fmt: skip


@contextlib.contextmanager
def pillow_errors(name: object) -> Iterator[None]:
    """Raise a DataError for what Pillow raises about the picture `name`."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{name}: no such file; expected a picture; check the name") from None
    except HeicError:
        raise DataError(f"{name}: a picture in {FOREIGN['.heic']}") from None
    except UnidentifiedImageError:
        raise DataError(f"{name}: not a picture that can be read; expected PNG, JPEG, GIF, BMP, TIFF or WebP; "
                        "save it as one of these") from None  # fmt: skip
    except Image.DecompressionBombError:
        raise DataError(
            f"{name}: too many pixels; expected at most {2 * (Image.MAX_IMAGE_PIXELS or 0):,}; make it smaller"
        ) from None
    except (PermissionError, IsADirectoryError):
        raise DataError(f"{name}: cannot be read; expected a picture file; check its name and permissions") from None
    except DAMAGE:  # how Pillow's decoders report it
        raise DataError(
            f"{name}: the picture is cut off or damaged; expected a whole one; copy or save it again"
        ) from None


class HeicError(Exception):
    """A picture in HEIC, as phones take them, under whichever name."""


def _is_heic(content: Path | bytes) -> bool:
    if isinstance(content, Path):
        with content.open("rb") as file:
            content = file.read(12)
    return content[4:8] == b"ftyp" and content[8:12] in HEIC_BRANDS


def _open(content: Path | bytes) -> Image.Image:
    """The picture's header read, its pixels not yet."""
    try:
        picture = Image.open(io.BytesIO(content) if isinstance(content, bytes) else content)
    except UnidentifiedImageError:
        if _is_heic(content):
            raise HeicError from None
        raise
    if picture.format == "EPS":  # a program, for which Pillow would start Ghostscript
        raise UnidentifiedImageError
    return picture


def upright(content: Path | bytes, name: object, least: int = 0) -> Image.Image:
    """The picture in a file (or its bytes), turned as its EXIF says, in memory. Raises DataError.

    least: where so many pixels a side are enough, a JPEG is decoded no larger than it has to be.
    """
    with pillow_errors(name), _open(content) as picture:
        if least:
            picture.draft(None, (least, least))
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        return picture


def measure(content: Path | bytes, name: object) -> tuple[tuple[int, int], bool]:
    """((height, width) upright, whether it is grey), from the header alone. Raises DataError."""
    with pillow_errors(name), _open(content) as picture:
        width, height = picture.size
        # PNG may keep EXIF behind its pixels; asking for it would decode them.
        asked = picture.format != "PNG" or "exif" in picture.info
        lying = asked and picture.getexif().get(ROTATION, 1) >= 5
        return (width, height) if lying else (height, width), Image.getmodebase(picture.mode) == "L"


def deep_levels(picture: Image.Image, name: object) -> np.ndarray | None:
    """Greys of more than eight bits as float64 (h, w) in 0..255; None for a picture that has no more than eight.

    Raises DataError for NaN and infinity.
    """
    if picture.mode not in DEEP:
        return None
    deep = np.asarray(picture, dtype=np.float64)
    if not np.isfinite(deep).all():
        raise DataError(f"{name}: pixels that are no finite numbers; expected finite ones; save it as PNG")
    # The range that the numbers are of, and not their own largest: how bright pictures are tells them apart.
    ranges = (65535.0,) if picture.mode.startswith("I") else (1.0, 255.0, 65535.0)
    top = next((top for top in ranges if deep.max() <= top), float(deep.max()))
    return deep.clip(0, None) * (255.0 / max(top, 1e-9))


def on_white(picture: Image.Image) -> Image.Image:
    """A picture with transparency, laid on white paper."""
    layers = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)


def read_pixels(content: Path | bytes, name: object, size: tuple[int, int, int]) -> np.ndarray:
    """The picture as uint8 (C, H, W) = `size`: C is 1 (grey) or 3 (red, green, blue).

    Its shorter side is brought to the size, its centre cropped; one that has the size keeps every pixel. Raises DataError.
    """
    channels, height, width = size
    picture = upright(content, name, least=2 * max(height, width))
    deep = deep_levels(picture, name)
    with pillow_errors(name):
        if deep is not None:
            picture = Image.fromarray(np.rint(deep).astype(np.uint8))
        elif picture.has_transparency_data:
            picture = on_white(picture)
        picture = picture.convert("L" if channels == 1 else "RGB")
        if picture.size != (width, height):
            picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
    array = np.asarray(picture)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def moments(counts: np.ndarray) -> tuple[float, float]:
    """Mean and deviation of bytes, each value 0..255 of which comes `counts` (256,) times; the deviation of one value is 255.

    Exact, from whole-number sums, and so the same on every machine.
    """
    values = np.arange(256)
    n, total, squares = int(counts.sum()), int(counts @ values), int(counts @ values**2)
    variance = (n * squares - total**2) / n**2 if n else 0.0
    return total / max(n, 1), variance**0.5 or 255.0


def as_seen(pixels: np.ndarray) -> np.ndarray:
    """uint8 (..., C, H, W) with channels last, as images are shown: (..., H, W) grey, or (..., H, W, 3)."""
    return pixels[..., 0, :, :] if pixels.shape[-3] == 1 else np.moveaxis(pixels, -3, -1)
