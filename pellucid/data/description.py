"""What is found in data and what training would decide of them, without training: the result of `describe` (floor 4).

Each kind of data adds what it knows (`DataKind.describe`); what all kinds share is made here from the data module. The page of
text is laid out in `description_text.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import DataError
from ..files import Json
from .description_text import page, shell_word
from .problem import SPLITS, DataModule, Examples

# In the order in which notes of a kind are told; each note begins with its kind.
KINDS_OF_NOTES = ("leak", "file", "target", "labels", "rows", "split", "columns", "numbers", "dates", "weights")


@dataclass(frozen=True)
class ColumnDescription:
    """A column of a table.

    role: "target", "number", "category", "date", "time", "text", "identifier", "group", "weights", "constant", "empty",
    "series", "left out" ... reading: how its cells are read, or why it is left out; "" where there is nothing to say.
    gaps: cells without a value. distinct: different values. examples: of them, as they stand in the file.
    """

    name: str
    role: str
    reading: str
    gaps: int
    distinct: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Description:
    """What was found in data, and what training would decide.

    title: what the data are, "a table of separate rows". rows: of a table, all of them, with a target or not.
    facts: name -> what is told of it. splits: how many examples each has, or other units. classes: how many examples each class or label has.
    candidates: columns that look like a target, and why. notes: all that training would say, those of a kind together.
    refusal: why training would refuse the data; "" where it would not. next: the command to try next.
    """

    data: str
    kind: str
    title: str
    rows: int | None = None
    columns: tuple[ColumnDescription, ...] = ()
    target: str | None = None
    task: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
    candidates: Mapping[str, str] = field(default_factory=dict)
    units: str = "examples"
    notes: tuple[str, ...] = ()
    refusal: str = ""
    next: str = ""

    def text(self, width: int = 100) -> str:
        """A page, no line of it wider than `width` characters, the command to paste apart."""
        return page(self, width)

    def __str__(self) -> str:
        return self.text()

    def to_dict(self) -> dict[str, Json]:
        """All of it as plain JSON."""
        return asdict(self)


def kind_of_note(note: str) -> str:
    """What a note is about, `split` of "split: by class" and of "split 70/15/15"."""
    word = note.split(":")[0].split(" ")[0]
    return "columns" if word == "column" else word


def sorted_notes(notes: Sequence[str]) -> list[str]:
    """The notes with those of a kind together, and first what may make a score untrue."""
    place = {kind: i for i, kind in enumerate(KINDS_OF_NOTES)}
    return sorted(notes, key=lambda note: place.get(kind_of_note(note), len(place)))


def describe_module(title: str, data: DataModule, record: Mapping[str, Any], **more: Any) -> Description:
    """What a data module says of itself. record: what the user said, as in `Source.record`. more: fields of the description."""
    facts = {**_facts(data), **more.pop("facts", {})}
    return Description(
        str(record["spec"]),
        data.kind,
        title,
        target=data.preprocessor.target_name,
        task=data.task,
        facts=facts,
        classes=class_counts(data),
        splits={split: len(getattr(data, split)) for split in SPLITS},
        units="examples" if isinstance(data.train, Examples) else "tokens",
        notes=tuple(sorted_notes([_about_data(note, data.name) for note in data.notes])),
        next=train_command(record),
        **more,
    )


def _about_data(note: str, name: str) -> str:
    """A note that begins with the name of the data, as one of the kind `data`."""
    return f"data:{note.removeprefix(f'{name}:')}" if note.startswith(f"{name}:") else note


def class_counts(data: DataModule) -> dict[str, int]:
    """How many examples of all splits each class or label has; {} where there are none."""
    names = data.preprocessor.classes
    if names is None:
        return {}
    targets = [part.target for split in SPLITS if isinstance(part := getattr(data, split), Examples)]
    counts = sum(own.sum(0).astype(int) if own.ndim == 2 else np.bincount(own, minlength=len(names)) for own in targets)
    return dict(zip(names, np.asarray(counts).tolist(), strict=True))


def _facts(data: DataModule) -> dict[str, str]:
    """The spread of a target of numbers, over all splits."""
    if data.task not in ("regression", "counts") or not isinstance(data.train, Examples):
        return {}
    parts = [data.examples(split) for split in SPLITS]
    first = next(iter(parts[0].inputs))
    decoded = [data.preprocessor.decode_for(part.target, [part.inputs[first]]) for part in parts]
    ends = np.quantile(np.concatenate(decoded), (0, 0.5, 1))
    ends[np.abs(ends) < 1e-6 * np.abs(ends).max()] = 0  # targets are float32
    low, middle, high = ends.tolist()
    return {"values": f"{low:.6g} to {high:.6g}, median {middle:.6g}"}


def or_refusal(build: Callable[[], Description], otherwise: Callable[[], Description]) -> Description:
    """What `build` says; where the data cannot be learned from, what `otherwise` says, with the reason."""
    try:
        return build()
    except DataError as error:
        return replace(otherwise(), refusal=str(error), next="mend the data, or follow the advice above")


def train_command(record: Mapping[str, Any], **more: Any) -> str:
    """`pellucid train` with the options of a data module's source. more: further ones."""
    words = ["pellucid train", shell_word(str(record.get("spec", "DATA")))]
    for name, value in {**record, **more}.items():
        if name in ("spec", "path") or (name == "seed" and not value):
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{name}")
        else:
            words += [flag, shell_word(",".join(value) if isinstance(value, list | tuple) else str(value))]
    return " ".join(words)
