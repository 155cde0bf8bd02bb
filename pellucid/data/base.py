"""The interface of a kind of data: how it is recognised, its options, how it is loaded, predicted for and shown (floor 4).

Each kind is one class that extends `DataKind`, in a folder beside this file; `kinds.py` lists them. The command line,
the predictor and `load.py` read that list and treat all kinds alike.
"""

from __future__ import annotations

import functools
import operator
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from .datasets import Dataset
from .description import Description, describe_module
from .folders import first_members, is_archive
from .problem import DataModule, Inputs, Preprocessor
from .table.read import Table

OptionValue = Any  # text, a number, a flag or a list of names, as `DataOption.types` says


class PredictionForm(Enum):
    """What a run answers with, and so how `pellucid predict` shows it."""

    ROWS = "rows"  # the table that came, with a prediction beside each row
    FILES = "files"  # a class for each file
    FORECAST = "forecast"  # the steps that follow a series
    TEXT = "text"  # the likelihood of a text


@dataclass(frozen=True)
class DataOption:
    """An option about the data: `--strip-label TEXT` on the command line, `strip_label = "TEXT"` in a --config file.

    types: of its value. (bool,) is a flag, (int,) a whole number from 1, (int, float) a number, and
    types with `list` in them take names.
    choices: the words allowed, where they are few. negatable: a flag that has a --no-... too.
    heading: under which `--help-all` lists it. common: whether `--help` does too.
    """

    name: str
    types: tuple[type, ...]
    help: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    negatable: bool = False
    heading: str = "Data"
    common: bool = False

    @property
    def hint(self) -> Any:
        """The type of its value as a saved run has it."""
        return list[str] if list in self.types else functools.reduce(operator.or_, self.types)


@dataclass(frozen=True)
class Content:
    """What lies at a path: the names of its files, those of a folder or archive included, hidden ones apart.

    names: of an archive the first thousand members, which show what is in it.
    """

    path: Path
    names: tuple[str, ...]

    @classmethod
    def of(cls, path: Path) -> Content:
        """Raises DataError for a folder or archive that cannot be read."""
        return cls(path, tuple(first_members(path)))

    @property
    def is_file(self) -> bool:
        """Whether it is one file and no archive."""
        return not self.path.is_dir() and not is_archive(self.path)

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    @property
    def stem(self) -> str:
        """What runs are named after: `people` of `people.csv.gz`, the name of a folder."""
        return self.path.resolve().name if self.path.is_dir() else self.path.name.split(".")[0] or "data"

    @property
    def files(self) -> list[Path]:
        """The file itself, or those of a folder."""
        return [self.path / name for name in self.names] if self.path.is_dir() else [self.path]

    def share(self, endings: frozenset[str]) -> float:
        """The share of the files whose names end so; 0 where there are none."""
        return sum(ending(name) in endings for name in self.names) / max(len(self.names), 1)

    def counts(self, kinds: Mapping[str, frozenset[str]]) -> Counter[str]:
        """How many files there are of each kind, by their endings; "other" for all others."""
        return Counter(
            next((kind for kind, endings in kinds.items() if ending(name) in endings), "other") for name in self.names
        )


def ending(name: str) -> str:
    """`.csv` of `people.csv` and of `people.CSV.gz`."""
    stem, last = os.path.splitext(name.lower())
    return os.path.splitext(stem)[1] if last == ".gz" else last


@dataclass
class Source:
    """Where data come from.

    name: what runs on them are named after. paths: one file, folder or archive, or the files of a data set known by name.
    options: what the user said, over what that data set brings. record: plain JSON, `load_problem(**record)` loads the
    same data again; a kind may complete it.
    """

    name: str
    paths: list[Path]
    options: dict[str, OptionValue] = field(default_factory=dict)
    record: dict[str, OptionValue] = field(default_factory=dict)
    dataset: Dataset | None = None

    @property
    def path(self) -> Path:
        return self.paths[0]

    @property
    def spec(self) -> str:
        """The data as the user named them."""
        return str(self.record.get("spec", self.path))

    @property
    def seed(self) -> int:
        """What the split is drawn from."""
        return int(self.record.get("seed", 0))


@dataclass
class NewExamples:
    """Encoded examples from outside training: to predict for, or to score on where `target` is there.

    inputs: arrays (N, ...) by name. names: of each row or file. view(i): what the network sees of example i, as an image
    uint8 (H, W) or (H, W, 3). table: the rows that came in. target: encoded (N,), with the `weight` of each, where
    rows have weights. notes: what was left out.
    """

    inputs: Inputs
    names: list[str]
    view: Callable[[int], np.ndarray] | None = None
    table: Table | None = None
    target: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    weight: np.ndarray | None = None


P = TypeVar("P", bound=Preprocessor)


class DataKind(ABC, Generic[P]):
    """A kind of data. One instance stands in `kinds.KINDS`; it has no state."""

    name: ClassVar[str]  # "table"; recipes are called FAMILY-NAME
    title: ClassVar[str]  # what such data are, for messages: "a table of separate rows"
    container: ClassVar[str]  # what a user gives: "a table"
    folder_form: ClassVar[str]  # what a folder of such data holds: "a table"
    noun: ClassVar[str]  # one example: "row", "picture"
    endings: ClassVar[frozenset[str]] = frozenset()  # of its files
    options: ClassVar[tuple[DataOption, ...]] = ()
    default_family: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]  # what it is encoded as; families say in INPUTS what they take
    prediction: ClassVar[PredictionForm]
    preprocessor: ClassVar[type[Preprocessor[Any]]]

    @abstractmethod
    def recognises(self, content: Content, options: Mapping[str, OptionValue]) -> bool:
        """Whether what lies at a path is of this kind, the user's options considered."""

    @abstractmethod
    def load(self, source: Source) -> DataModule:
        """The data, split and encoded. Raises DataError or OptionError with the file, line or option, and what to do."""

    def describe(self, source: Source) -> Description:
        """What is found in the data and decided of them, without training. Raises as `load` does, where nothing can be said."""
        record = {**source.record}
        return describe_module(self.title, self.load(source), record)

    def family_for(self, data: DataModule) -> str:
        """The family that learns from `data` where the user names none."""
        return self.default_family

    def read_new(self, preprocessor: P, sources: Sequence[Source]) -> NewExamples:
        """Examples to predict for, read as those of training were; not for kinds that predict TEXT. Raises DataError."""
        raise NotImplementedError(f"{type(self).__name__} does not define read_new(preprocessor, sources)")

    def read_in_parts(
        self, preprocessor: P, sources: Sequence[Source], labelled: bool = False
    ) -> Iterator[NewExamples]:
        """`read_new` or `read_labelled`, one part after another where memory would not hold all: by default all at once."""
        yield self.read_labelled(preprocessor, sources[0]) if labelled else self.read_new(preprocessor, sources)

    def read_labelled(self, preprocessor: P, source: Source) -> NewExamples:
        """Examples with targets, to score on: the test split where `source` has one; not for kinds that predict TEXT.

        Raises DataError.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define read_labelled(preprocessor, source)")

    def earlier_source(self, source: dict[str, OptionValue], preprocessor: Mapping[str, Any]) -> dict[str, OptionValue]:
        """What `load_problem` needs to load the data of a run of an earlier version as they were: by default `source` as it is.

        source: the arguments that the run has. preprocessor: as the run has it.
        """
        return source

    def open(self, content: Content) -> tuple[str, list[Path]]:
        """What runs are named after, and the paths to load from: by default the file, folder or archive as it is."""
        return content.stem, [content.path]

    def accepted_options(self, source: Source) -> tuple[str, ...]:
        """The names of the options that `source` takes: all of this kind's, unless a kind says otherwise."""
        return tuple(option.name for option in self.options)
