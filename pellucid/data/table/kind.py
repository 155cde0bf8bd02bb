"""Tables of separate rows as a kind of data (floor 4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import OptionError
from ..base import Content, DataKind, DataOption, NewExamples, OptionValue, PredictionForm, Source
from ..description import Description
from ..problem import DataModule
from .describe import describe_table
from .load import batches_for_prediction, load_table, read_rows_for_prediction, weights_of
from .preprocess import TablePreprocessor
from .read import ENDINGS, Table
from .read_options import PARSERS

TASKS = ("classification", "regression", "multilabel", "counts")
SCORES = "Splits and scores"
READ_OPTION = DataOption(
    "read",
    (str,),
    f"How a file is to be read, such as delimiter=;,dates=dayfirst; keys: {', '.join(PARSERS)}.  [default: found out, or as in training]",
    "KEY=VALUE,...",
    heading="Reading",
    common=True,
)
# Shared with series, which are tables too.
COLUMN_OPTIONS = (
    DataOption(
        "target", (str, int), "The column to predict: its name, or its number from 1; -1 is the last.", "NAME|N", common=True
    ),
    DataOption(
        "header", (bool,), "Whether the first row names the columns (detected if left out).", negatable=True, heading="Reading"
    ),
    READ_OPTION,
    DataOption("drop", (list, tuple, str), "Columns to leave out.", common=True),
    DataOption(
        "task", (str,), "classification, regression, multilabel or counts (chosen by the target if left out).", "TASK", choices=TASKS
    ),
)  # fmt: skip


class TableKind(DataKind[TablePreprocessor]):
    """A table whose rows are examples, in any order."""

    name = "table"
    title = "a table of separate rows"
    container = "a table"
    folder_form = "a table"
    noun = "row"
    endings = ENDINGS
    options = (
        *COLUMN_OPTIONS,
        DataOption("test_data", (str,), "A table to test on, instead of a part of DATA.", "FILE", heading=SCORES),
        DataOption(
            "group",
            (str, int),
            "Keep rows that share a value of this column on one side of the split.",
            "NAME|N",
            heading=SCORES,
            common=True,
        ),
        DataOption(
            "split",
            (str,),
            "together: copies of a row on one side; random: each row by itself; time:NAME: the last rows by a column are the "
            "test (together if left out, unless columns are so coarse that chance repeats rows).",
            "HOW",
            heading=SCORES,
        ),
        DataOption("keep", (list, tuple, str), "Columns to learn from though they seem to name rows."),
        DataOption(
            "strip_label",
            (str,),
            "Remove TEXT from the end of each label, such as a full stop.",
            "TEXT",
            heading="Reading",
        ),
        DataOption("row_weight", (str, int), "A column that says how much each row counts.", "NAME|N", heading=SCORES),
        DataOption(
            "interval",
            (int, float),
            "Predict an interval too, which holds this share of the rows, such as 0.9.",
            "SHARE",
            heading=SCORES,
        ),
    )
    default_family = "mlp"
    inputs = ("table",)
    prediction = PredictionForm.ROWS
    preprocessor = TablePreprocessor

    def recognises(self, content: Content, options: Mapping[str, OptionValue]) -> bool:
        return content.is_file or is_one_table(content, self.endings) or is_zip_of_tables(content, self.endings)

    def open(self, content: Content) -> tuple[str, list[Path]]:
        """Of a folder the one table in it."""
        path = content.files[0] if content.is_folder else content.path
        return Content(path, (path.name,)).stem, [path]

    def load(self, source: Source) -> DataModule:
        return load_table(source, _completed(source))

    def describe(self, source: Source) -> Description:
        return describe_table(source, _completed(source))

    def earlier_source(self, source: dict[str, OptionValue], preprocessor: Mapping[str, Any]) -> dict[str, OptionValue]:
        """Runs from before copies were kept together do not say how they were split, and learned from all their columns."""
        if "split" in source:
            return source
        columns = [*preprocessor.get("numbers", ()), *preprocessor.get("categories", ())]
        return {**source, "split": "random", "keep": [column["name"] for column in columns]}

    def read_new(self, preprocessor: TablePreprocessor, sources: Sequence[Source]) -> NewExamples:
        """The rows of one table; of a data set known by name, its test rows."""
        source = _only(sources)
        if source.dataset is None:
            table = read_rows_for_prediction(source.path, preprocessor, read=source.options.get("read"))
        else:
            table = self._test_rows(source)
        return _encoded(preprocessor, table)

    def read_labelled(self, preprocessor: TablePreprocessor, source: Source) -> NewExamples:
        return _labelled(preprocessor, self.read_new(preprocessor, [source]))

    def read_in_parts(
        self, preprocessor: TablePreprocessor, sources: Sequence[Source], labelled: bool = False
    ) -> Iterator[NewExamples]:
        source = _only(sources)
        if source.dataset is not None:
            yield from super().read_in_parts(preprocessor, sources, labelled)
            return
        for table in batches_for_prediction(source.path, preprocessor, read=source.options.get("read")):
            examples = _encoded(preprocessor, table)
            yield _labelled(preprocessor, examples) if labelled else examples

    def _test_rows(self, source: Source) -> Table:
        data = self.load(source)
        rows = [data.raw_example("test", i) for i in range(len(data.examples("test").target))]
        columns = [np.array([row[name] or None for row in rows], dtype=object) for name in rows[0]]
        return Table(source.path, list(rows[0]), columns, True)


def _completed(source: Source) -> tuple[str, ...]:
    """The names of the columns of a data set known by name, whose options are put under those of `source`; else none."""
    dataset = source.dataset
    if dataset is None:
        return ()
    defaults = {"target": dataset.target, "strip_label": dataset.strip_label, "header": False, "split": "random"}
    if dataset.test is not None:
        defaults["test_data"] = str(
            next(p for file, p in zip(dataset.files, source.paths, strict=True) if file.path == dataset.test)
        )
    source.options = {name: value for name, value in {**defaults, **source.options}.items() if value is not None}
    return dataset.columns


def _only(sources: Sequence[Source]) -> Source:
    if len(sources) > 1:
        raise OptionError(f"DATA: {len(sources)} tables; expected one; predict them one after another")
    return sources[0]


def _encoded(preprocessor: TablePreprocessor, table: Table) -> NewExamples:
    first = 1 if table.rows is None else int(table.rows[0]) + 1
    names = [str(i) for i in range(first, first + len(table))]
    return NewExamples(preprocessor.encode(table), names, table=table, notes=[*table.notes])


def _labelled(preprocessor: TablePreprocessor, examples: NewExamples) -> NewExamples:
    assert examples.table is not None
    examples.target = preprocessor.encode_target(examples.table)
    examples.notes += preprocessor.target_notes(examples.table)
    examples.weight = weights_of(preprocessor, examples.table)
    return examples


def is_one_table(content: Content, endings: frozenset[str]) -> bool:
    """Whether one file lies in a folder, and it is a table."""
    return content.is_folder and len(content.names) == 1 and content.share(endings) == 1


def is_zip_of_tables(content: Content, endings: frozenset[str]) -> bool:
    """Whether a zip archive holds tables, perhaps beside a few other files."""
    return content.path.name.lower().endswith(".zip") and content.path.is_file() and content.share(endings) > 0
