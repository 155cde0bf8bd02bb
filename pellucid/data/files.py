"""Files as bytes: checks that they exist and hold text, gzip, and their SHA-256 (floor 4).

Decoding tables, images and sounds is left to the folders beside this file.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

from ..errors import DataError, suggestion

CHUNK = 1 << 20
GZIP = b"\x1f\x8b"
PARQUET = b"PAR1"
BYTE_ORDER_MARKS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16", codecs.BOM_UTF32_BE: "UTF-32"}
# Signatures of files that are given as tables by mistake, and what to do.
FOREIGN_SIGNATURES = {
    b"PK\x03\x04": "a zip file or an Excel workbook; expected CSV, TSV or Parquet; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; expected CSV, TSV or Parquet; save the sheet as CSV",
    b"\x93NUMPY": "a NumPy array; expected CSV, TSV or Parquet; write it with numpy.savetxt(..., delimiter=',')",
    b"%PDF": "a PDF; expected CSV, TSV or Parquet; export its table as CSV",
    b"\x89PNG": "a picture; expected a table or a known name; for a picture, use pellucid predict RUN PICTURE",
    b"\xff\xd8\xff": "a picture; expected a table or a known name; for a picture, use pellucid predict RUN PICTURE",
    b"SQLite format": "an SQLite database; expected CSV, TSV or Parquet; export the table as CSV",
    b"\x00\x00\x08": "one of MNIST's files; expected a table, or the directory that holds all four; name the directory",
}


def existing_file(path: Path, what: str = "data") -> Path:
    """`path` if it is a file that can be read and is not empty; else a DataError."""
    try:
        if path.is_dir():
            raise DataError(f"{path}: a directory; expected a {what} file; name the file in it")
        if not path.exists():
            folder = path.parent
            beside = [p.name for p in folder.iterdir()] if folder.is_dir() else []
            hint = suggestion(path.name, beside) or " Check the path."
            raise DataError(f"{path}: no such file; expected a {what} file.{hint}")
        with open(path, "rb") as file:
            if not file.read(1):
                raise DataError(f"{path}: the file is empty; expected {what}; check how it was made")
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise unreadable(path, error) from None
    return path


def unreadable(path: Path, error: Exception) -> DataError:
    """What the system says when it will not open a file, with the way out."""
    reason = getattr(error, "strerror", None) or "not a file name"
    return DataError(f"{path}: cannot be read ({reason}); expected a file that can be; check its name and permissions")


def damaged(path: Path, done: int) -> DataError:
    """A gzip file that ends early or does not unpack."""
    return DataError(f"{path}: the gzip data is cut off or damaged (after {done:,} unpacked bytes); expected a whole file; "
                     "fetch or copy it again")  # fmt: skip


def sha256(paths: Iterable[Path]) -> str:
    """One digest over the bytes of all files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with open(path, "rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
        except OSError as error:
            raise unreadable(path, error) from None
    return digest.hexdigest()


def starts_with(path: Path, magic: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked where they are gzip."""
    if starts_with(path, GZIP):
        return cast("IO[bytes]", gzip.open(path))
    return open(path, "rb")


def chunks(path: Path) -> Iterator[bytes]:
    """The (unpacked) bytes, a piece at a time. Raises DataError where gzip is cut off."""
    done = 0
    try:
        with open_bytes(path) as file:
            while chunk := file.read(CHUNK):
                done += len(chunk)
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise damaged(path, done) from None
    except OSError as error:
        raise unreadable(path, error) from None


def check_text(path: Path) -> None:
    """Raise DataError unless the file is UTF-8 text: UTF-16, NUL bytes and latin-1 are named with line and remedy."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    for k, chunk in enumerate(chunks(path)):
        if k == 0:
            _check_start(path, chunk)
        if (at := chunk.find(0)) >= 0:
            raise DataError(f"{path}, line {line + chunk[:at].count(10)}: a NUL byte; expected text; the file is binary or damaged: "
                            "export it again as CSV")  # fmt: skip
        held = decoder.getstate()[0]  # bytes of a character that the last piece broke off
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError as error:
            whole = held + chunk
            raise _not_utf8(path, line + whole[: error.start].count(10), whole[error.start]) from None
        line += chunk.count(10)
    held = decoder.getstate()[0]
    if held:
        raise _not_utf8(path, line, held[0])


def _check_start(path: Path, chunk: bytes) -> None:
    for magic, words in FOREIGN_SIGNATURES.items():
        if chunk.startswith(magic):
            raise DataError(f"{path}: {words}")
    name = next((name for mark, name in BYTE_ORDER_MARKS.items() if chunk.startswith(mark)), None)
    zeros = chunk[:4000].count(0)
    if name is None and 0.3 < zeros / len(chunk[:4000]) < 0.7 and {0} in ({*chunk[:400:2]}, {*chunk[1:400:2]}):
        name = "UTF-16"  # every other byte is zero
    if name:
        raise DataError(f"{path}: the text is {name}; expected UTF-8; save it as 'CSV UTF-8', or convert it: "
                        f"iconv -f {name} -t UTF-8 {path.name} > utf8-{path.name}")  # fmt: skip
    if not chunk.strip(b" \t\r\n\xef\xbb\xbf"):
        raise DataError(f"{path}: only blanks; expected rows of data; check how it was made")


def _not_utf8(path: Path, line: int, byte: int) -> DataError:
    shown = bytes([byte]).decode("cp1252", "replace")
    return DataError(f"{path}, line {line}: byte 0x{byte:02x} is not UTF-8 ({shown!r} in latin-1); expected UTF-8; save it as "
                     f"'CSV UTF-8', or convert it: iconv -f LATIN1 -t UTF-8 {path.name} > utf8-{path.name}")  # fmt: skip
