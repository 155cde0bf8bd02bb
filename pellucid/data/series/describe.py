"""What is found in a table of series: the role of each column, and the season (floor 4).

Nothing is decided here: the roles are those of the preprocessor that `load.py` has fitted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..base import OptionValue, Source
from ..description import Description, describe_module, or_refusal
from ..problem import DataModule
from ..table.describe import describe_table, described_columns
from ..table.load import open_table
from .preprocess import SeriesPreprocessor
from .spacing import step_text


def describe_series(title: str, source: Source, load: Callable[[Source], DataModule]) -> Description:
    """load: gives the data module of `source`. Raises as it does for a file or options that cannot be used."""
    if "target" not in source.options and source.dataset is None:
        return describe_table(source)
    record, table = {**source.record}, open_table(source)[0]

    def learned() -> Description:
        data = load(source)
        assert isinstance(data.preprocessor, SeriesPreprocessor)
        used = _roles(data.preprocessor)
        dropped = [table.position(name) for name in source.options.get("drop", ())]
        rest = {p: ("left out", "as --drop says" if p in dropped else "") for p in range(len(table.names))}
        columns = described_columns(table, rest | {table.names.index(name): role for name, role in used.items()})
        return describe_module(title, data, record, rows=len(table), columns=columns, facts=_facts(data.preprocessor))

    return or_refusal(learned, lambda: describe_table(replace(source, options=_of_table(source.options))))


def _of_table(options: dict[str, OptionValue]) -> dict[str, OptionValue]:
    """How the file is read, which a table too is told; its columns are then described as they are."""
    return {name: value for name, value in options.items() if name in ("header", "read")}


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
