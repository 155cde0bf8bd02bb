"""Labels that are one but for blanks, case and leading zeros, and the words for yes and no (floor 4)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

YES = frozenset({"y", "yes", "true", "t", "1"})
NO = frozenset({"n", "no", "false", "f", "0"})
ONE_LETTER = YES | NO | {"m", "f"}  # of these, Y and y are one
OFTEN = 0.2  # the share of a letter's rarer spelling from which it may be meant


@dataclass(frozen=True)
class Merged:
    """What labels are one. names: those that change -> the name they take, their commonest spelling.

    spellings: by `folded` form, the name of every label that is not kept apart; empty where nothing is merged.
    apart: letters whose case may be meant, as a and A.
    """

    names: dict[str, str]
    spellings: dict[str, str]
    apart: list[list[str]]


def folded(label: str) -> str:
    """A label without case, and with one blank for several."""
    return " ".join(label.split()).casefold()


def one_form(label: str) -> str:
    """The form that all spellings of a label share: `folded`, without zeros before a whole number."""
    form = folded(label)
    return form.lstrip("0") or "0" if form.isdecimal() else form


def merge_labels(counts: Mapping[str, int]) -> Merged:
    """The labels, with how often each comes, that differ by blanks, case and leading zeros alone.

    Where all are words for yes and no, and more than two of them, they become two.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        groups[one_form(label)].append(label)
    two_valued = len(groups) > 2 and groups.keys() <= YES | NO and groups.keys() & YES and groups.keys() & NO
    if two_valued:
        groups = {"yes": [x for x in counts if folded(x) in YES], "no": [x for x in counts if folded(x) in NO]}
    names: dict[str, str] = {}
    spellings: dict[str, str] = {}
    apart: list[list[str]] = []
    for form, labels in groups.items():
        commonest = max(labels, key=lambda label: (counts[label], label))
        if not two_valued and _may_be_meant(form, [counts[label] for label in labels]):
            apart.append(sorted(labels))
            continue
        names |= {label: commonest for label in labels if label != commonest}
        spellings |= {folded(label): commonest for label in labels}
    return Merged(names, spellings if names else {}, apart)


def _may_be_meant(form: str, counts: list[int]) -> bool:
    """Whether the spellings of a single letter may be two labels: both come often."""
    return (
        len(counts) > 1
        and len(form) == 1
        and form.isalpha()
        and form not in ONE_LETTER
        and min(counts) >= OFTEN * sum(counts)
    )


def merged_counts(counts: Mapping[str, int], merged: Merged) -> Counter[str]:
    """How often each label comes once they are merged."""
    total: Counter[str] = Counter()
    for label, count in counts.items():
        total[merged.names.get(label, label)] += count
    return total
