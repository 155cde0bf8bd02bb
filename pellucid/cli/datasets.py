"""`pellucid datasets`: the data sets known by name, and whether they are at hand (floor 7)."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from ..data.sources import catalogue
from .options import print_json


@click.command("datasets")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """List the data sets known by name: size, licence, and whether they are at hand."""
    raise NotImplementedError(catalogue, Console, Table, print_json, as_json)
