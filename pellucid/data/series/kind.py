"""Series by time as a kind of data: tables whose rows follow one another (floor 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError, OptionError
from ..base import Content, DataKind, DataOption, NewExamples, OptionValue, PredictionForm, Source
from ..problem import DataModule
from ..table.kind import COLUMN_OPTIONS, TableKind
from ..table.load import chosen_columns
from ..table.read import Table, read_table
from ..table.read_options import ReadOptions
from .preprocess import SeriesPreprocessor, series_module


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

    def read_new(self, preprocessor: SeriesPreprocessor, sources: Sequence[Source]) -> NewExamples:
        """The last window of one series, which asks for the step after it."""
        if len(sources) > 1:
            raise OptionError(f"DATA: {len(sources)} tables; expected one; predict them one after another")
        timeline = preprocessor.read(self.read_table(preprocessor, sources[0]))
        inputs = preprocessor.encode(timeline)
        return NewExamples(
            {"series": inputs["series"][-1:]}, [preprocessor.clock.text(preprocessor.clock.after(timeline.times[-1]))]
        )

    def read_labelled(self, preprocessor: SeriesPreprocessor, source: Source) -> NewExamples:
        """The steps that have a whole window before them; of a data set known by name, those of its test split."""
        timeline = preprocessor.read(self.read_table(preprocessor, source))
        window, name = preprocessor.window, preprocessor.target_name
        if len(timeline) <= window:
            raise DataError(f"{source.spec}: {len(timeline):,} steps; expected more than {window}, the window that the network looks at; "
                            "give more rows")  # fmt: skip
        examples, rows = preprocessor.examples(timeline), preprocessor.target_rows(timeline)
        if not len(rows):
            raise DataError(f"{source.spec}: {name} is missing in every step after the first {window}, the window that the network looks "
                            "at; expected values to score; fill them, or give more rows")  # fmt: skip
        if source.dataset is not None:  # what it is tested on stands last
            source.options = {"target": name, "time_column": preprocessor.clock.name, "lookback": window}
            test = self.load(source).test
            examples, rows = examples.take(np.arange(len(rows))[-len(test) :]), rows[-len(test) :]
        names = [preprocessor.clock.text(time) for time in timeline.times[rows]]
        return NewExamples(examples.inputs, names, target=examples.target)

    def read_table(self, preprocessor: SeriesPreprocessor, source: Source) -> Table:
        options = ReadOptions.parse(source.options.get("read")).over(preprocessor.read_options)
        return read_table(source.path, preprocessor.header, options)
