"""`pellucid datasets`: the data sets known by name, and whether they are on this machine (floor 11)."""

from __future__ import annotations

import click

from ..data.datasets import Dataset, catalogue
from .options import JSON, print_json
from .tables import print_table


@click.command("datasets")
@JSON
def command(as_json: bool) -> None:
    """List the data sets known by name: size, licence, and whether they are on this machine."""
    entries = catalogue()
    if as_json:
        print_json({"datasets": [
            {"name": e.name, "kind": e.kind, "rows": e.rows, "bytes": e.size, "licence": e.licence, "address": e.address,
             "at_hand": e.at_hand} for e in entries
        ]})  # fmt: skip
        return
    rows = [[e.name, e.kind, e.rows, _size(e.size), e.licence, _there(e), e.about] for e in entries]
    print_table(["name", "kind", "rows", "size", "licence", "at hand", "what"], rows)


def _there(e: Dataset) -> str:
    # Without an address the file has to be put in place by hand; `train` says where.
    return "yes" if e.at_hand else "to download" if all(file.url for file in e.files) else "no, by hand"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB" if size else "bundled"
