"""Workbooks (.xlsx, .xlsb, .xls, .ods) as records of text, by python-calamine (floor 4).

Cells come as CSV would have them: whole numbers without a point, dates as 2021-03-15, errors such as #DIV/0! as missing.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import python_calamine

from ...errors import DataError, OptionError, suggestion
from ..files import OLE, ZIP, starts_with
from .as_text import as_text

ERRORS = frozenset({"#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!", "#N/A"})
PARTS = ("xl/workbook.xml", "xl/workbook.bin")  # of Excel's files
DOCUMENTS = {
    "word/document.xml": "a Word document",
    "Index/Document.iwa": "a document of Apple's Numbers, Pages or Keynote",
    "ppt/presentation.xml": "a PowerPoint file",
}
SPREADSHEET = b"application/vnd.oasis.opendocument.spreadsheet"


def is_workbook(path: Path) -> bool:
    """Whether a file is a workbook by what it holds. Raises DataError for other office files."""
    if starts_with(path, OLE):
        return True
    if not starts_with(path, ZIP):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            kind = archive.read("mimetype").strip() if "mimetype" in names else b""
    except (zipfile.BadZipFile, OSError, RuntimeError, KeyError):
        return path.suffix.lower() in (".xlsx", ".xlsm", ".xlsb", ".ods")
    document = next((words for part, words in DOCUMENTS.items() if part in names), None)
    if document is None and kind.startswith(b"application/vnd.oasis.opendocument") and kind != SPREADSHEET:
        document = "an OpenDocument file that is no spreadsheet"
    if document:
        raise DataError(f"{path}: {document}; expected a table, such as CSV or a workbook; save its table as CSV")
    return kind == SPREADSHEET or any(part in names for part in PARTS)


def read_workbook(path: Path, sheet: str | None) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """(row in the sheet, fields) of each record that is not blank, all of one width, and notes.

    sheet: its name, or its number from 1; None is the first with two rows and two columns or more, a hidden one after all others.
    Raises DataError or OptionError.
    """
    try:
        book = python_calamine.CalamineWorkbook.from_path(str(path))
        names = list(book.sheet_names)
        wanted = _shown_first(book) if sheet is None else [_named(path, names, sheet)]
        chosen, found = _first_table(book, wanted)
    except OptionError:
        raise
    except (python_calamine.CalamineError, OSError, ValueError):
        raise DataError(f"{path}: not a whole workbook, or one with a password; expected .xlsx, .xls or .ods; open it and save it again, or "
                        "save the sheet as CSV") from None  # fmt: skip
    if not found:
        raise DataError(f"{path}: no sheet with rows in it ({_shown(wanted)}); expected a table; check how it was made")
    others = [name for name in names if name != chosen]
    notes = [f"file: sheet {chosen!r} read; others: {_shown(others)} (--read sheet=NAME)"] if others else []
    return found, notes


def _shown_first(book: python_calamine.CalamineWorkbook) -> list[str]:
    """The names of its sheets, those that are hidden last."""
    visible = python_calamine.SheetVisibleEnum.Visible
    return [one.name for one in sorted(book.sheets_metadata, key=lambda one: one.visible != visible)]


def _first_table(book: python_calamine.CalamineWorkbook, names: list[str]) -> tuple[str, list[tuple[int, list[str]]]]:
    """The first sheet with two rows and two columns or more, else the first with two rows."""
    narrow: tuple[str, list[tuple[int, list[str]]]] = ("", [])
    for name in names:
        rows = _records(book, name)
        if len(rows) > 1 and len(rows[0][1]) > 1:
            return name, rows
        if len(rows) > 1 and not narrow[1]:
            narrow = name, rows
    return narrow


def _named(path: Path, names: list[str], sheet: str) -> str:
    if sheet in names:
        return sheet
    if sheet.isdecimal() and 1 <= int(sheet) <= len(names):
        return names[int(sheet) - 1]
    raise OptionError(f"--read sheet={sheet}: {path} has no such sheet; expected one of {_shown(names)}, or its number from 1."
                      f"{suggestion(sheet, names) or ' Check the spelling.'}")  # fmt: skip


def _records(book: python_calamine.CalamineWorkbook, name: str) -> list[tuple[int, list[str]]]:
    try:
        rows = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
    except python_calamine.CalamineError:  # a chart
        return []
    columns = [as_text([_cell(value) for value in column], ("FALSE", "TRUE")) for column in zip(*rows, strict=True)]
    records = [
        (number, list(fields)) for number, fields in enumerate(zip(*columns, strict=True), start=1) if any(fields)
    ]
    used = [any(fields[k] for _, fields in records) for k in range(len(records[0][1]))] if records else []
    first = used.index(True) if True in used else 0  # columns before the table, and after it
    last = len(used) - used[::-1].index(True) if True in used else 0
    return [(number, fields[first:last]) for number, fields in records]


def _cell(value: object) -> object:
    """A cell with whole numbers as such, and without errors and blanks around text."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    if isinstance(value, str):
        return "" if value.strip() in ERRORS else value.strip()
    return value


def _shown(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f", ... ({len(names)} in all)" if len(names) > 4 else "")
