"""Files of labelled examples in a folder or an archive, and what the folders say: split and class of each (floor 4).

    FOLDER/cat/1.jpg, FOLDER/dog/2.jpg ...                      a folder for each class
    FOLDER/train/cat/1.jpg, FOLDER/test/dog/2.jpg ...           and splits, where there are some

Pictures and sounds are listed alike. Nothing is decoded here, and no archive is unpacked to disk: its files are kept in
memory as the bytes they are.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..errors import DataError
from .files import CHUNK, open_bytes, unreadable

ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
SPLIT_FOLDERS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
LARGEST_FILE = 1 << 28  # bytes of one file
LARGEST_ARCHIVE = 1 << 32  # bytes of all its examples together: they stay in memory

FIRST_MEMBERS = 1000  # of an archive, which show what is in it

TreePath = tuple[str, ...]  # the folders from the root, then the name
Member = tuple[str, str, int, Any]  # an archive's: name, "file", "folder" or "link", bytes, and what opens it


@dataclass(frozen=True)
class FileType:
    """The files to look for. noun: what one is called, "picture". endings: of their names, with the dot.

    foreign: endings of files that are such ones too and cannot be read, each with its format and what to do.
    """

    noun: str
    endings: frozenset[str]
    foreign: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass
class Listing:
    """The files of one type in a tree.

    files: path in the tree -> a path on disk, or the bytes themselves. folders: all there are, empty ones included.
    left_out: why other files were left out -> how many. foreign: names of those whose format cannot be read.
    """

    type: FileType
    files: dict[TreePath, Path | bytes] = field(default_factory=dict)
    folders: set[TreePath] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    foreign: list[str] = field(default_factory=list)

    @property
    def others(self) -> str:
        """Why files of other types are left out."""
        return f"whose names do not end as a {self.type.noun}'s do"

    def wants(self, path: TreePath, size: int) -> bool:
        """Whether the file is of the type by its name; count it as left out if not, hidden files apart."""
        if _hidden(path):
            return False
        last = os.path.splitext(path[-1])[1].lower()
        if last in self.type.foreign:
            self.left_out[f"in {self.type.foreign[last].partition(',')[0]}, which is not read"] += 1
            self.foreign.append("/".join(path))
        elif last not in self.type.endings:
            self.left_out[self.others] += 1
        elif size > LARGEST_FILE:
            self.left_out[f"larger than {LARGEST_FILE >> 20} MB"] += 1
        else:
            return True
        return False


@dataclass
class ExampleFile:
    """A file not yet decoded. name: with its folders, for messages. label: its class; "" where it has none."""

    name: str
    label: str
    content: Path | bytes = field(repr=False)

    def read(self) -> bytes:
        """Its bytes; raises OSError where they cannot be read."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass
class FolderSplit:
    """What the folders give as one split. files: in the order of their names. classes: those without files too."""

    files: list[ExampleFile] = field(default_factory=list)
    classes: set[str] = field(default_factory=set)


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVE_ENDINGS) and path.is_file()


def first_members(path: Path) -> list[str]:
    """Names of the files in a folder (all of them) or archive (the first thousand), hidden ones apart; a file's own name.

    Raises DataError for a folder or archive that cannot be read.
    """
    if path.is_dir():
        try:
            os.listdir(path)  # rglob passes over a folder that it may not read
            paths = [p.relative_to(path) for p in sorted(path.rglob("*")) if p.is_file()]
        except OSError as error:
            raise unreadable(path, error) from None
        return [str(p) for p in paths if not p.name.startswith(".")]
    if not is_archive(path):
        return [path.name]
    names: list[str] = []
    with _open_archive(path) as (members, _):
        for name, kind, _, _ in members:
            parts = tuple(name.split("/"))
            names += [name] if kind == "file" and not _hidden(parts) else []
            if len(names) == FIRST_MEMBERS:
                break
    return names


def list_files(path: Path, type: FileType) -> Listing:
    """The files of a type in a folder or archive, in order, hidden ones apart. Raises DataError."""
    listing = Listing(type)
    _refuse_foreign(path, type)
    if path.is_dir():
        _walk(path, listing)
    else:
        with _open_archive(path) as (members, open_member):
            _read_members(path, members, open_member, listing)
    listing.files = dict(sorted(listing.files.items()))
    if len(listing.foreign) > len(listing.files):
        first = min(listing.foreign)
        raise DataError(f"{path}: {len(listing.foreign):,} of {len(listing.foreign) + len(listing.files):,} {type.noun}s, {first} first, are in "
                        f"{type.foreign[os.path.splitext(first)[1].lower()]}")  # fmt: skip
    return listing


def _refuse_foreign(path: Path, type: FileType) -> None:
    if path.suffix.lower() in type.foreign and path.is_file():
        raise DataError(f"{path}: a {type.noun} in {type.foreign[path.suffix.lower()]}")


def expand(path: Path, type: FileType) -> list[ExampleFile]:
    """The files that `path` stands for: itself, or all of the type in a folder or archive."""
    _refuse_foreign(path, type)
    if not path.is_dir() and not is_archive(path):
        return [ExampleFile(str(path), "", path)]
    files = list_files(path, type).files
    return [ExampleFile(str(path.joinpath(*parts)), "", content) for parts, content in files.items()]


def by_split(listing: Listing) -> dict[str, FolderSplit]:
    """What is in "train", "validation" and "test", as far as there are such folders; all in {"": ...} where there are none."""
    root = 0
    while _wrapped(listing, root):
        root += 1
    tops = {path[root] for path in (*listing.files, *listing.folders) if len(path) > root}
    named = {name: SPLIT_FOLDERS[name.lower()] for name in tops if name.lower() in SPLIT_FOLDERS}
    deeper = any(named.get(path[root]) == "train" for path in listing.files if len(path) > root + 2)
    if not deeper and len(named) < len(tops):  # "train" may be a class, beside "bus" and "car"
        named = {}
    splits: dict[str, FolderSplit] = {}
    first = root + bool(named)  # where the class stands
    for path, content in listing.files.items():
        split = named.get(path[root], "") if named else ""
        if named and not split:
            listing.left_out["outside train and test"] += 1
        elif len(path) < first + 2:
            listing.left_out["in no class folder"] += 1
        else:
            splits.setdefault(split, FolderSplit()).files.append(ExampleFile("/".join(path), path[first], content))
    for path in listing.folders:
        split = named.get(path[root], "") if named and len(path) > root else ""
        if len(path) == first + 1 and split in splits:
            splits[split].classes.add(path[first])
    for one in splits.values():
        one.classes |= {file.label for file in one.files}
    return splits


def _wrapped(listing: Listing, root: int) -> bool:
    """Whether all that lies at depth `root` lies in one folder, with class folders below it."""
    tops = {path[root] for path in (*listing.files, *listing.folders) if len(path) > root}
    return len(tops) == 1 and any(len(path) > root + 2 for path in listing.files)


def _hidden(path: TreePath) -> bool:
    return any(name.startswith(".") or name == "__MACOSX" for name in path)


# ---- folders -------------------------------------------------------------------------------------------------------------


def _walk(root: Path, listing: Listing) -> None:
    visited: set[str] = set()  # a link may lead back to where it lies

    def fail(error: OSError) -> None:
        raise unreadable(Path(error.filename), error)

    for folder, folders, names in os.walk(root, onerror=fail, followlinks=True):
        here = Path(folder).relative_to(root).parts
        real = os.path.realpath(folder)
        if real in visited or _hidden(here):
            folders.clear()
            continue
        visited.add(real)
        listing.folders.update({here} if here else ())
        for name in names:
            path = Path(folder, name)
            size = path.stat().st_size if path.exists() else 0  # a link to nowhere is reported later, as broken
            if listing.wants((*here, name), size):
                listing.files[*here, name] = path


# ---- archives ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _open_archive(path: Path) -> Iterator[tuple[Iterator[Member], Callable[[Any], Any]]]:
    """An archive's members and the function that opens one. What the libraries raise inside comes out as a DataError."""
    try:
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                yield _zip_members(archive), archive.open
        else:
            # A stream, read once from first byte to last: gzip's checksum stands at the end of it.
            with open_bytes(path) as file, tarfile.open(fileobj=file, mode="r|") as tar:
                yield _tar_members(tar, file), tar.extractfile
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile):
        raise _damaged(path) from None
    except (RuntimeError, NotImplementedError) as error:  # a password, or an unusual method
        raise DataError(f"{path}: the archive cannot be read ({error}); expected a plain zip file; unpack it, and name the "
                        "folder") from None  # fmt: skip
    except DataError:
        raise
    except OSError as error:
        raise unreadable(path, error) from None


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for one in archive.infolist():
        kind = "folder" if one.is_dir() else "link" if stat.S_ISLNK(one.external_attr >> 16) else "file"
        yield one.filename.replace("\\", "/"), kind, one.file_size, one


def _tar_members(archive: tarfile.TarFile, file: IO[bytes]) -> Iterator[Member]:
    for one in archive:
        yield one.name, "folder" if one.isdir() else "file" if one.isreg() else "link", one.size, one
    while file.read(CHUNK):  # to the checksum
        pass


def _read_members(path: Path, members: Iterator[Member], open_member: Callable[[Any], Any], listing: Listing) -> None:
    """Read the files of the type among an archive's members, one after another."""
    total = 0
    for name, kind, size, member in members:
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/") or ".." in parts:
            listing.left_out["named as if outside the archive"] += 1
        elif kind == "folder":
            listing.folders.update({parts} if parts and not _hidden(parts) else ())
        elif kind == "link":
            listing.left_out["that are links"] += 1
        elif parts and listing.wants(parts, size):
            total += size
            if total > LARGEST_ARCHIVE:
                raise DataError(f"{path}: more than {LARGEST_ARCHIVE >> 30} GB of {listing.type.noun}s, too much to keep in memory; expected "
                                "a smaller archive; unpack it, and name the folder")  # fmt: skip
            with open_member(member) as file:
                listing.files[parts] = file.read()


def _damaged(path: Path) -> DataError:
    return DataError(f"{path}: the archive is cut off or damaged; expected a whole {', '.join(ARCHIVE_ENDINGS[:-1])} or "
                     f"{ARCHIVE_ENDINGS[-1]} file; fetch or copy it again")  # fmt: skip
