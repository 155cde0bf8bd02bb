"""What every view gives: a dataclass of numbers that prints as tables and is plain JSON (floor 6).

Each claim that a view makes about itself is a `Check`: what was measured, what it must be, and a control that must fail it.
"""

from __future__ import annotations

import dataclasses
import html
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..files import Json, plain
from ..tensor import Tensor

WIDTH = 100  # columns of a terminal
Tag = Literal["proven", "measured", "suggestive", "open"]


@dataclass(frozen=True)
class Check:
    """A claim of a view about itself, as a line: `completeness  0.3% of the difference, at most 1%  (measured)`.

    tag: "proven" to a stated rounding; "measured", a figure; "suggestive", a picture or a story; "open", not known.
    holds: whether it is as it must be.      control: what the same measure says of something that must fail it.
    """

    name: str
    tag: Tag
    said: str
    holds: bool = True
    control: str = ""

    def __str__(self) -> str:
        missed = "" if self.holds else " MISSED"
        beside = f"; {self.control}" if self.control else ""
        return f"{self.name}: {self.said}{beside} ({self.tag}){missed}"


@dataclass(frozen=True)
class Table:
    """Rows under their heads. Numbers are shown with four digits; None as nothing."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[Sequence[Any]]

    def __str__(self) -> str:
        cells = [list(self.head), *([shown(value) for value in row] for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.head))]
        numeric = [all(_is_number(row[i]) for row in self.rows) for i in range(len(self.head))]
        fit = lambda i, text: text.rjust(widths[i]) if numeric[i] else text.ljust(widths[i])
        lines = ["  ".join(fit(i, text) for i, text in enumerate(row)).rstrip() for row in cells]
        return "\n".join([*([self.title] if self.title else []), *lines])


class Result:
    """Base of what views give; a subclass is a dataclass and says `headline`, `tables` and `checks`."""

    checks: Sequence[Check] = ()

    def headline(self) -> str:
        """One sentence: what a hurried reader takes away."""
        raise NotImplementedError

    def tables(self) -> Sequence[Table]:
        """The numbers, the most important table first."""
        raise NotImplementedError

    def remarks(self) -> Sequence[str]:
        """Lines below the tables: what the view cannot say. By default none."""
        return ()

    def __str__(self) -> str:
        parts = [wrapped(self.headline()), *map(str, self.tables())]
        lines = [wrapped(f"check  {check}", "       ") for check in self.checks]
        lines += [wrapped(line) for line in self.remarks()]
        return "\n\n".join([*parts, *(["\n".join(lines)] if lines else [])])

    def without_data(self) -> Result:
        """The same without a cell, picture, text or label of the data: what may lie beside a page that is passed on."""
        return self

    def to_dict(self) -> dict[str, Json]:
        """All fields as plain JSON: arrays as lists, numbers that are not finite as None."""
        assert dataclasses.is_dataclass(self)
        return {f.name: as_json(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def _repr_html_(self) -> str:
        """For notebooks: the same tables, escaped."""
        text = lambda value: html.escape(shown(value))
        parts = [f"<p>{html.escape(self.headline())}</p>"]
        for table in self.tables():
            head = "".join(f"<th>{text(name)}</th>" for name in table.head)
            rows = "".join("<tr>" + "".join(f"<td>{text(value)}</td>" for value in row) + "</tr>" for row in table.rows)
            parts.append(f"<table><caption>{text(table.title)}</caption><tr>{head}</tr>{rows}</table>")
        parts += [f"<p>{html.escape(str(line))}</p>" for line in (*self.checks, *self.remarks())]
        return "".join(parts)


def wrapped(text: str, indent: str = "  ") -> str:
    """Lines of at most WIDTH columns; those that go on are indented."""
    lines = [
        textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_on_hyphens=False) or [""]
        for line in text.split("\n")
    ]
    return "\n".join(line for own in lines for line in own)


def shown(value: Any) -> str:
    """A cell: numbers with four digits, whole ones with commas."""
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return f"{float(value):.4g}" if isinstance(value, float | np.floating) else str(value)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_))


def as_json(value: Any) -> Json:
    """`value` as JSON can hold it; dataclasses by their fields."""
    if isinstance(value, Tensor):
        return as_json(value.detach().numpy())
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Result):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(item) for item in value]
    return plain(value)
