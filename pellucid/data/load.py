"""DATA, as the command line takes it, turned into a data module: a known name, or the path of a file, folder or archive.

Which kind it is, each kind in the registry says for itself (floor 4). What is decided on the way stands in the module's
notes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import DataError, OptionError, names_of
from .base import Content, DataKind, OptionValue, PredictionForm, Source
from .datasets import find, locate, unknown
from .description import Description, sorted_notes
from .kinds import KINDS, check_accepted, check_option_names, data_options, recognise
from .problem import DataModule

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
GITHUB_PAGE = re.compile(r"https?://github\.com/([^/]+/[^/]+)/blob/(.+)")  # shows a file in a page


def load_problem(spec: str, *, seed: int = 0, path: str | None = None, **options: OptionValue) -> DataModule:
    """The data module of `spec`: a name from the catalogue, or the path of a table, text, folder or archive.

    seed: of the split. options: those of `kinds.data_options()`; None is as good as left out.
    path: where `spec` was found at first, so that `load_problem(**data.source)` loads it again from any folder.
    Raises DataError or OptionError with the file, line or option, and what to do.
    """
    kind, source = find_source(spec, seed=seed, path=path, **options)
    data = kind.load(source)
    for note in _shadowed(source):
        data.notes.append(note)
    return data


def describe_source(spec: str, *, seed: int = 0, **options: OptionValue) -> Description:
    """What is found in `spec`, and what training would decide of it, without training: columns, classes, splits, all notes.

    The arguments are those of `load_problem`; of a table without `target`, there are its columns and what looks like a target.
    `str()` of the result is a page of text, `to_dict()` plain JSON. Raises DataError or OptionError where data cannot be read
    at all; where they can be read, but not learned from, `Description.refusal` says why.
    """
    kind, source = find_source(spec, seed=seed, **options)
    found = kind.describe(source)
    shadowed = _shadowed(source)
    return replace(found, notes=tuple(sorted_notes([*found.notes, *shadowed]))) if shadowed else found


def find_source(
    spec: str, *, seed: int = 0, path: str | None = None, **options: OptionValue
) -> tuple[DataKind, Source]:
    """The kind of `spec` and where it is loaded from, with the options checked. The arguments are those of `load_problem`."""
    given = {name: value for name, value in options.items() if value is not None}
    check_option_names(given)
    for name, option in data_options().items():
        if list in option.types and name in given:
            given[name] = list(names_of("load_problem", name, given[name]))
    given = {name: value for name, value in given.items() if value != []}
    _refuse_url(spec)
    dataset = find(spec)
    record = {**given, "spec": spec, "seed": seed}
    if dataset is not None:
        kind = KINDS[dataset.kind]
        source = Source(dataset.name, [], dict(given), record, dataset)
        check_accepted(given, kind.accepted_options(source), kind, dataset.name)
        source.paths = list(locate(dataset).values())
        return kind, source
    place = Path(path or spec).expanduser()
    if not spec or not _exists(place):
        raise unknown(spec)
    content = Content.of(place)
    kind = recognise(content, given)
    _refuse_single_file(content, kind)
    name, paths = kind.open(content)
    source = Source(name, paths, dict(given), {**record, "path": str(place.resolve())})
    check_accepted(given, kind.accepted_options(source), kind, spec)
    return kind, source


def _shadowed(source: Source) -> list[str]:
    """A note where a file or folder is called as the data set known by name that was taken."""
    path = Path(source.name)
    if source.dataset is None or not _exists(path):
        return []
    what = "folder" if path.is_dir() else "file"
    return [f"file: {path} is the data set of that name, not the {what} here; write ./{path} for that"]


def open_source(spec: str, kind: DataKind, seed: int = 0, read: str | None = None) -> Source:
    """Data of a known kind, to predict for or to score on: a name from the catalogue, or a path.

    read: the option of that name, over what is kept of training. Raises DataError for a data set of another kind.
    """
    _refuse_url(spec)
    if read is not None and all(option.name != "read" for option in kind.options):
        raise OptionError(
            f"--read {read}: the run learned from {kind.container}; expected it with tables and texts; leave it out"
        )
    dataset = find(spec)
    record = {"spec": spec, "seed": seed}
    if dataset is None:
        path = Path(spec)
        return Source(path.name, [path], {} if read is None else {"read": read}, record)
    if dataset.kind != kind.name:
        raise DataError(
            f"{spec}: a data set of kind {dataset.kind}; expected {kind.container}, as in training; name such data"
        )
    return Source(dataset.name, list(locate(dataset).values()), record=record, dataset=dataset)


def _refuse_single_file(content: Content, kind: DataKind) -> None:
    """Raise DataError for one example where a folder of them is needed."""
    if not content.is_file or kind.prediction is PredictionForm.FILES:
        return
    for other in KINDS.values():
        if other.prediction is PredictionForm.FILES and content.share(other.endings) == 1:
            raise DataError(f"{content.path}: a {other.noun}; expected a table, a text, or {other.container}, a folder for each class; "
                            f"for one {other.noun}, use pellucid predict RUN {content.path}")  # fmt: skip


def _refuse_url(spec: str) -> None:
    """Raise DataError for an address, with the command that fetches what lies there."""
    if not URL.match(spec):
        return
    if spec.startswith("file://"):
        raise DataError(f"{spec}: an address; expected a path; write {spec.removeprefix('file://')}")
    page = GITHUB_PAGE.match(spec)
    address = f"https://raw.githubusercontent.com/{page[1]}/{page[2]}" if page else spec
    name = Path(urlsplit(address).path).name or "data.csv"
    fetch = (
        f"curl -L -o {name} '{address}'"
        if address.startswith(("http", "ftp"))
        else "copy it with that store's own program"
    )
    raise DataError(f"{spec}: the address of a file elsewhere; expected a file on this machine, as pellucid fetches no data by itself; first: "
                    f"{fetch}; then name {name}")  # fmt: skip


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a NUL
        return False
