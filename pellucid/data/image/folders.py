"""The picture files of a folder or an archive, and what their folders say: part and class of each (floor 4).

    FOLDER/cat/1.jpg, FOLDER/dog/2.jpg ...                      a folder for each class
    FOLDER/train/cat/1.jpg, FOLDER/test/dog/2.jpg ...           and parts, where there are some

Nothing is decoded here, and no archive is unpacked to disk: its pictures are kept in memory as the bytes they are.
"""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..files import CHUNK, open_bytes, unreadable
from .decode import IMAGE_ENDINGS

ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
PART_NAMES = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
LARGEST_FILE = 1 << 28  # bytes of one picture
LARGEST_ARCHIVE = 1 << 32  # bytes of all its pictures together: they stay in memory

Place = tuple[str, ...]  # the folders from the root, then the name
Member = tuple[str, str, int, Any]  # an archive's: name, "file", "folder" or "link", bytes, and what opens it


@dataclass
class Listing:
    """files: where in the tree -> a path, or the bytes themselves. folders: all there are, empty ones included.

    aside: why other files were left aside -> how many.
    """

    files: dict[Place, Path | bytes] = field(default_factory=dict)
    folders: set[Place] = field(default_factory=set)
    aside: Counter[str] = field(default_factory=Counter)

    def wants(self, place: Place, size: int) -> bool:
        """Whether it is a picture by its name; what is not is counted, hidden files apart."""
        if _hidden(place):
            return False
        if os.path.splitext(place[-1])[1].lower() not in IMAGE_ENDINGS:
            self.aside["whose names do not end as a picture's do"] += 1
        elif size > LARGEST_FILE:
            self.aside[f"larger than {LARGEST_FILE >> 20} MB"] += 1
        else:
            return True
        return False


@dataclass
class ExampleFile:
    """A file not yet decoded. name: with its folders, for messages."""

    name: str
    label: str
    content: Path | bytes = field(repr=False)

    def read(self) -> bytes:
        """Its bytes; raises OSError where they cannot be read."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass
class Part:
    """pictures: in the order of their names. classes: its class folders, those without pictures too."""

    pictures: list[ExampleFile] = field(default_factory=list)
    classes: set[str] = field(default_factory=set)


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVE_ENDINGS) and path.is_file()


def list_pictures(path: Path) -> Listing:
    """The pictures in a folder or archive, in order, hidden ones apart. Raises DataError."""
    found = Listing()
    if path.is_dir():
        _walk(path, found)
    elif path.name.lower().endswith(".zip"):
        _read_zip(path, found)
    else:
        _read_tar(path, found)
    found.files = dict(sorted(found.files.items()))
    return found


def by_part(found: Listing) -> dict[str, Part]:
    """What is in "train", "validation" and "test", as far as there are such folders; all in {"": ...} where there are none."""
    root = 0
    while _wrapped(found, root):
        root += 1
    tops = {place[root] for place in (*found.files, *found.folders) if len(place) > root}
    named = {name: PART_NAMES[name.lower()] for name in tops if name.lower() in PART_NAMES}
    deeper = any(named.get(place[root]) == "train" for place in found.files if len(place) > root + 2)
    if not deeper and len(named) < len(tops):  # "train" may be a class, beside "bus" and "car"
        named = {}
    parts: dict[str, Part] = {}
    first = root + bool(named)  # where the class stands
    for place, content in found.files.items():
        part = named.get(place[root], "") if named else ""
        if named and not part:
            found.aside["outside train and test"] += 1
        elif len(place) < first + 2:
            found.aside["in no class folder"] += 1
        else:
            parts.setdefault(part, Part()).pictures.append(ExampleFile("/".join(place), place[first], content))
    for place in found.folders:
        part = named.get(place[root], "") if named and len(place) > root else ""
        if len(place) == first + 1 and part in parts:
            parts[part].classes.add(place[first])
    for one in parts.values():
        one.classes |= {picture.label for picture in one.pictures}
    return parts


def _wrapped(found: Listing, root: int) -> bool:
    """Whether all that lies at depth `root` lies in one folder, with class folders below it."""
    tops = {place[root] for place in (*found.files, *found.folders) if len(place) > root}
    return len(tops) == 1 and any(len(place) > root + 2 for place in found.files)


def _hidden(place: Place) -> bool:
    return any(name.startswith(".") or name == "__MACOSX" for name in place)


# ---- folders -------------------------------------------------------------------------------------------------------------


def _walk(root: Path, found: Listing) -> None:
    been: set[str] = set()  # a link may lead back to where it lies

    def fail(error: OSError) -> None:
        raise unreadable(Path(error.filename), error)

    for folder, folders, names in os.walk(root, onerror=fail, followlinks=True):
        here = Path(folder).relative_to(root).parts
        real = os.path.realpath(folder)
        if real in been or _hidden(here):
            folders.clear()
            continue
        been.add(real)
        found.folders.update({here} if here else ())
        for name in names:
            path = Path(folder, name)
            size = path.stat().st_size if path.exists() else 0  # a link to nowhere is told later, as broken
            if found.wants((*here, name), size):
                found.files[*here, name] = path


# ---- archives ------------------------------------------------------------------------------------------------------------


def _read_zip(path: Path, found: Listing) -> None:
    def members(archive: zipfile.ZipFile) -> Iterator[Member]:
        for one in archive.infolist():
            kind = "folder" if one.is_dir() else "link" if stat.S_ISLNK(one.external_attr >> 16) else "file"
            yield one.filename.replace("\\", "/"), kind, one.file_size, one

    try:
        with zipfile.ZipFile(path) as archive:
            _keep(path, members(archive), archive.open, found)
    except (zipfile.BadZipFile, EOFError, zlib.error):
        raise _damaged(path) from None
    except (RuntimeError, NotImplementedError) as error:  # a password, or an unusual method
        raise DataError(f"{path}: the archive cannot be read ({error}); expected a plain zip file; unpack it, and name the "
                        "folder") from None  # fmt: skip
    except OSError as error:
        raise unreadable(path, error) from None


def _read_tar(path: Path, found: Listing) -> None:
    def members(archive: tarfile.TarFile) -> Iterator[Member]:
        for one in archive:
            yield one.name, "folder" if one.isdir() else "file" if one.isreg() else "link", one.size, one

    try:
        # A stream, read once from first byte to last: gzip's checksum stands at the end of it.
        with open_bytes(path) as file, tarfile.open(fileobj=file, mode="r|") as archive:
            _keep(path, members(archive), archive.extractfile, found)
            while file.read(CHUNK):
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile):
        raise _damaged(path) from None
    except OSError as error:
        raise unreadable(path, error) from None


def _keep(path: Path, members: Iterator[Member], opened: Callable[[Any], Any], found: Listing) -> None:
    """Read the pictures among an archive's members, one after another."""
    kept = 0
    for name, kind, size, member in members:
        place = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/") or ".." in place:
            found.aside["named as if outside the archive"] += 1
        elif kind == "folder":
            found.folders.update({place} if place and not _hidden(place) else ())
        elif kind == "link":
            found.aside["that are links"] += 1
        elif place and found.wants(place, size):
            kept += size
            if kept > LARGEST_ARCHIVE:
                raise DataError(f"{path}: more than {LARGEST_ARCHIVE >> 30} GB of pictures, too much to keep in memory; expected a "
                                "smaller archive; unpack it, and name the folder")  # fmt: skip
            with opened(member) as file:
                found.files[place] = file.read()


def _damaged(path: Path) -> DataError:
    return DataError(f"{path}: the archive is cut off or damaged; expected a whole {', '.join(ARCHIVE_ENDINGS[:-1])} or "
                     f"{ARCHIVE_ENDINGS[-1]} file; fetch or copy it again")  # fmt: skip
