"""Files as bytes: checks that they exist, what they are, the encoding of text, gzip, and their SHA-256 (floor 4).

Decoding tables, images and sounds is left to the folders beside this file.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

from ..errors import DataError, suggestion

CHUNK = 1 << 20
GZIP = b"\x1f\x8b"
PARQUET = b"PAR1"
ZIP = b"PK\x03\x04"
OLE = b"\xd0\xcf\x11\xe0"  # what old Office files are packed in
BYTE_ORDER_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
                    codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
TABLES = "CSV, TSV, Parquet, JSON or a workbook"
PICTURE = f"a picture; expected {TABLES}, or a folder of pictures; for one picture, use pellucid predict RUN PICTURE"
SOUND = f"a sound; expected {TABLES}, or a folder of sounds; for one sound, use pellucid predict RUN SOUND"
PACKED = f"expected {TABLES}, which zip or gzip may have packed; unpack it, and name the file"
# Signatures of files that are given as tables by mistake, and what to do.
FOREIGN_SIGNATURES = {
    ZIP: f"a zip archive; expected {TABLES}; unpack it, and name the file",
    OLE: f"an old Office file; expected {TABLES}; save it as CSV",
    b"\x93NUMPY": "a NumPy array; expected CSV, TSV or Parquet; write it with numpy.savetxt(..., delimiter=',')",
    b"%PDF": "a PDF; expected CSV, TSV or Parquet; export its table as CSV",
    b"\x89PNG": PICTURE, b"\xff\xd8\xff": PICTURE, b"GIF8": PICTURE, b"BM": PICTURE, b"II*\x00": PICTURE, b"MM\x00*": PICTURE,
    b"OggS": SOUND, b"fLaC": SOUND, b"ID3": SOUND,
    b"SQLite format": "an SQLite database; expected CSV, TSV or Parquet; export the table as CSV",
    b"\x00\x00\x08": "one of MNIST's files; expected a table, or the directory that holds all four; name the directory",
    b"BZh": f"packed with bzip2; {PACKED}", b"\xfd7zXZ": f"packed with xz; {PACKED}", b"7z\xbc\xaf": f"a 7z archive; {PACKED}",
    b"Rar!": f"a rar archive; {PACKED}", b"\x28\xb5\x2f\xfd": f"packed with zstd; {PACKED}",
    b"\x89HDF": f"an HDF5 file; expected {TABLES}; write its table as CSV or Parquet",
    b"ARROW1": f"an Arrow or Feather file; expected {TABLES}; write it as Parquet",
    b"ORC": f"an ORC file; expected {TABLES}; write it as Parquet", b"Obj\x01": f"an Avro file; expected {TABLES}; write it as Parquet",
    b"RDX": f"R's data; expected {TABLES}; write it with write.csv(..., row.names=FALSE)",
    b"RDA": f"R's data; expected {TABLES}; write it with write.csv(..., row.names=FALSE)",
    b"X\n\x00\x00": f"R's data; expected {TABLES}; write it with write.csv(..., row.names=FALSE)",
    b"FEA1": f"a Feather file; expected {TABLES}; write it as Parquet", b"CDF": f"a NetCDF file; expected {TABLES}; export its table as CSV",
    b"MATLAB 5.0 MAT": f"MATLAB's data; expected {TABLES}; write it with writetable(..., 'data.csv')",
    bytes(12) + b"\xc2\xea\x81\x60": f"a SAS file; expected {TABLES}; export it as CSV",
    b"$FL2": f"an SPSS file; expected {TABLES}; export it as CSV", b"$FL3": f"an SPSS file; expected {TABLES}; export it as CSV", b"<stata_dta>": f"a Stata file; expected {TABLES}; export it as CSV",
    b"{\\rtf": f"a rich text document; expected {TABLES}; save the table in it as CSV",
    b"version https://git-lfs": f"only a pointer that Git LFS left in the file's place; expected {TABLES}; fetch the file: git lfs pull",
}  # fmt: skip
TEXT_SIGNATURES = (
    b"BM",
    b"ORC",
    b"RDX",
    b"RDA",
    b"ID3",
    b"FEA1",
    b"CDF",
)  # a text may begin so: they count where a NUL byte follows
WEB_PAGE = re.compile(rb"<!doctype html|<html|<head|<\?xml[^<]*<(!doctype )?html", re.IGNORECASE)
STATA = re.compile(rb"[\x69\x6c\x6e\x6f\x71-\x73][\x01\x02]\x01\x00")  # up to version 12
PICKLE = re.compile(rb"\x80[\x02-\x05][\x95}(c\]]")
# A character of two bytes or more in UTF-8.
MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
ASCII = bytes(range(128))
HIGH_RUN = re.compile(rb"[\x80-\xff]{3,}")
# Between letters, what is no letter in cp1252, or a capital before a small one.
NOT_WESTERN = re.compile(
    rb"(?<=[A-Za-z])(?:[\x80-\x87\x89\x8b\x8d\x8f-\x91\x93-\x98\x9b\x9d](?=[A-Za-z])|[\x8a\x8c\x8e\x9f](?=[a-z]))"
)
CONTROL = re.compile(r"[\x01-\x08\x0e-\x1f]")  # no text
MOST_FOREIGN = 0.3  # of the bytes that are not ASCII may stand as in no Western text


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


def find_encoding(path: Path, given: str | None = None, table: bool = True) -> str:
    """The encoding of a text file: UTF-8, else what a byte-order mark or zeros say, else cp1252, else Latin-1.

    given: what the user says it is. table: whether a table is expected, and no text. Raises DataError for what is no text, for damaged UTF-8, and for text that is in neither.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    for k, chunk in enumerate(chunks(path)):
        if k == 0:
            check_signature(path, chunk, table)
            found = given or _marked(chunk)
            if not _printed(chunk, found):
                raise DataError(f"{path}: only blanks; expected rows of data; check how it was made")
            if found and not _is_utf8(found):
                return found
        if (at := chunk.find(0)) >= 0:
            raise DataError(f"{path}, line {line + chunk[:at].count(10)}: a NUL byte; expected text; the file is binary or damaged: "
                            "export it again as CSV")  # fmt: skip
        held = decoder.getstate()[0]  # bytes of a character that the last piece broke off
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError as error:
            whole = held + chunk
            return _one_byte_encoding(path, given, line + whole[: error.start].count(10), whole[error.start])
        line += chunk.count(10)
    held = decoder.getstate()[0]
    if held:
        raise _not_utf8(path, line, held[0], "the file is cut off, or not UTF-8")
    return "utf-8"


def _is_utf8(name: str) -> bool:
    return codecs.lookup(name).name in ("utf-8", "utf-8-sig", "ascii")


def _printed(chunk: bytes, encoding: str | None) -> bool:
    """Whether there is anything but blanks, zeros and byte-order marks."""
    return bool(chunk.strip(b" \t\r\n\xef\xbb\xbf" + (b"" if encoding is None else b"\x00\xff\xfe")))


def check_signature(path: Path, start: bytes, table: bool = True) -> None:
    """Raise DataError where the first bytes of a file are those of another kind of file. table: whether a table is expected, and no text."""
    binary = b"\x00" in start
    for magic, words in FOREIGN_SIGNATURES.items():
        if start.startswith(magic) and (binary or magic not in TEXT_SIGNATURES):
            raise DataError(f"{path}: {words}")
    if start[:4] == b"RIFF":
        raise DataError(f"{path}: {SOUND if start[8:12] == b'WAVE' else PICTURE}")
    if start[257:262] == b"ustar":
        raise DataError(f"{path}: a tar archive; {PACKED}")
    if STATA.match(start):
        raise DataError(f"{path}: {FOREIGN_SIGNATURES[b'<stata_dta>']}")
    if PICKLE.match(start):
        raise DataError(f"{path}: a Python pickle; expected {TABLES}; load it where it was made, and write it as CSV")
    if table and WEB_PAGE.match(start.removeprefix(codecs.BOM_UTF8).lstrip()):
        title = re.search(rb"<title[^>]*>([^<]{1,60})", start, re.IGNORECASE)
        shown = f" ({title[1].decode('utf-8', 'replace').strip()!r})" if title else ""
        raise DataError(f"{path}: a web page{shown}, as comes where a sign-in or an error stands in a file's place; expected {TABLES}; "
                        "download the file itself (Raw, Export), or save the table in the page as CSV")  # fmt: skip
    if table and start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"<?xml"):
        raise DataError(f"{path}: XML; expected {TABLES}; export its table as CSV")


def _marked(chunk: bytes) -> str | None:
    """What a byte-order mark, or a zero in every other byte, says; None where neither is there."""
    for mark, name in BYTE_ORDER_MARKS.items():
        if chunk.startswith(mark):
            return name
    for name, high, low in (
        ("utf-16-be", chunk[:4000:2], chunk[1:4000:2]),
        ("utf-16-le", chunk[1:4000:2], chunk[:4000:2]),
    ):
        zeros = high.count(0) > 0.8 * len(high) and low.count(0) < 0.1 * len(low)
        if zeros and not CONTROL.search(chunk[:4000].decode(name, "ignore")):
            return name
    return None


def _one_byte_encoding(path: Path, given: str | None, line: int, byte: int) -> str:
    """cp1252 or Latin-1, for text that is not UTF-8 from `byte` on `line` on. Raises DataError where it is damaged UTF-8, or not Western."""
    if given:
        raise _not_utf8(path, line, byte, "which --read encoding names")
    multibyte = high = foreign = undefined = 0
    for chunk in chunks(path):
        rest = chunk.translate(None, delete=ASCII)
        high += len(rest)
        undefined += sum(map(rest.count, b"\x81\x8d\x8f\x90\x9d"))
        multibyte += sum(map(len, MULTIBYTE.findall(chunk)))
        foreign += sum(len(run) for run in HIGH_RUN.findall(chunk) if len(set(run)) > 1) + len(
            NOT_WESTERN.findall(chunk)
        )
    if multibyte > high / 2:
        raise _not_utf8(path, line, byte, "where the rest of the text is")
    if foreign > MOST_FOREIGN * high:
        raise DataError(f"{path}, line {line}: byte 0x{byte:02x} is not UTF-8, and the text is in no Western alphabet; expected UTF-8, UTF-16 or "
                        "cp1252; name its encoding: --read encoding=cp1251 (Cyrillic), gb18030 (Chinese), shift_jis (Japanese), "
                        "euc_kr (Korean), cp1256 (Arabic), mac_roman, cp850 (DOS)")  # fmt: skip
    return "latin-1" if undefined else "cp1252"


def _not_utf8(path: Path, line: int, byte: int, why: str) -> DataError:
    shown = bytes([byte]).decode("cp1252", "replace")
    return DataError(f"{path}, line {line}: byte 0x{byte:02x} is not UTF-8 ({shown!r} in cp1252), {why}; expected one encoding throughout; "
                     "mend that line, or name the encoding: --read encoding=cp1252")  # fmt: skip
