"""What is found in a table of series: the role of each column, and the season (floor 4).

Nothing is decided here: the roles are those of the preprocessor that `load.py` has fitted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..base import Source
from ..description import Description, describe_module, refused
from ..problem import DataModule
from ..table.describe import describe_table, described_columns
from ..table.load import open_table
from .preprocess import SeriesPreprocessor
from .read import step_text


def describe_series(title: str, source: Source, load: Callable[[Source], DataModule]) -> Description:
    """load: gives the data module of `source`. Raises as it does for a file or options that cannot be used."""
    if "target" not in source.options and source.dataset is None:
        return describe_table(source)
    record = {**source.record}

    def build() -> Description:
        data = load(source)
        assert isinstance(data.preprocessor, SeriesPreprocessor)
        table = open_table(source)
        roles = {table.names.index(name): role for name, role in _roles(data.preprocessor).items()}
        dropped = [table.position(name) for name in source.options.get("drop", ())]
        roles = {p: ("left out", "--drop" if p in dropped else "") for p in range(len(table.names))} | roles
        columns = described_columns(table, roles)
        return describe_module(title, data, record, rows=len(table), columns=columns, facts=_facts(data.preprocessor))

    table = open_table(source)
    columns = described_columns(table, dict.fromkeys(range(len(table.names)), ("", "")))
    known = Description(
        source.spec, "series", title, len(table), columns, notes=tuple(table.notes),
        next="mend the file, or follow the advice above",
    )  # fmt: skip
    return refused(known, build)


def _roles(preprocessor: SeriesPreprocessor) -> dict[str, tuple[str, str]]:
    """The role of each column that is used, by its name, and how it is read."""
    clock = preprocessor.clock
    roles: dict[str, tuple[str, str]] = {}
    for column in preprocessor.columns:
        roles[column.name] = ("number", "read from the past")
    for column in preprocessor.known:
        roles[column.name] = ("number", "known ahead")
    for each in preprocessor.categories:
        ahead = f"follows from the {each.calendar}" if each.calendar else "known ahead"
        roles[each.name] = ("category", ahead if each.ahead else "read from the past")
    if preprocessor.series_name:
        roles[preprocessor.series_name] = ("series", "one model learns all")
    roles[preprocessor.target_name] = ("target", "")
    roles[clock.name] = ("time", f"{step_text(clock)} a step")
    return roles


def _facts(preprocessor: SeriesPreprocessor) -> dict[str, Any]:
    season = f"{preprocessor.season:,} steps" if preprocessor.season else "none was found"
    cycles = f"; told to the network: the time of the {' and the '.join(preprocessor.cycles)}" * bool(
        preprocessor.cycles
    )
    return {"season": season + cycles}
