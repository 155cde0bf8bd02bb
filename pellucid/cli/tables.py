"""Tables on the screen (floor 11). Only the commands that print one import this file: rich takes 36 ms."""

from __future__ import annotations

import sys

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDEST = 10_000  # columns, for a table that a program reads


def print_table(headings: list[str], rows: list[list[str]]) -> None:
    """Print rows under their headings; on a terminal as wide as it is, else every cell whole and one line a row."""
    stream = sys.stdout
    table = Table(box=box.SIMPLE_HEAD if stream.isatty() else None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    console = Console(file=stream, highlight=False, width=None if stream.isatty() else WIDEST)
    with console.capture() as captured:
        console.print(table)
    lines = captured.get().splitlines()
    click.echo("\n".join(line.rstrip() for line in lines).strip("\n"), color=stream.isatty())
