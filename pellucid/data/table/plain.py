"""A file of text as the reader takes it: unpacked from a zip archive, in UTF-8, without comments or titles above the header (floor 4).

A file that is so already is read where it stands. Of any other a copy is made, in which a line that is skipped is blank:
lines keep their numbers. Errors name the file that the user gave.
"""

from __future__ import annotations

import collections
import contextlib
import csv
import io
import itertools
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError, OptionError, suggestion
from ..files import CHUNK, GZIP, chunks, find_encoding, open_bytes, starts_with, unreadable
from .delimited import (
    BLANK,
    BLANKS,
    looks_like_header,
    notes_below,
    notes_told,
    sniff_lines,
    split_line,
    titles_above,
    widest,
)
from .read_options import ReadOptions

COMMENTS = ("#", "%", "//")
RULE = re.compile(r"[\s|+:=_-]*[-=]{3,}[\s|+:=_-]*")  # a line drawn below a header
HEAD = 1000  # lines that titles and comments are looked for in
TAIL, TAIL_BYTES = 200, 1 << 16  # lines, and bytes, that notes below the rows are looked for in
SHOWN = {
    "cp1252": "cp1252 (Western Windows)",
    "latin-1": "Latin-1",
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
}
UTF8 = ("utf-8", "utf-8-sig", "ascii")


@dataclass(frozen=True)
class Skipped:
    """Lines that are no rows. above, below: how many first and last lines. markers: what a comment begins with. separator, width: of rows.

    explicit: whether the user named the marker; else a line of `width` fields is a row, whatever it begins with.
    """

    above: int
    markers: tuple[str, ...]
    separator: str
    width: int
    explicit: bool
    below: int = 0

    def is_comment(self, line: str) -> bool:
        if not line.startswith(self.markers):
            return False
        return self.explicit or len(split_line(line, self.separator)) != self.width


@contextlib.contextmanager
def plain_text(path: Path, options: ReadOptions) -> Iterator[tuple[Path, list[str]]]:
    """Where the text of `path` can be read as plain rows, and notes on what was done for it. Raises DataError."""
    encoding = find_encoding(path, options.encoding)
    skipped, notes = _skipped(path, encoding, options)
    if encoding not in UTF8 and options.encoding is None:
        notes.append(f"file: read as {SHOWN.get(encoding, encoding)}, since it is not UTF-8 (--read encoding=NAME)")
    if encoding in UTF8 and skipped is None:
        yield path, notes
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name.removesuffix(".gz"))
        with named(copy, path):
            notes += _write_copy(path, copy, encoding, skipped)
            yield copy, notes


@contextlib.contextmanager
def named(inner: Path, outer: Path) -> Iterator[None]:
    """Errors raised inside about `inner` name `outer`, the file that the user gave."""
    try:
        yield
    except (DataError, OptionError) as error:
        raise type(error)(str(error).replace(str(inner), str(outer))) from None


def open_text(path: Path, encoding: str) -> io.TextIOWrapper:
    """The lines of a text file, their ends as they are."""
    name = "utf-8-sig" if encoding in UTF8 else encoding
    return io.TextIOWrapper(open_bytes(path), encoding=name, newline="")


def _skipped(path: Path, encoding: str, options: ReadOptions) -> tuple[Skipped | None, list[str]]:
    """What of a text file is no row, seen from its first lines; None where all are rows."""
    with open_text(path, encoding) as file:
        try:
            head = [line.removeprefix("\ufeff") for line in itertools.islice(file, HEAD)]
        except UnicodeError:
            raise _undecodable(path, encoding) from None
    if options.header:
        _check_header_line(path, head, options.header)
    markers = COMMENTS if options.comment is None else (options.comment,) * bool(options.comment)
    explicit = options.comment is not None
    above = (options.header or 1) - 1
    kept = (
        ["\n" if k < above or line.startswith(markers) else line for k, line in enumerate(head)] if markers else [*head]
    )
    kept[:above] = ["\n"] * above
    ruled = any(map(RULE.fullmatch, kept))
    kept = ["\n" if ruled and RULE.fullmatch(line) else line for line in kept]
    separator, sample = sniff_lines(kept, options.delimiter, path)
    if not sample:  # whatever begins so is data
        return None, []
    rows = [fields for _, fields in sample]
    width = widest(rows)
    skipped = Skipped(above, markers, separator, width, explicit)
    notes: list[str] = []
    leading = _leading_comments(head[above:], skipped, rows) if options.header is None else 0
    if options.header is None and (titles := titles_above(rows)):
        leading = max(leading, sample[titles][0] - 1)
        first = next(line for line in head if line.strip())
        notes.append(f"file: {titles} line{'s' * (titles > 1)} above the header skipped, {first.strip()[:40]!r} first (--read header=1 keeps them)")  # fmt: skip
    body = [line for line in head[max(above, leading) :] if line.startswith(markers)] if markers else []
    if not explicit:
        data = {
            marker for line in body for marker in markers if line.startswith(marker) and not skipped.is_comment(line)
        }
        markers = tuple(marker for marker in markers if marker not in data)
    below = _below(path, encoding, separator, width, options.footer, notes)
    if separator == BLANK and options.delimiter is None:
        notes.append("file: fields are read as separated by blanks (--read delimiter=SIGN)")
    if (
        separator != BLANK
        and not (leading or above or below or ruled)
        and not (markers and _has_marked_line(path, encoding, markers))
    ):
        return None, notes
    return Skipped(max(above, leading), markers, separator, width, explicit, below), notes


def _below(path: Path, encoding: str, separator: str, width: int, footer: int | None, notes: list[str]) -> int:
    """How many last lines are notes below the rows, or those that the user says, blank ones counted; and a note."""
    if footer == 0 or width < 2:
        return 0
    lines = _last_lines(path, encoding)
    whole = (line.count('"') % 2 == 0 for line in lines)
    rows = [split_line(line, separator) if own else ["", ""] * width for line, own in zip(lines, whole, strict=True)]
    if footer is not None:
        printed = [k for k, line in enumerate(lines) if line.strip()]
        return len(lines) - printed[-footer] if footer <= len(printed) else len(lines)
    below = notes_below(rows, width)
    told = [line.strip() for line in lines[len(lines) - below :] if line.strip(BLANKS + separator)]
    if told:
        notes.append(notes_told(len(told), "line", told[0].strip('"' + separator)))
    return below if told else 0


def _last_lines(path: Path, encoding: str) -> list[str]:
    """The last lines of a text, fewer than TAIL; all are whole."""
    if encoding.startswith(("utf-16", "utf-32")) or starts_with(path, GZIP):
        with open_text(path, encoding) as file:
            return list(collections.deque(file, TAIL - 1))
    with open(path, "rb") as raw:
        size = raw.seek(0, 2)
        start = raw.seek(max(0, size - TAIL_BYTES))
        lines = raw.read().decode(encoding, "replace").splitlines(keepends=True)
    return lines[1 if start else 0 :][-TAIL + 1 :]


def _leading_comments(head: Sequence[str], skipped: Skipped, rows: list[list[str]]) -> int:
    """How many first lines are comments; one with a name for each column above rows without a header is the header."""
    count = 0
    for line in head:
        if line.strip() and not line.startswith(skipped.markers):
            break
        count += 1
    if not any(line.strip() for line in head[:count]):
        return 0
    last = max(k for k in range(count) if head[k].strip())
    whole = Skipped(0, skipped.markers, skipped.separator, skipped.width, False)
    if not skipped.explicit and not whole.is_comment(head[last]) and not looks_like_header(rows):
        return last
    return count


def _check_header_line(path: Path, head: list[str], header: int) -> None:
    if header > len(head) or not head[header - 1].strip():
        raise OptionError(f"--read header={header}: line {header} of {path} is {'blank' if header <= len(head) else 'beyond its end'}; expected the line "
                          "that names the columns; count lines from 1")  # fmt: skip


def _has_marked_line(path: Path, encoding: str, markers: tuple[str, ...]) -> bool:
    """Whether any line begins with a marker."""
    if encoding.startswith(("utf-16", "utf-32")):
        return True
    last = b""
    for chunk in chunks(path):
        for mark in (marker.encode() for marker in markers):
            if mark[:1] in chunk and (b"\n" + mark in chunk or b"\r" + mark in chunk):
                return True
            if last in (b"\n", b"\r") and chunk.startswith(mark[:1]):
                return True
        last = chunk[-1:]
    return False


def _write_copy(path: Path, copy: Path, encoding: str, skipped: Skipped | None) -> list[str]:
    """Write the text as UTF-8, lines that are skipped blank. Notes on comments."""
    comments, first, shown, quotes = 0, 0, "", 0
    above = skipped.above if skipped else 0
    markers = skipped.markers if skipped else ()
    with open_text(path, encoding) as file, open(copy, "w", encoding="utf-8", newline="") as out:
        try:
            if skipped is None:
                while text := file.read(CHUNK):
                    out.write(text.removeprefix("\ufeff"))
                return []
            for number, line in enumerate(_without_last(file, skipped.below), start=1):
                marked = bool(markers) and line.lstrip("\ufeff").startswith(markers)
                if (
                    number <= above
                    or (number <= HEAD and RULE.fullmatch(line))
                    or (marked and quotes % 2 == 0 and skipped.is_comment(line))
                ):
                    if marked:
                        comments, first, shown = comments + 1, first or number, shown or line.strip("\ufeff \r\n")
                    out.write("\n")
                    continue
                quotes += line.count('"')
                out.write(line if skipped.separator != BLANK else _with_tabs(line))
        except UnicodeError:
            raise _undecodable(path, encoding) from None
    if not comments:
        return []
    return [f"file: {comments:,} comment line{'s' * (comments > 1)} skipped, line {first} first ({shown[:30]!r}) (--read comment=none keeps them)"]  # fmt: skip


def _with_tabs(line: str) -> str:
    """A line whose fields blanks separate, with tabs between them."""
    text = io.StringIO()
    csv.writer(text, delimiter="\t", lineterminator="\n").writerow(split_line(line, BLANK))
    return text.getvalue()


def _without_last(lines: Iterable[str], count: int) -> Iterator[str]:
    """All lines but the last `count`."""
    held: collections.deque[str] = collections.deque()
    for line in lines:
        held.append(line)
        if len(held) > count:
            yield held.popleft()


def _undecodable(path: Path, encoding: str) -> DataError:
    return DataError(f"{path}: it is not all {encoding}; expected text in one encoding; name another: --read encoding=cp1252, say, or "
                     "save it as UTF-8")  # fmt: skip


# ---- zip archives --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def unpacked(path: Path, options: ReadOptions, endings: frozenset[str]) -> Iterator[tuple[Path, list[str]]]:
    """The one table in a zip archive as a file of its own, and a note on it. endings: of tables' names. Raises DataError.

    options.sheet names one of several.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                member, note = _one_member(path, archive, options.sheet, endings)
                inner = Path(folder, Path(member).name)
                with archive.open(member) as source, open(inner, "wb") as out:
                    while piece := source.read(CHUNK):
                        out.write(piece)
        except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError):
            raise DataError(f"{path}: not a whole zip archive or Excel workbook, or one with a password; expected a plain one; unpack it, "
                            "and name the file, or save the sheet as CSV") from None  # fmt: skip
        except OSError as error:
            raise unreadable(path, error) from None
        with named(inner, path / member):
            yield inner, [note]


def _one_member(path: Path, archive: zipfile.ZipFile, sheet: str | None, endings: frozenset[str]) -> tuple[str, str]:
    names = [one.filename for one in archive.infolist() if not one.is_dir() and not _hidden(one.filename)]
    tables = [name for name in names if Path(name.lower().removesuffix(".gz")).suffix in endings] or names
    if sheet is not None:
        if sheet not in names:
            raise OptionError(
                f"--read sheet={sheet}: {path} holds no such file; expected one of {_listed(names)}.{suggestion(sheet, names)}"
            )
        tables = [sheet]
    if len(tables) != 1:
        what = f"{len(tables)} files ({_listed(tables)})" if tables else "no file"
        raise DataError(f"{path}: an archive of {what}; expected one table; name it: --read sheet={tables[0] if tables else 'NAME'}, or unpack the "
                        "archive")  # fmt: skip
    others = f"; {len(names) - 1} other file{'s' * (len(names) > 2)} left (--read sheet=NAME)" * (len(names) > 1)
    return tables[0], f"file: {tables[0]} read from {path.name}{others}"


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "")
