"""IDX files, the format of MNIST, plain or gzip (LeCun et al. 1998), and pairs of them in a folder (floor 4).

Four bytes of type and rank, big-endian sizes, then the data. Only unsigned bytes are read, which is all that MNIST and its
relatives hold.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np

from ...errors import DataError

IMAGES, LABELS = "-images-idx3-ubyte", "-labels-idx1-ubyte"


def read_bytes(path: Path) -> bytes:
    """The file's bytes, unpacked where they are gzip; DataError when it is missing, unreadable or cut off."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the name") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from None
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(
            f"{path}: the gzip data is cut off or damaged after {len(data):,} bytes; fetch or copy the file again"
        ) from None


def read_idx(path: Path, rank: int) -> tuple[np.ndarray, str]:
    """The array (uint8, `rank` axes, read-only) in an IDX file, and the SHA-256 of its unpacked bytes."""
    data = read_bytes(path)
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise DataError(
            f"{path}: begins with {data[:4].hex(' ') or 'nothing'}; expected an IDX file of unsigned bytes "
            f"(00 00 08 {rank:02x}); is it the right file?"
        )
    if data[3] != rank:
        raise DataError(
            f"{path}: an array of {data[3]} axes; expected {rank} ({'images' if rank == 3 else 'labels'}); "
            "are images and labels exchanged?"
        )
    start = 4 + 4 * rank
    sizes = struct.unpack(f">{rank}I", data[4:start]) if len(data) >= start else ()
    expected = int(np.prod(sizes, dtype=np.int64)) if sizes else 0
    if not sizes or len(data) != start + expected:
        raise DataError(
            f"{path}: {len(data):,} bytes; its header announces {start + expected:,}; "
            "the file is cut off or damaged: fetch or copy it again"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(sizes), hashlib.sha256(data).hexdigest()


def read_pair(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (N, H, W) uint8, labels (N,) int64 and both hashes; DataError when their counts differ."""
    pixels, pixels_hash = read_idx(images, 3)
    classes, classes_hash = read_idx(labels, 1)
    if len(pixels) != len(classes):
        raise DataError(
            f"{images}: {len(pixels):,} images, but {labels.name} has {len(classes):,} labels; "
            "expected one label per image"
        )
    if not len(pixels):
        raise DataError(f"{images}: no images in it; expected at least 10")
    return pixels, classes.astype(np.int64), [pixels_hash, classes_hash]


def pairs_in(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Stem -> (images, labels) of the IDX files in `folder`: {"train": ..., "t10k": ...}."""
    pairs: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        for ending in (IMAGES, LABELS):
            name = path.name.removesuffix(".gz").replace(".idx", "-idx")  # both spellings are in use
            if name.endswith(ending):
                pairs.setdefault(name.removesuffix(ending), {}).setdefault(ending, path)
    for stem, files in pairs.items():
        if len(files) == 1:
            have = next(iter(files.values())).name
            lacks = stem + (LABELS if IMAGES in files else IMAGES)
            raise DataError(f"{folder}: {have} is there but {lacks}(.gz) is not; images and labels come in pairs")
    return {stem: (files[IMAGES], files[LABELS]) for stem, files in pairs.items()}
