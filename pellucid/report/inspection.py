"""The page of a view, `RUN/inspect/NAME.html`, and its numbers beside it, `NAME.json` (floor 9).

A page holds no row, picture or text of the data unless it was asked for; its first line says what it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ..files import Json, write_json, write_text
from ..inspect.result import Result, Table, shown
from .html import page, section, table

WITHOUT = "This page holds no row, picture or text of your data: names, figures and pictures of the network alone."
WITH = "This page holds examples of your data ({}): pass it on only to those who may see them."


@dataclass(frozen=True)
class ViewPage:
    """name: of the files.      title: what the page answers.      lead: the sentence to take away.

    sections: below it.      holds: what it shows of the data, in words; "" for nothing.      command: that makes the page again.
    """

    name: str
    title: str
    lead: str
    sections: Sequence[Markup]
    holds: str = ""
    command: str = ""


def write_page(run_folder: Path, view: ViewPage, numbers: Json) -> Path:
    """Write the page and its numbers under `run_folder`/inspect, each beside and renamed into place; the page's path."""
    folder = run_folder / "inspect"
    folder.mkdir(parents=True, exist_ok=True)
    text = page(
        "inspection.html", title=f"{view.title} · {run_folder.name}", heading=view.title, run=str(run_folder), lead=view.lead,
        holds=WITH.format(view.holds) if view.holds else WITHOUT, sections=view.sections, command=view.command,
    )  # fmt: skip
    path = folder / f"{view.name}.html"
    write_text(path, text)
    write_json(folder / f"{view.name}.json", numbers)
    return path


def result_sections(result: Result, title: str = "The numbers") -> list[Markup]:
    """The tables of a result, then its checks and remarks, as sections of a page."""
    sections = [section(_capital(one.title or title), markup_of(one)) for one in result.tables()]
    lines = [*map(str, result.checks), *result.remarks()]
    if lines:
        items = Markup("").join(Markup("<li>{}</li>").format(line) for line in lines)
        sections.append(section("How far to trust this", Markup("<ul>{}</ul>").format(items)))
    return sections


def markup_of(one: Table) -> Markup:
    """A table as HTML; its title is for those who cannot see the heading above it."""
    numeric = [
        i
        for i in range(len(one.head))
        if all(row[i] is None or (isinstance(row[i], int | float) and not isinstance(row[i], bool)) for row in one.rows)
    ]
    rows = [[shown(value) for value in row] for row in one.rows]
    return table(one.title, one.head, rows, numeric=numeric, style="untitled")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
