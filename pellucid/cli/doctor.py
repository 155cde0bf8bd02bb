"""`pellucid doctor`: what is found in data, before any training (floor 11).

What lies at FILE decides what is looked at: data are described by `data.describe`. A run is recognised and refused; what is
to be told of one has its place in `command`, beside the description of data.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from ..data.base import OptionValue
from ..data.datasets import find
from ..data.load import describe_source
from ..errors import OptionError
from ..runs.run import RUNS_DIR
from .data_options import data_option_flags
from .options import JSON, HeadedCommand, as_options, print_json, seed_option

WIDTH = 100  # characters, where there is no terminal


@click.command("doctor", cls=HeadedCommand)
@click.argument("file")
@data_option_flags
@seed_option(None)
@JSON
def command(file: str, seed: int | None, as_json: bool, **options: OptionValue) -> None:
    """Show what is found in FILE, without training: a table, a series, a text, a folder or archive, or a name from
    `pellucid datasets`. Of a table each column: what it is learned as, how it is read, its gaps, and examples. Then all that
    `pellucid train` would say with the same options: leaks, the split, the classes.

    \b
    pellucid doctor people.csv
    pellucid doctor people.csv --target income
    pellucid doctor sales.csv --target sold --time-column day
    pellucid doctor photos/ --json
    """
    if _is_run(file):
        raise OptionError(
            f"FILE {file}: a run; expected data, as runs cannot be looked at yet; see pellucid summary {file}"
        )
    try:
        described = describe_source(file, seed=seed or 0, **options)
    except OptionError as error:
        raise as_options(error, options) from None
    if as_json:
        print_json(described.to_dict())
    else:
        click.echo(described.text(shutil.get_terminal_size((WIDTH, 24)).columns))


def _is_run(name: str) -> bool:
    """Whether a run lies there: data that are called so come first."""
    path = Path(name)
    if find(name) is not None or path.is_file():
        return False
    if path.is_dir():
        return (path / "config.json").is_file()
    return name == "last" or (RUNS_DIR / name / "config.json").is_file()
