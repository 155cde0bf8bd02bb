"""Labels of files that lie in no class folders: from a table beside them, or from their names (floor 4).

    FOLDER/labels.csv, FOLDER/images/7.jpg ...      a table with a column of files and one of labels
    FOLDER/cat.1.jpg, FOLDER/dog (2).jpg ...        names: what stands before the number

Class folders come first, then the table, then names; `--labels` says which. Files without a label, and rows whose file is not
there, are counted and told.
"""

from __future__ import annotations

import csv
import io
import os
import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, OptionError
from .folders import SPLIT_FOLDERS, ExampleFile, FileType, FolderSplit, Listing, TreePath, list_files
from .table.read import Table, read_table

TABLES = FileType("table", frozenset({".csv", ".tsv"}))
WAYS = ("folders", "names")  # of `--labels`, beside the name of a table
LABEL_NAMES = ("label", "labels", "class", "target", "category", "y")
MATCHED = 0.5  # of a column's values that name files, for it to be the column of files
NUMBERED = re.compile(r"(?P<label>.*?[^\W\d_].*?)(?:[\s._-]*\(?\d+\)?)+")
# Names that cameras and programs give: two of them are no two classes.
GIVEN = {"img", "dsc", "dscn", "dscf", "pxl", "mvi", "vid", "gopr", "image", "images", "img-wa", "photo", "picture", "pic",
         "screenshot", "scan", "frame", "file", "untitled", "whatsapp image", "rec", "recording", "audio", "sound"}  # fmt: skip
PEEKED = 1 << 16  # bytes of a table that show whether it names files
SEARCHED = 20  # folders beside a table that are searched for them


@dataclass
class FileLabels:
    """label: that of a file by its path in the tree, as far as it has one. notes: where they come from. without: why a file
    has none, for the count of those left aside. tables: how many tables in the listing they come from."""

    label: dict[TreePath, str]
    notes: list[str]
    without: str
    tables: int = 0


def labelled_by(
    path: Path, listing: Listing, folders: dict[str, FolderSplit], way: str | None, target: str | None,
    known: tuple[str, ...] = (),
) -> tuple[dict[str, FolderSplit], list[str]]:  # fmt: skip
    """The files by split with their labels, and notes. folders: what class folders give, which holds where there are two.

    way: None, "folders", "names", or the name of a table, in `path` or anywhere. known: classes of training, of which one
    file is enough. Raises OptionError and DataError for labels that are not there.
    """
    training = folders.get("train") or folders.get("") or FolderSplit()
    if way == "folders" or not listing.files or (way is None and (target is None) and len(training.classes) > 1):
        return folders, []
    found = None
    if way is None or way not in WAYS:
        found = _from_table(path, listing, way, target)
    if found is None and target is not None:
        raise OptionError(f"--target {target}: {path} holds {listing.type.noun}s and no table that names them; expected --target for a table; "
                          "leave it out")  # fmt: skip
    if found is None and way in (None, "names"):
        found = _from_names(listing, way is not None, known)
    if found is None:
        if way == "names":
            raise DataError(f"{path}: no labels in the names of its {len(listing.files):,} {listing.type.noun}s; expected two at least that come "
                            "again, as cat.1.jpg, cat.2.jpg, dog.1.jpg, dog.2.jpg; rename them, or leave --labels out")  # fmt: skip
        return folders, []
    listing.left_out["in no class folder"] = 0
    listing.left_out[listing.others] -= found.tables
    if missing := len(listing.files) - len(found.label):
        listing.left_out[found.without] += missing
    return _by_split_folder(listing, found.label), found.notes


def _by_split_folder(listing: Listing, label: dict[TreePath, str]) -> dict[str, FolderSplit]:
    """The labelled files, by `train/` and `test/` where both have some."""
    use = {
        path: next((SPLIT_FOLDERS[name.lower()] for name in path[:-1] if name.lower() in SPLIT_FOLDERS), "")
        for path in label
    }
    if not {"train"} < set(use.values()) or "" in use.values():
        use = dict.fromkeys(label, "")
    splits: dict[str, FolderSplit] = {}
    for path, name in label.items():
        split = splits.setdefault(use[path], FolderSplit())
        split.files.append(ExampleFile("/".join(path), name, listing.files[path]))
        split.classes.add(name)
    return splits


# ---- names ---------------------------------------------------------------------------------------------------------------


def name_label(name: str) -> str | None:
    """`cat` of `cat.1.jpg`, `cat_01.png` and `cat (3).jpg`; None where no number stands at the end."""
    found = NUMBERED.fullmatch(os.path.splitext(name)[0])
    return found["label"].rstrip(" ._-") if found else None


def _from_names(listing: Listing, asked: bool, known: tuple[str, ...]) -> FileLabels | None:
    """Labels from names, where two at least come again and half of the files have one."""
    labels = {path: name_label(path[-1]) for path in listing.files}
    counts = Counter(label for label in labels.values() if label)
    again = {label for label, count in counts.items() if count > 1 or label in known}
    if not asked:
        again = {label for label in again if label.lower() not in GIVEN}
    chosen = {path: label for path, label in labels.items() if label in again}
    if (len(again) < 2 and not again & set(known)) or len(chosen) * 2 < len(labels):
        return None
    path = next(iter(chosen))
    example = f"{path[-1]} is {chosen[path]}"
    note = f"labels: from the names of the files ({example:.60}), {len(again):,} classes; --labels folders or TABLE"
    return FileLabels(
        {p: str(label) for p, label in chosen.items()}, [note], "whose names have no label that comes again"
    )


# ---- a table -------------------------------------------------------------------------------------------------------------


def names_files(path: Path, type: FileType) -> bool:
    """Whether a table of two columns names files of the type that lie beside it, or in a folder beside it."""
    if path.suffix.lower() not in TABLES.endings or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            lines = file.read(PEEKED).decode("utf-8", "replace").splitlines()[1:21]
        separator = max(",;\t", key=lambda c: sum(c in line for line in lines))
        rows = [row for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator) if row]
        by_key = _keys(_beside(path.parent, type)) if rows and all(len(row) == 2 for row in rows) else {}
    except (OSError, csv.Error):  # whoever reads it then says what is wrong
        return False
    if not by_key or all(cell.strip().isdigit() for row in rows for cell in row):  # two columns of numbers are a table
        return False
    return any(
        sum(_key(cell) in by_key for cell in column) >= MATCHED * len(rows) for column in zip(*rows, strict=True)
    )


def _beside(folder: Path, type: FileType) -> Listing:
    """The files of a type in a folder, and in the first folders in it."""
    listing = Listing(type)
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    inner = [path for entry in [entry for entry in entries if entry.is_dir()][:SEARCHED] for path in entry.iterdir()]
    for path in (*entries, *inner):
        if path.suffix.lower() in type.endings:
            listing.files[path.relative_to(folder).parts] = path
    return listing


def _from_table(path: Path, listing: Listing, way: str | None, target: str | None) -> FileLabels | None:
    """Labels from the table `way`, or from the one in `path` that names files."""
    tables = _tables(path, way)
    if not tables:
        if way is not None:
            raise OptionError(f"--labels {way}: no such table in {path}; expected folders, names, or a CSV with a column of files and one of "
                              "labels; check the name")  # fmt: skip
        return None
    by_key = _keys(listing)
    inside = way is None or not Path(way).is_file() or path.resolve() in Path(way).resolve().parents
    for name, table in tables.items():
        columns = [[str(value or "") for value in column.tolist()] for column in table.columns]
        shares = [sum(_key(value) in by_key for value in column) / len(table) for column in columns]
        at = max(range(len(shares)), key=shares.__getitem__)
        if shares[at] >= MATCHED:
            found = _labels_of(name, table, at, _label_column(table, at, target), by_key)
            found.tables = int(inside)
            return found
    if way is not None:
        name, table = next(iter(tables.items()))
        raise DataError(f"{name}: none of its columns ({table.listed()}) names the {listing.type.noun}s in {path}, such as "
                        f"{'/'.join(next(iter(listing.files)))}; expected a column of files; correct the names")  # fmt: skip
    return None


def _tables(path: Path, way: str | None) -> dict[str, Table]:
    """The table `way`, or all in the folder or archive `path`, by name; what cannot be read is passed over unless asked for."""
    if way is not None and Path(way).is_file():
        return {Path(way).name: read_table(Path(way))}
    tables = {}
    for parts, content in list_files(path, TABLES).files.items():
        name = "/".join(parts)
        if way is not None and way not in (name, parts[-1]):
            continue
        try:
            tables[name] = _read(parts[-1], content)
        except DataError:
            if way is not None:
                raise
    return tables


def _read(name: str, content: Path | bytes) -> Table:
    if isinstance(content, Path):
        return read_table(content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        return read_table(path)


def _key(text: str) -> str:
    """A file's name as it is compared: `images\\Cat1.jpg` and `./images/cat1.jpg` are one."""
    return text.strip().replace("\\", "/").removeprefix("./").lower()


def _keys(listing: Listing) -> dict[str, TreePath]:
    """What a table may call each file: its path or name, with and without ending; what two files are called, none is."""
    named: dict[str, set[TreePath]] = {}
    for path in listing.files:
        for start in range(len(path)):
            name = _key("/".join(path[start:]))
            for key in (name, os.path.splitext(name)[0]):
                named.setdefault(key, set()).add(path)
    return {key: next(iter(paths)) for key, paths in named.items() if len(paths) == 1}


def _label_column(table: Table, files: int, target: str | None) -> int:
    if target is not None:
        return table.position(target)
    others = [i for i in range(len(table.names)) if i != files]
    called = [i for i in others if table.names[i].lower() in LABEL_NAMES]
    chosen = called if len(called) == 1 else others
    if len(chosen) != 1:
        raise OptionError(f"--target: missing; {table.path.name} has the columns {table.listed()}; expected one of labels beside "
                          f"{table.names[files]}; write --target {table.names[others[-1]] if others else 'label'!r}, say")  # fmt: skip
    return chosen[0]


def _labels_of(name: str, table: Table, files: int, labels: int, by_key: dict[str, TreePath]) -> FileLabels:
    found: dict[TreePath, set[str]] = {}
    absent = []
    for file, label in zip(table.columns[files].tolist(), table.columns[labels].tolist(), strict=True):
        path = by_key.get(_key(str(file or "")))
        if path is None:
            absent.append(str(file or ""))
        elif label is not None:
            found.setdefault(path, set()).add(str(label).strip())
    label = {path: next(iter(own)) for path, own in found.items() if len(own) == 1}
    different = len(set(label.values()))
    if different > max(2, len(label) // 2):
        raise DataError(f"{name}: {table.names[labels]} has {different:,} different values for {len(label):,} files; expected classes that come "
                        "again; choose another column with --target")  # fmt: skip
    notes = [f"labels: column {table.names[labels]} of {name}, for {len(label):,} files; --labels names or folders"]
    if absent:
        notes.append(
            f"labels: {len(absent):,} of {len(table):,} rows of {name} name no file that is there ({absent[0]:.40} first)"
        )
    if twice := sum(len(own) > 1 for own in found.values()):
        notes.append(f"labels: {twice:,} files have two labels in {name} and are left out; correct the table")
    return FileLabels(label, notes, f"without a label in {name}")
