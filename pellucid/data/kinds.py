"""The registry of kinds of data (floor 4). A new kind is a folder beside this file and one line in `KINDS`.

The command line's options, `load.py`, the predictor and saved runs read this list.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import DataError, OptionError, StateError, suggestion
from ..files import Json
from .audio.kind import AudioKind
from .base import Content, DataKind, DataOption, OptionValue
from .image.kind import ImageKind
from .problem import Preprocessor
from .series.kind import SeriesKind
from .table.kind import TableKind
from .text.kind import TextKind

# In the order in which they are asked whether data are theirs.
KINDS: dict[str, DataKind] = {
    kind.name: kind for kind in (AudioKind(), ImageKind(), TextKind(), SeriesKind(), TableKind())
}

RENAMED = {"images": "image", "pictures": "image"}  # kinds of earlier versions


def kind_named(name: str) -> DataKind:
    """Raises StateError for a kind that this version does not have."""
    if name in KINDS:
        return KINDS[name]
    if name in RENAMED:
        raise StateError(f"kind of data {name!r}: the run is of an earlier version of pellucid, where images of kind {RENAMED[name]!r} were "
                         "called so; expected a run of this version; train it again")  # fmt: skip
    raise StateError(
        f"kind of data {name!r}; expected one of {', '.join(KINDS)}; the run is of another version of pellucid"
    )


def data_options() -> dict[str, DataOption]:
    """Every option about data by its name; kinds that share one share the object."""
    return {option.name: option for kind in reversed(KINDS.values()) for option in kind.options}


def check_option_names(options: Mapping[str, OptionValue]) -> None:
    """Raise OptionError for a name that is no option of data, or a value that is not among an option's choices."""
    known = data_options()
    for name, value in options.items():
        if name not in known:
            raise OptionError(
                f"{name}: no such option about data; expected one of {', '.join(known)}.{suggestion(name, known)}"
            )
        choices = known[name].choices
        if choices and value not in choices:
            words = " or ".join(choices)
            raise OptionError(f"--{name} {value}: no such {name}; expected {words}.{suggestion(str(value), choices)}")


def check_accepted(options: Mapping[str, OptionValue], accepted: tuple[str, ...], kind: DataKind, spec: str) -> None:
    """Raise OptionError for the first option that the data `spec`, of this kind, do not take."""
    for name in options:
        if name not in accepted:
            others = [other for other in KINDS.values() if any(option.name == name for option in other.options)]
            container = others[-1].container
            raise OptionError(
                f"--{name.replace('_', '-')}: {spec} holds {kind.title}; expected {container} with this option; leave it out"
            )


def recognise(content: Content, options: Mapping[str, OptionValue]) -> DataKind:
    """The kind of what lies at a path. Raises DataError where it is of none."""
    for kind in KINDS.values():
        if kind.recognises(content, options):
            return kind
    path, names = content.path, content.names
    if not content.path.is_dir():
        return KINDS["image"]  # an archive, which then says what is missing in it
    forms = [kind.folder_form for kind in KINDS.values() if kind.endings]
    expected = f"{', '.join(forms[:-1])}, or {forms[-1]}"
    if not names:
        raise DataError(f"{path}: the directory is empty; expected {expected}; name what to learn from")
    counts = content.counts({kind.name: kind.endings for kind in KINDS.values() if kind.endings})
    listing = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
    if counts.keys() == {"table"}:
        raise DataError(f"{path}: {listing} files ({', '.join(names[:5])}); expected one; name the table to learn from")
    raise DataError(f"{path}: {listing} files; expected one kind: {expected}; name the file to learn from")


def preprocessor_from_json(json: Json) -> Preprocessor:
    """The preprocessor that `to_json` described. Raises StateError for one that this version cannot read."""
    fields = json if isinstance(json, dict) else {}
    kind = kind_named(str(fields.get("kind")))
    try:
        return kind.preprocessor.from_json(fields)
    except (TypeError, KeyError, ValueError):
        raise StateError(f"preprocessor of kind {kind.name!r}: its fields are not those this version writes; the run's config.json is "
                         "damaged, or of another version of pellucid; restore it from a copy") from None  # fmt: skip
