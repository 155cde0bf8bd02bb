"""Series by time as a kind of data: tables whose rows follow one another (floor 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError, OptionError
from ..base import Content, DataKind, DataOption, NewExamples, OptionValue, PredictionForm, Source
from ..description import Description
from ..problem import DataModule
from ..table.kind import COLUMN_OPTIONS, TableKind
from ..table.load import chosen_columns
from ..table.read import Table, read_table
from ..table.read_options import ReadOptions
from .describe import describe_series
from .load import series_module
from .preprocess import SeriesPreprocessor


class SeriesKind(DataKind[SeriesPreprocessor]):
    """A table with a column of times, named by `time_column`."""

    name = "series"
    title = "a series, split by time"
    container = "a series (a table with --time-column)"
    folder_form = "a table"
    noun = "step"
    options = (
        *COLUMN_OPTIONS,
        DataOption(
            "time_column",
            (str, int),
            "The column of times: the table is a series, and the task is to forecast it.",
            "NAME|N",
            common=True,
        ),
        DataOption(
            "series",
            (str, int),
            "The column that says which of several series a row is of: one model learns all.",
            "NAME|N",
        ),
        DataOption(
            "known", (list, tuple, str), "Columns of a series that are known ahead, such as a price or a holiday."
        ),
        DataOption("lookback", (int,), "Past steps of a series that a forecast reads.  [default: 30]"),
    )
    default_family = "lstm"
    inputs = ("series",)
    prediction = PredictionForm.FORECAST
    preprocessor = SeriesPreprocessor

    def recognises(self, content: Content, options: Mapping[str, OptionValue]) -> bool:
        return "time_column" in options and TableKind().recognises(content, options)

    def open(self, content: Content) -> tuple[str, list[Path]]:
        return TableKind().open(content)

    def load(self, source: Source) -> DataModule:
        if source.dataset is not None:
            source.options = {"target": source.dataset.target, "time_column": source.dataset.time, **source.options}
        options = ReadOptions.parse(source.options.get("read"))
        table = read_table(source.path, source.options.get("header"), options)
        target, drop = chosen_columns(table, source.options)
        module = series_module(source, table, target, drop)
        module.notes[:0] = table.notes
        module.preprocessor.read_options = options  # type: ignore[attr-defined]
        return module

    def describe(self, source: Source) -> Description:
        return describe_series(self.title, source, self.load)

    def read_new(self, preprocessor: SeriesPreprocessor, sources: Sequence[Source]) -> NewExamples:
        """The last window of each series, which asks for the step after it."""
        if len(sources) > 1:
            raise OptionError(f"DATA: {len(sources)} tables; expected one; predict them one after another")
        table = self.read_table(preprocessor, sources[0])
        preprocessor, found = preprocessor.in_zone_of(table), list[str]()
        kept, notes = preprocessor.long_enough(table, preprocessor.read_lines(table, found))
        lines = [preprocessor.extended(table, line, 1) for line in kept]
        windows: Any = preprocessor.encode(lines)["series"]
        ends = np.cumsum([len(line) - preprocessor.window + 1 for line in lines])
        names = [preprocessor.step_name(line, -1) for line in lines]
        return NewExamples({"series": windows.take(ends - 2)}, names, notes=found + notes)

    def read_labelled(self, preprocessor: SeriesPreprocessor, source: Source) -> NewExamples:
        """The steps that have a whole window before them; of a data set known by name, those of its test split."""
        table = self.read_table(preprocessor, source)
        preprocessor, found = preprocessor.in_zone_of(table), list[str]()
        lines = preprocessor.read_lines(table, found)
        window, name = preprocessor.window, preprocessor.target_name
        most = max(map(len, lines))
        if most <= window:
            raise DataError(f"{source.spec}: {most:,} steps; expected more than {window}, the window that the network looks at; "
                            "give more rows")  # fmt: skip
        examples = preprocessor.examples(lines)
        stamps = [preprocessor.step_name(line, row) for line in lines for row in preprocessor.target_rows(line)]
        if not stamps:
            raise DataError(f"{source.spec}: {name} is missing in every step after the first {window}, the window that the network looks "
                            "at; expected values to score; fill them, or give more rows")  # fmt: skip
        if source.dataset is not None:  # what it is tested on stands last
            source.options = {"target": name, "time_column": preprocessor.clock.name, "lookback": window}
            test = len(self.load(source).test)
            examples, stamps = examples.take(np.arange(len(stamps))[-test:]), stamps[-test:]
        return NewExamples(
            examples.inputs, stamps, target=examples.target, notes=found + preprocessor.unseen_series(lines)
        )

    def read_table(self, preprocessor: SeriesPreprocessor, source: Source) -> Table:
        options = ReadOptions.parse(source.options.get("read")).over(preprocessor.read_options)
        return read_table(source.path, preprocessor.header, options)
