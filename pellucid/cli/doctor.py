"""`pellucid doctor`: what is found in data, before any training (floor 11).

What lies at FILE decides what is looked at. Data are described by `data.load.describe`. A run is recognised and refused: its
half of the command is not written.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from ..data.base import OptionValue
from ..data.datasets import find
from ..data.load import describe
from ..errors import OptionError
from ..runs import run as runs
from .options import as_options, print_json

FALLBACK_WIDTH = 100  # where there is no terminal


@click.command("doctor")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(context, file: str, as_json: bool, **options: OptionValue) -> None:
    described = describe(file)
    click.echo(described.text(shutil.get_terminal_size((FALLBACK_WIDTH, 24)).columns))
