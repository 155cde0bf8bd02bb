"""Headers that are no plain row of names: names that come twice, and a second row of names or units below the first (floor 4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .delimited import MISSING, MISSING_INPUT, as_number

LEAST_BELOW = 3  # rows below two rows of header
MOSTLY = 0.9  # of the fields below, that are numbers, in a column of numbers
NO_HEADER = "--no-header if the first row is data"


def unique_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of columns, the second `x` as `x.2` and so on, and a note where there are such."""
    counts, taken = Counter(names), set(names)
    seen: Counter[str] = Counter()
    found, changed = [], []
    for name in names:
        seen[name] += 1
        own, number = name, seen[name]
        while seen[name] > 1 and own in taken:
            own, number = f"{name}.{number}", number + 1
        taken.add(own)
        found.append(own)
        if own != name:
            changed.append(f"{own[:30]!r} in column {len(found)}")
    if not changed:
        return found, []
    first = next(name for name in names if counts[name] > 1)
    more = f", {len(changed) - 2} more" if len(changed) > 2 else ""
    return found, [
        f"file: the header has {first[:30]!r} {counts[first]} times, read as {', '.join(changed[:2])}{more}; {NO_HEADER}"
    ]


@dataclass(frozen=True)
class TwoRows:
    """A header of two rows: the names to use, and a note on what was done with the other row."""

    names: list[str]
    note: str


def two_rows(sample: Sequence[Sequence[str]]) -> TwoRows | None:
    """What a header of two rows names, of the first records of a file; None where the second one is data.

    It is no data where, in each column that holds numbers below it, it is text or blank, and text in most. Then the row that
    names every column otherwise than all others is used, else both together.
    """
    width = len(sample[0])
    first, second, below = (
        sample[0],
        sample[1] if len(sample) > 1 else [],
        [row for row in sample[2:] if len(row) == width],
    )
    if len(second) != width or len(below) < LEAST_BELOW:
        return None
    numbers = [k for k in range(width) if _is_numbers([row[k] for row in below])]
    words = [second[k] for k in numbers if second[k].lower() not in MISSING_INPUT]
    again = list(first) == list(second)
    if any(as_number(first[k]) is not None for k in numbers):
        return None
    if any(as_number(word) is not None for word in words) or (len(words) < max(2, len(numbers) / 2) and not again):
        return None
    shown = ", ".join(word[:12] for word in second if word)[:30]
    if _names_all(first):
        return TwoRows(
            list(first), f"file: a second row of header, {shown!r}, skipped; --read header=1 reads it as data"
        )
    above = ", ".join(word[:12] for word in first if word)[:30]
    if _names_all(second):
        return TwoRows(
            list(second), f"file: the first row of header, {above!r}, skipped, as the second names all columns"
        )
    names, group = [], ""
    for upper, lower in zip(first, second, strict=True):
        group = upper or group
        names.append(" ".join(filter(None, (group, lower))))
    return TwoRows(names, f"file: two rows of header, read together, as {names[-1][:40]!r}")


def _is_numbers(fields: Sequence[str]) -> bool:
    present = [field for field in fields if field.lower() not in MISSING]
    return bool(present) and sum(as_number(field) is not None for field in present) >= MOSTLY * len(present)


def _names_all(row: Sequence[str]) -> bool:
    return len(set(row)) == len(row) and all(row)
