"""The table preprocessor: columns of text encoded as numbers and categories, by statistics of the training rows alone (floor 4).

A column of numbers is scaled, to mean 0 and variance 1, or by quantiles to a normal distribution where it is skewed.
Missing values become the median, with a missing indicator beside them. A column of dates becomes several of numbers: days,
year, month, weekday, hour. A column of text becomes category numbers; 0 stands for a value missing, rare or never seen in
training. Free text has a file of its own, `text_column.py`. The type of each column is inferred in `infer.py`.

Shapes: N rows, F number columns (missing indicators included), C category columns, T text columns of L buckets a row.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import ClassVar

import numpy as np

from ...errors import DataError, suggestion
from ...files import Json
from ..input_spec import TableSpec
from ..problem import Parts, Preprocessor, plain_fields
from .dates import CLOCK, DATES, DAY_FIRST, MILLISECONDS, SECONDS, Moments, date_parts, meaningless_parts, read_moments
from .delimited import MISSING_INPUT, as_number
from .labels import Merged, folded, merged_counts, one_form
from .number_format import CODE, PLAIN, NumberFormat, ReadNumbers, other_reading
from .read import Table, check_finite
from .read_options import ReadOptions
from .text_column import TextColumn, encode_texts

MAX_BINS = 32
ROWS_A_BIN = 16  # training rows that a bin should hold: small tables get fewer, wider bins
KNOTS = 500  # of a quantile scale
SKEWED = 1.0  # skewness from which a column is scaled by quantiles
LEVELS = 10  # but not where it has so few different values
FAR = 20.0  # deviations from the mean: a target beyond is in another unit, or read otherwise
MAX_SCALED = 10.0  # scaled numbers are clipped here: an outlier in new data should not outweigh the others
MAX_CATEGORIES = 1000
RARE_FROM = 100  # rows from which a category seen once is taken for unknown, so that unknown has examples


@dataclass
class NumberColumn:
    """A column of numbers. knots, heights: of the scale, a piecewise-linear map from values to standardised numbers."""

    name: str
    median: float  # in place of missing values
    scale: str  # "standard", a straight line through two knots, or "quantile"
    knots: list[float]
    heights: list[float]
    missing_indicator: bool  # whether a column that is 1 at missing values follows this one
    bins: list[float]  # edges for piecewise-linear embeddings (Gorishniy et al. 2022), in scaled numbers
    strays: bool = False  # whether training had some text, taken for missing; else text is an error
    format: NumberFormat = PLAIN  # how training wrote the numbers
    sentinels: list[float] = field(default_factory=list)  # numbers that stand for a missing value, such as -999

    def extent(self) -> tuple[float, float]:
        """The least and the largest value of the training rows, nearly."""
        if self.scale == "quantile":
            return self.knots[0], self.knots[-1]
        (x0, x1), (y0, y1) = self.knots, self.heights
        low, high = (x0 + (y - y0) * (x1 - x0) / (y1 - y0) for y in (self.bins[0], self.bins[-1]))
        digits = 5 - math.floor(math.log10(high - low))  # edges are float32
        return round(low, digits) + 0.0, round(high, digits) + 0.0  # no negative zero

    def straight(self, values: np.ndarray) -> np.ndarray:
        """Float64 values (N,), NaN where missing -> in a line, by mean and deviation of the knots; within those of training."""
        knots = np.array(self.knots)
        return (self._filled(values)[0].clip(knots[0], knots[-1]) - knots.mean()) / knots.std()

    def _filled(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The values with the median in place of missing ones, and which those are."""
        missing = np.isnan(values) | np.isin(values, self.sentinels)
        return np.where(missing, self.median, values), missing

    def beyond(self, values: np.ndarray) -> np.ndarray:
        """Those of float64 `values` (N,) that lie outside all of training."""
        low, high = self.extent()
        slack = 1e-5 * (high - low)  # of rounding
        return values[(values < low - slack) | (values > high + slack)]

    def encode(self, values: np.ndarray) -> list[np.ndarray]:
        """Float64 values (N,), NaN where missing -> the scaled ones (N,), and the missing indicator (N,) where training had one."""
        filled, missing = self._filled(values)
        if self.scale == "standard":
            (x0, x1), (y0, y1) = self.knots, self.heights
            scaled = y0 + (filled - x0) * ((y1 - y0) / (x1 - x0))
        else:
            scaled = np.interp(filled, self.knots, self.heights)
        scaled = scaled.clip(-MAX_SCALED, MAX_SCALED)
        return [scaled, missing.astype(np.float64)] if self.missing_indicator else [scaled]


@dataclass
class DateColumn:
    """A column of dates or times, taken apart into numbers that are scaled as `NumberColumn`s.

    form: of its cells, as `dates.py` calls it. order: DAY_FIRST or MONTH_FIRST, of 03/04/2021. first: days since 1970, from
    which days are counted. parts: what is learned; the name of each is that of a part of `dates.date_parts`.
    """

    name: str
    form: str
    order: str
    first: float
    parts: list[NumberColumn]
    strays: bool = False  # whether training had some text, taken for missing; else text is an error

    @property
    def noun(self) -> str:
        return {CLOCK: "time", SECONDS: "number of seconds", MILLISECONDS: "number of milliseconds"}.get(
            self.form, "date"
        )

    def read(self, column: np.ndarray) -> tuple[Moments, np.ndarray]:
        """Text (N,), None where missing -> moments (N,), and the rows (int64) of what is no date."""
        return read_dates(column, self.form, self.order)

    def values(self, moments: Moments) -> list[tuple[NumberColumn, np.ndarray]]:
        """Moments (N,) -> each part that is learned, with its float64 values (N,), NaN where missing."""
        values = date_parts(moments, self.form, self.first)
        return [(part, values[part.name]) for part in self.parts]


def read_dates(column: np.ndarray, form: str, order: str) -> tuple[Moments, np.ndarray]:
    """Text (N,), None where missing -> moments (N,) and the rows (int64) of what is no date; each different text is read once."""
    place: dict[str | None, int] = {}
    at = np.array([place.setdefault(text, len(place)) for text in column.tolist()], dtype=np.int64)
    found = read_moments([text or "" for text in place], form, order == DAY_FIRST)
    gone = np.array([text is None or text.lower() in MISSING_INPUT for text in place], dtype=bool)
    strays = np.isnan(found.wall) & ~gone
    return Moments(found.wall[at], found.utc[at]), np.flatnonzero(strays[at])


def fit_dates(
    name: str, moments: Moments, rows: np.ndarray, form: str, order: str, strays: bool = False
) -> DateColumn | None:
    """The parts of a column of dates that differ in the training `rows`; None where none does."""
    known = Moments(moments.wall[rows], moments.utc[rows])
    if np.isnan(known.utc).all():
        return None
    first = float(np.floor(np.nanmin(known.utc)))
    without = meaningless_parts(known, form)
    every = date_parts(known, form, first).items()
    parts = [fit_number(part, values) for part, values in every if part not in without]
    found = [part for part in parts if part is not None]
    for part in found[1:]:
        part.missing_indicator = False  # one for all of them
    return DateColumn(name, form, order, first, found, strays) if found else None


@dataclass
class CategoryColumn:
    """A column of text, or of numbers that are names. values: value i is category i + 1; 0 is everything else.

    spellings: other ways in which a value may be written, by `labels.folded`.
    """

    name: str
    values: list[str]
    spellings: dict[str, str] = field(default_factory=dict)

    def encode(self, column: np.ndarray) -> np.ndarray:
        """Text (N,), None where missing -> int64 (N,)."""
        number = {value: i + 1 for i, value in enumerate(self.values)}
        if self.spellings:
            known = number | {text: number[value] for text, value in self.spellings.items() if value in number}
            number = {text: number.get(text) or known.get(folded(text), 0) for text in set(column.tolist()) - {None}}
        return np.array([number.get(value, 0) for value in column.tolist()], dtype=np.int64)


def fit_number(
    name: str, values: np.ndarray, strays: bool = False, form: NumberFormat = PLAIN, sentinels: Sequence[float] = ()
) -> NumberColumn | None:
    """The scale of float64 training values (N,), NaN where missing; None where they do not differ."""
    values = np.where(np.isin(values, sentinels), np.nan, values) if len(sentinels) else values
    present = np.sort(values[~np.isnan(values)])
    if not len(present) or present[0] == present[-1]:
        return None
    mean, std = float(present.mean()), float(present.std())
    if not std > 1e-290:  # so near to one another that their distance cannot be divided by
        return None
    skewness = float(np.mean(((present - mean) / std) ** 3))
    if abs(skewness) > SKEWED and len(np.unique(present)) > LEVELS:
        scale, (knots, heights) = "quantile", _quantile_scale(present)
    else:
        scale, knots, heights = "standard", [mean, mean + std], [0.0, 1.0]
        if knots[0] == knots[1]:  # a spread lost in rounding, as of 1e16 and 1e16 + 2
            return None
    column = NumberColumn(
        name, float(np.median(present)), scale, knots, heights, bool(np.isnan(values).any()), [], strays,
        form, list(sentinels),
    )  # fmt: skip
    scaled = column.encode(present)[0]
    cuts = np.linspace(0, 1, max(2, min(MAX_BINS, len(present) // ROWS_A_BIN)) + 1)
    edges = np.unique(np.quantile(scaled, cuts, method="lower").astype(np.float32))  # values that there are
    column.bins = [float(edge) for edge in edges]
    return column if len(edges) > 1 else None


def _quantile_scale(present: np.ndarray) -> tuple[list[float], list[float]]:
    """Sorted values' own values and the normal quantiles of their mid-ranks.

    A value that fills a range of ranks, as zero often does, stands in the middle of it.
    """
    at = np.linspace(0, len(present) - 1, min(KNOTS, len(present))).round().astype(np.int64)
    knots = np.unique(present[at])
    ranks = (np.searchsorted(present, knots, "left") + np.searchsorted(present, knots, "right")) / 2 / len(present)
    normal = NormalDist()
    return knots.tolist(), [normal.inv_cdf(min(max(float(rank), 1e-4), 1 - 1e-4)) for rank in ranks]


def fit_category(name: str, column: np.ndarray, merged: Merged | None = None) -> CategoryColumn | None:
    """The categories among training values (N,), None where missing; None where all rows would be the same.

    merged: which values are one.
    """
    every = Counter(column.tolist())
    counts = Counter(
        {value: n for value, n in every.items() if value is not None and value.lower() not in MISSING_INPUT}
    )
    counts = merged_counts(counts, merged) if merged is not None else counts
    least = 2 if len(column) >= RARE_FROM else 1
    frequent = [value for value, times in counts.most_common(MAX_CATEGORIES) if times >= least]
    unknown = len(column) - sum(counts[value] for value in frequent)
    if len(frequent) + (unknown > 0) <= 1:
        return None
    return CategoryColumn(name, sorted(frequent), merged.spellings if merged is not None else {})


@dataclass
class TargetForm:
    """How the target was written, and what is asked of it.

    separator: between the labels of a row, where it may have several. no_label: the word for none of them.
    interval: the share of rows that a predicted interval holds. format: of a regression's numbers. spellings: of classes, as of
    a CategoryColumn. weights: the column of the rows' weights. sentinels: numbers that stood for a gap in training.
    """

    separator: str | None = None
    no_label: str = ""
    interval: float | None = None
    format: NumberFormat = PLAIN
    spellings: dict[str, str] = field(default_factory=dict)
    weights: str | None = None
    sentinels: list[float] = field(default_factory=list)


@dataclass
class TablePreprocessor(Preprocessor[Table]):
    """A table's columns. names: every column of the training file, in order. mean, std: of a regression's target.

    read_options: how new files are to be read, as that of training was.
    """

    kind: ClassVar[str] = "table"

    names: list[str]
    header: bool  # whether the training file had one
    target_name: str
    task: str
    classes: list[str] | None
    numbers: list[NumberColumn]
    categories: list[CategoryColumn]
    mean: float = 0.0
    std: float = 1.0
    strip_label: str | None = None
    read_options: ReadOptions = field(default_factory=ReadOptions)
    dates: list[DateColumn] = field(default_factory=list)
    target_form: TargetForm = field(default_factory=TargetForm)
    texts: list[TextColumn] = field(default_factory=list)

    @property
    def interval(self) -> float | None:
        return self.target_form.interval

    @property
    def needed(self) -> list[str]:
        """The columns that a table must have for a prediction."""
        columns = (self.numbers, self.dates, self.categories, self.texts)
        wanted = {column.name for own in columns for column in own}
        return [name for name in self.names if name in wanted]

    def input_spec(self) -> TableSpec:
        """F columns of numbers, F lists of edges, C cardinalities, the unknown category included."""
        bins: list[list[float]] = []
        straight = []
        for _, column in self.scaled_columns():
            straight += [len(bins)] if column.scale == "quantile" else []
            bins += [column.bins, [0.0, 1.0]] if column.missing_indicator else [column.bins]
        return TableSpec(
            len(bins), bins, [len(c.values) + 1 for c in self.categories], [c.buckets for c in self.texts], straight
        )

    def input_names(self) -> list[str]:
        """What each of the F columns of "numbers" is, then the C of "categories", then the T of "text"."""
        names = []
        for name, column in self.scaled_columns():
            names += [name, f"{name} is missing"] if column.missing_indicator else [name]
        return names + [c.name for c in self.categories] + [c.name for c in self.texts]

    def column_parts(self) -> dict[str, Parts]:
        """A missing indicator belongs to its column; a date is all its parts, a text all its buckets and their weights."""
        found: dict[str, list[tuple[str, int, int]]] = {}
        place = straight = 0
        owners = [(c.name, c) for c in self.numbers] + [
            (dates.name, part) for dates in self.dates for part in dates.parts
        ]
        for name, column in owners:
            for _ in range(1 + column.missing_indicator):
                found.setdefault(name, []).append(("numbers", 1, place))
                place += 1
            if column.scale == "quantile":
                found[name].append(("straight", 1, straight))
                straight += 1
        for i, category in enumerate(self.categories):
            found.setdefault(category.name, []).append(("categories", 1, i))
        for i, text in enumerate(self.texts):
            found.setdefault(text.name, []).extend([("text", 1, i), ("text_weights", 1, i)])
        return {name: found[name] for name in self.needed}

    def scaled_columns(self) -> list[tuple[str, NumberColumn]]:
        """The scaled columns in order, by name: those of numbers, then the parts of dates."""
        parts = [(f"{dates.name}: {part.name}", part) for dates in self.dates for part in dates.parts]
        return [(column.name, column) for column in self.numbers] + parts

    def encode(self, raw: Table) -> dict[str, np.ndarray]:
        """{"numbers": (N, F) float32, "categories": (N, C) int64, "text": (N, T, L) int32, "text_weights": (N, T, L) float32}.

        "straight": (N, Q) float32 has the columns that are scaled by quantiles once more, scaled in a line. A key is absent where there are no such columns.

        Raises DataError for a column that is not there, and with the line for text where training had numbers.
        """
        inputs: dict[str, np.ndarray] = {}
        if self.numbers or self.dates:
            found = [(column, self._values(raw, column)) for column in self.numbers]
            found += [pair for dates in self.dates for pair in dates.values(self._moments(raw, dates))]
            columns = [array for column, values in found for array in column.encode(values)]
            inputs["numbers"] = np.stack(columns, axis=1).astype(np.float32)
            straight = [column.straight(values) for column, values in found if column.scale == "quantile"]
            if straight:
                inputs["straight"] = np.stack(straight, axis=1).astype(np.float32)
        if self.categories:
            columns = [c.encode(raw.columns[self._position(raw, c.name)]) for c in self.categories]
            inputs["categories"] = np.stack(columns, axis=1)
        if self.texts:
            inputs |= encode_texts(self.texts, [raw.columns[self._position(raw, c.name)] for c in self.texts])
        return inputs

    def unseen_values(self, raw: Table) -> list[str]:
        """A line for each category column of `raw` that holds values never seen in training, which count as missing.

        And one for each column of numbers that is written otherwise than in training, or lies beyond it for the most part.
        """
        lines = [line for c in self.numbers if (line := self._how_read(raw, c))]
        lines += [line for c in self.numbers if (line := self._out_of_range(raw, c))]
        for c in self.categories:
            column, values = raw.columns[self._position(raw, c.name)].tolist(), {*c.values}
            rows = [
                i
                for i, value in enumerate(column)
                if value is not None and value not in values and c.spellings.get(folded(value)) not in values
            ]
            if rows:
                lines.append(f"columns: {c.name}: {len(rows):,} of {len(column):,} rows hold values never seen in training, "
                             f"{column[rows[0]]!r} first; they count as missing")  # fmt: skip
        return lines + [line for c in self.texts for line in c.unseen(raw.columns[self._position(raw, c.name)])]

    def _out_of_range(self, raw: Table, column: NumberColumn) -> str | None:
        """A line where most of a column lies beyond all that training had: in another unit, or read otherwise, perhaps."""
        values = self._values(raw, column)
        known, beyond = values[~np.isnan(values)], column.beyond(values)
        if 2 * len(beyond) <= len(known):
            return None
        low, high = column.extent()
        return (f"numbers: {column.name}: {len(beyond):,} of {len(known):,} values lie outside those of training ({low:.4g} to {high:.4g}), "
                f"{beyond[0]:.6g} first; are they in the same unit, and read as meant?")  # fmt: skip

    def _how_read(self, raw: Table, column: NumberColumn) -> str | None:
        """A line where a column is written otherwise than in training, or where it is open which sign is the decimal one."""
        position = self._position(raw, column.name)
        texts, found = raw.columns[position].tolist(), self._read(raw, column)
        if (
            found.format == column.format
            and not column.format.doubtful
            and not any("," in text or "." in text for text in texts if text)
        ):
            return None
        open_ones = None if raw.options.decimal_sign is not None else other_reading(texts, found)
        known = np.flatnonzero(~np.isnan(found.values))
        odd = [i for i in known.tolist() if as_number(texts[i]) is None or (open_ones and "." in texts[i])]
        if not len(known) or (found.format == column.format and open_ones is None):
            return None
        i = odd[0] if odd else int(known[0])
        told = f"{column.name}: {texts[i]!r} is {found.values[i]:.12g}"
        if open_ones is None:
            return f"numbers: written otherwise than in training, {told}"
        as_trained = found.format.decimal == column.format.decimal
        if (
            as_trained
            and not column.format.doubtful
            and (found.format.decimal in texts[i] or _fits_alone(column, found, open_ones))
        ):
            return None
        option = f"--read decimal={open_ones.format.decimal} for the other reading"
        return f"numbers: not clear, {told}{', as in training' * as_trained}; {option}"

    def _read(self, raw: Table, column: NumberColumn) -> ReadNumbers:
        """A column as it was written in training; where most of it lies beyond training then, and within by the other decimal
        sign, by that one. The user overrules both."""
        position = self._position(raw, column.name)
        found = raw.numbers_like(position, column.format)
        if raw.options.decimal_sign is not None or 2 * len(column.beyond(found.values)) <= np.sum(
            ~np.isnan(found.values)
        ):
            return found
        other = other_reading(raw.columns[position].tolist(), found)
        return other if other is not None and _fits_alone(column, other, found) else found

    def _position(self, raw: Table, name: str) -> int:
        if name not in raw.names:
            hint = suggestion(name, raw.names) or " Add it."
            raise DataError(f"{raw.path}: column {name!r} is missing; expected the columns the network was trained on: "
                            f"{', '.join(self.needed)}.{hint}")  # fmt: skip
        return raw.names.index(name)

    def _values(self, raw: Table, column: NumberColumn) -> np.ndarray:
        position = self._position(raw, column.name)
        found = self._read(raw, column)
        if len(found.strays) and not column.strays:
            i = int(found.strays[0])
            raise DataError(f"{raw.where(i)}, column {column.name}: {raw.columns[position][i]!r} is not a number; expected one"
                            f"{column.format.told}, as in training; correct it, or leave it empty")  # fmt: skip
        check_finite(raw, position)
        return found.values

    def _moments(self, raw: Table, column: DateColumn) -> Moments:
        position = self._position(raw, column.name)
        moments, strays = column.read(raw.columns[position])
        if len(strays) and not column.strays:
            i = int(strays[0])
            order = f" with the {'day' if column.order == DAY_FIRST else 'month'} first" if column.form == DATES else ""
            raise DataError(f"{raw.where(i)}, column {column.name}: {raw.columns[position][i]!r} is no {column.noun}; expected one{order}, as in "
                            "training; correct it, or leave it empty")  # fmt: skip
        return moments

    def encode_target(self, raw: Table) -> np.ndarray:
        """int64 class numbers or standardised float32 values (N,); DataError for a gap, or a label never seen in training."""
        position = self._position(raw, self.target_name)
        column = raw.columns[position]
        missing = next((i for i, value in enumerate(column) if value is None), None)
        if missing is not None:
            raise DataError(f"{raw.where(missing)}: the target {self.target_name} is missing; expected a value in every row to score; "
                            "fill it, or remove the row")  # fmt: skip
        if self.target_form.separator is not None:
            return self._encode_labels(raw, column.tolist(), self.target_form.separator)
        if self.classes is None:
            found = self._read_target(raw)
            gaps = np.flatnonzero(np.isin(found.values, self.target_form.sentinels))
            if len(gaps):
                raise DataError(f"{raw.where(int(gaps[0]))}: the target {self.target_name} is {column[gaps[0]]}, a gap in training; expected a "
                                "value in every row to score; fill it, or remove the row")  # fmt: skip
            bad = found.strays if len(found.strays) else np.flatnonzero(np.isnan(found.values))
            if len(bad):
                i = int(bad[0])
                raise DataError(f"{raw.where(i)}: the target {self.target_name} is {column[i]!r}; expected a number"
                                f"{self.target_form.format.told}; correct it, or remove the row")  # fmt: skip
            check_finite(raw, position)
            return ((found.values - self.mean) / self.std).astype(np.float32)
        number = {label: i for i, label in enumerate(self.classes)}
        forms = Counter(map(one_form, self.classes))
        spellings = {one_form(x): x for x in self.classes if x.isdecimal() and forms[one_form(x)] == 1}
        spellings |= self.target_form.spellings
        of_text = {text: label_text(text, self.strip_label) for text in set(column.tolist())}
        of_text = {
            text: x if x in number else spellings.get(folded(x), spellings.get(one_form(x), x))
            for text, x in of_text.items()
        }
        labels = [of_text[text] for text in column.tolist()]
        unseen = next((i for i, label in enumerate(labels) if label not in number), None)
        if unseen is not None:
            raise self._unseen(raw, unseen, labels)
        return np.array([number[label] for label in labels], dtype=np.int64)

    def _read_target(self, raw: Table) -> ReadNumbers:
        """The numbers of the target, read as in training; by the other decimal sign where that alone brings most near to them."""
        position = self._position(raw, self.target_name)
        found = raw.numbers_like(position, self.target_form.format)
        near = lambda read: (
            2 * np.sum(np.abs(read.values - self.mean) > FAR * self.std) <= np.sum(~np.isnan(read.values))
        )
        if raw.options.decimal_sign is not None or near(found):
            return found
        other = other_reading(raw.columns[position].tolist(), found)
        return other if other is not None and near(other) else found

    def target_notes(self, raw: Table) -> list[str]:
        """A line where the target of a table to score on is written otherwise than in training."""
        position = self._position(raw, self.target_name)
        if self.classes is not None or (found := self._read_target(raw)).format == self.target_form.format:
            return []
        i = int(np.flatnonzero(~np.isnan(found.values))[0])
        return [
            f"target: written otherwise than in training, {self.target_name}: {raw.columns[position][i]!r} is {found.values[i]:.12g}"
        ]

    def _encode_labels(self, raw: Table, values: list[str], separator: str) -> np.ndarray:
        """float32 (N, L), 1 for each label that a row has."""
        number = {label: i for i, label in enumerate(self.classes or [])}
        target = np.zeros((len(values), len(number)), dtype=np.float32)
        for i, value in enumerate(values):
            labels = [label for label in split_labels(value, separator) if label != self.target_form.no_label]
            unseen = next((label for label in labels if label not in number), None)
            if unseen is not None:
                raise self._unseen(raw, i, [*[""] * i, unseen])
            target[i, [number[label] for label in labels]] = 1
        return target

    def _unseen(self, raw: Table, first: int, labels: list[str]) -> DataError:
        classes = self.classes or []
        came = sorted(set(labels) - {""})
        ends = {label[len(c) :] for label in came if label not in classes for c in classes if label.startswith(c) and c}
        near = {c.lower(): c for c in classes}.get(labels[first].lower())
        fix = f" Did you mean {near!r}?" if near else suggestion(labels[first], classes)
        fix = f" Pass --strip-label {min(ends, key=len)}" if ends else fix
        return DataError(f"{raw.where(first)}: the label {labels[first]!r} of {self.target_name} was never seen in training; labels here: "
                         f"{_shown(came)}; expected those of training: {_shown(classes)}.{fix or ' Correct the labels.'}")  # fmt: skip

    def decode(self, output: np.ndarray) -> np.ndarray:
        """Standardised network outputs in the target's own units, float64."""
        return np.asarray(output, dtype=np.float64) * self.std + self.mean

    def to_json(self) -> dict[str, Json]:
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_json(cls, json: dict[str, Json]) -> TablePreprocessor:
        fields = plain_fields(json)
        fields["numbers"] = [_number_column(column) for column in fields["numbers"]]
        fields["dates"] = [
            DateColumn(**{**column, "parts": [_number_column(part) for part in column["parts"]]})
            for column in fields.get("dates", [])
        ]
        form = fields.get("target_form", {})
        fields["target_form"] = TargetForm(**{**form, "format": NumberFormat(**form.get("format", {}))})
        fields["categories"] = [CategoryColumn(**column) for column in fields["categories"]]
        fields["read_options"] = ReadOptions(**fields.get("read_options", {}))
        fields["texts"] = [TextColumn(**column) for column in fields.get("texts", [])]
        return cls(**fields)


def _fits_alone(column: NumberColumn, found: ReadNumbers, other: ReadNumbers) -> bool:
    """Whether most of `found` lies within training, and most of `other` beyond it."""
    inside, outside = ((2 * len(column.beyond(x.values)), np.sum(~np.isnan(x.values))) for x in (found, other))
    return bool(inside[0] <= inside[1] and outside[0] > outside[1])


def _number_column(fields: dict[str, Json]) -> NumberColumn:
    return NumberColumn(**{**fields, "format": NumberFormat(**fields.get("format", {}))})  # type: ignore[arg-type]


def _shown(labels: list[str]) -> str:
    return ", ".join(repr(label) for label in labels[:8]) + (f", ... ({len(labels)} in all)" if len(labels) > 8 else "")


def split_labels(value: str, separator: str) -> list[str]:
    """The labels of a row, each once."""
    return list(dict.fromkeys(part.strip() for part in value.split(separator) if part.strip()))


def label_text(value: str, strip: str | None) -> str:
    """A label as the class's name: `strip` taken from its end; whole numbers alike however written (1, 1.0, 1e0), but for codes (007)."""
    text = value.strip()
    if strip:
        text = text.removesuffix(strip).strip()
    number = None if CODE.fullmatch(text) else as_number(text)
    return str(int(number)) if number is not None and abs(number) < 1e15 and number == int(number) else text
