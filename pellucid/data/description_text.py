"""A description of data as a page of text: a line a column, then what is decided, aligned and within a width (floor 4)."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .description import ColumnDescription, Description

MOST_LINES = 40  # of columns; more are told by role
OF_A_ROLE = 4  # columns of a role that have a line of their own where there are many columns
MOST_CLASSES = 12  # that are told one by one
LONGEST_NAME = 28  # characters of a column's name
NARROWEST = 40  # characters of a page
HEADINGS = ("column", "role", "gaps", "distinct", "examples, and how they are read")


def page(described: Description, width: int) -> str:
    """What was found, its columns, and then what is decided; no line wider than `width`, the command to paste apart."""
    width = max(width, NARROWEST)
    columns = described.columns
    size = "" if described.rows is None else f", {described.rows:,} rows, {len(columns):,} columns"
    lines = [*wrapped(f"{described.data}: {described.title}{size}", width), ""]
    if columns:
        lines += [*_column_lines(columns, described.rows or 0, width), ""]
    pairs = list(_pairs(described))
    label_width = min(12, max(text_width(label) for label, _ in pairs)) + 2
    before = None
    for label, text in pairs:
        shown = "" if label == before else label
        before = label
        for line in [text] if label == "next" else wrapped(text, width - label_width):  # a command is pasted whole
            lines.append(_padded(shown, label_width) + line)
            shown = ""
    return "\n".join(line.rstrip() for line in lines)


# ---- columns -----------------------------------------------------------------------------------------------------------


def _column_lines(columns: Sequence[ColumnDescription], rows: int, width: int) -> list[str]:
    table = [_cells(column, rows) for column in columns]
    groups: list[tuple[str, str]] = []
    if len(columns) > MOST_LINES:
        roles: dict[str, list[int]] = {}
        for i, column in enumerate(columns):
            roles.setdefault(column.role, []).append(i)
        alone = [i for own in roles.values() if len(own) <= OF_A_ROLE for i in own]
        table = [table[i] for i in sorted(alone)]
        groups = [
            (role, _group([columns[i] for i in own], rows)) for role, own in roles.items() if len(own) > OF_A_ROLE
        ]
    lines = []
    if table:
        every = [HEADINGS, *table]
        sizes = [max(text_width(row[k]) for row in every) for k in range(4)]
        sizes[0] = min(sizes[0], LONGEST_NAME, max(10, width // 4))
        for row in every:
            name, role, gaps, distinct = (cut(row[k], sizes[k]) for k in range(4))
            start = (
                f"{_padded(name, sizes[0])}  {_padded(role, sizes[1])}  {gaps:>{sizes[2]}}  {distinct:>{sizes[3]}}  "
            )
            lines.append(start + cut(row[4], width - text_width(start)))
        lines += [""] * bool(groups)
    label_width = max((len(role) for role, _ in groups), default=0) + 2
    for role, text in groups:
        for k, line in enumerate(wrapped(text, width - label_width)):
            lines.append(_padded("" if k else role, label_width) + line)
    return lines


def _cells(column: ColumnDescription, rows: int) -> tuple[str, str, str, str, str]:
    gaps = f"{column.gaps:,} {share(column.gaps, rows)}" if column.gaps else ""
    examples = ", ".join(column.examples)
    shown = f"{column.reading}; {examples}" if column.reading and examples else column.reading or examples
    return printable(column.name), column.role, gaps, f"{column.distinct:,}", printable(shown)


def _group(columns: Sequence[ColumnDescription], rows: int) -> str:
    """Many columns of a role: how many, the first names, gaps and different values."""
    names = ", ".join(printable(column.name) for column in columns[:OF_A_ROLE])
    with_gaps = [column.gaps for column in columns if column.gaps]
    gaps = f"; gaps in {len(with_gaps):,}, up to {share(max(with_gaps), rows)}" if with_gaps else "; no gaps"
    low, high = min(c.distinct for c in columns), max(c.distinct for c in columns)
    distinct = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{len(columns):,} columns: {names}, ...{gaps}; {distinct} distinct values each"


# ---- what is decided ---------------------------------------------------------------------------------------------------


def _pairs(described: Description) -> Iterator[tuple[str, str]]:
    """(label, text), in the order of the page."""
    if described.refusal:
        yield "refused", f"train stops here: {described.refusal}"
    for name, why in described.candidates.items():
        yield "targets", f"{printable(name)}: {why}"
    yield from described.facts.items()
    if described.classes:
        yield "classes", class_line(described.classes, sum(described.splits.values()))
    if described.splits:
        yield described.units, ", ".join(f"{count:,} {split}" for split, count in described.splits.items())
    for note in described.notes:
        yield _labelled(note)
    yield "next", described.next


def class_line(classes: Mapping[str, int], count: int) -> str:
    """`yes 64 (53%), no 56 (47%)`, the largest first; of many the first ones, and the smallest."""
    order = sorted(classes, key=lambda name: -classes[name])
    told = [f"{printable(name)} {classes[name]:,} ({share(classes[name], count)})" for name in order]
    if len(order) <= MOST_CLASSES:
        return ", ".join(told)
    return f"{', '.join(told[: MOST_CLASSES - 2])}, ... ({len(order):,} in all); the smallest: {told[-1]}"


def _labelled(note: str) -> tuple[str, str]:
    """A note as (its kind, the rest); a note that begins otherwise as it is."""
    start, colon, rest = note.partition(":")
    if colon and start.isalpha() and start.islower() and len(start) <= 12:
        return start, rest.strip()
    word, _, rest = note.partition(" ")
    if word in ("target", "column", "split", "scaled"):
        return {"column": "columns"}.get(word, word), rest
    return "note", note


# ---- text --------------------------------------------------------------------------------------------------------------


def share(part: int, whole: int) -> str:
    """`12%`; `0.5%` and `99.5%` near the ends, which are told of none and of all alone."""
    percent = 100 * part / max(whole, 1)
    if 0 < percent < 1 or 99 < percent < 100:
        return f"{min(max(percent, 0.1), 99.9):.1f}%"
    return f"{percent:.0f}%"


def printable(text: str) -> str:
    """Text on one line, without characters that a terminal obeys."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def text_width(text: str) -> int:
    """How many places a text takes on a terminal: Chinese and the like take two, marks none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, width: int) -> str:
    """`text`, or its beginning and `…` where it is wider."""
    if text_width(text) <= width:
        return text
    kept = text[: max(width - 1, 0)]
    while kept and text_width(kept) > width - 1:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - text_width(text))


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width`, broken at blanks, and inside a word only where it is wider than a line."""
    lines, line = [], ""
    for word in printable(text).split(" "):
        if line and text_width(line) + 1 + text_width(word) > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}" if line else word
        while text_width(line) > width:
            head = cut(line, width + 1)[:-1] or line[0]
            lines.append(head)
            line = line[len(head) :]
    return [*lines, line]


def shell_word(text: str) -> str:
    """`text` as one word for a shell: quoted where needed."""
    if re.fullmatch(r"[\w./:\\@%+=,-]+", text):
        return text
    return shlex.quote(text) if any(c in text for c in '$`!"') else f'"{text}"'
