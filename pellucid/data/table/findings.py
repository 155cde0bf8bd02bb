"""What was found in the cells of a table and decided, told in one line for each kind of decision (floor 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

WIDTH = 110  # characters of a note, about


@dataclass(frozen=True)
class Findings:
    """Facts about columns, in the order of the table. Each list becomes one note at most."""

    written: list[str] = field(default_factory=list)  # "Price '$1,234.00' is 1234"
    doubtful: list[str] = field(default_factory=list)  # "Units '1,234' is 1234"
    doubtful_comma: list[str] = field(default_factory=list)  # the same, read with a decimal comma
    limits: list[str] = field(default_factory=list)  # "age '<7' is 3.5"
    zeros: list[str] = field(default_factory=list)  # "zip '01234' is 1234"
    gaps: list[str] = field(default_factory=list)  # "dose: 'unknown' in 2 rows"
    sentinels: list[str] = field(default_factory=list)  # "age: -999 in 12 rows"
    lonely: list[str] = field(default_factory=list)  # the same, too seldom to be sure
    mixed: list[str] = field(default_factory=list)  # "temp '20C' and '68F'"
    gap_classes: list[str] = field(default_factory=list)  # "y: -999 in 12 rows"
    dates: list[str] = field(default_factory=list)  # "start '11.09.2019' is 2019-09-11"
    date_doubts: list[str] = field(default_factory=list)  # "start '03/04/2021' is 2021-03-04"
    doubtful_days: list[str] = field(default_factory=list)  # the same, read day first
    zones: list[str] = field(default_factory=list)  # "start has +01:00 and Z"
    date_targets: list[str] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)  # "Species: 'adelie' and 'ADELIE' are 'Adelie'"
    texts: list[str] = field(default_factory=list)  # whole notes on columns of text
    apart: list[str] = field(default_factory=list)  # "grade: 'a' and 'A'"

    def facts(self) -> list[str]:
        """All facts but whole notes, with the names of their columns, in no particular order."""
        return [fact for each in fields(self) if each.name != "texts" for fact in getattr(self, each.name)]

    def notes(self) -> list[str]:
        """The notes, each of about WIDTH characters, with the option that overrules it."""
        lines = (
            ("numbers: ", self.written, "; --read exact=NAME for text"),
            ("numbers: not clear, ", self.doubtful, "; --read decimal=, for the other reading"),
            ("numbers: not clear, ", self.doubtful_comma, "; --read decimal=. for the other reading"),
            ("numbers: limits, ", self.limits, "; --read exact=NAME for text"),
            ("numbers: leading zeros, ", self.zeros, "; --read exact=NAME for categories"),
            ("numbers: gaps, ", self.gaps, "; --read exact=NAME for text"),
            ("numbers: gaps, far from all others, ", self.sentinels, "; --read exact=NAME for numbers"),
            ("numbers: not clear, far from all others, ", self.lonely, "; --read missing=NUMBER if it is a gap"),
            ("columns: units mixed, so categories, ", self.mixed, "; write one unit"),
            ("labels: classes that may be gaps, ", self.gap_classes, "; --read missing=WORD leaves them out"),
            ("dates: ", self.dates, "; --read exact=NAME for text"),
            ("dates: not clear, ", self.date_doubts, "; --read dates=dayfirst for the other order"),
            ("dates: not clear, ", self.doubtful_days, "; --read dates=monthfirst for the other order"),
            ("dates: ", self.zones, "; hours as written, days by UTC; --read exact=NAME"),
            ("dates: the target is learned as a plain number, ", self.date_targets, "; choose another --target"),
            ("labels: ", self.merged, "; --read exact=NAME to keep apart"),
            ("labels: kept apart, though but for case one, ", self.apart, "; rename them if they are one"),
        )
        told = [start + _as_fits(items, WIDTH - len(start) - len(end)) + end for start, items, end in lines if items]
        return told + self.texts


def _as_fits(items: Sequence[str], width: int) -> str:
    """As many items as fit the width, one at least, and how many there are."""
    for count in range(len(items), 1, -1):
        text = ", ".join(items[:count]) + (f", ... ({len(items)} in all)" if count < len(items) else "")
        if len(text) <= width:
            return text
    return items[0] + (f", ... ({len(items)} in all)" if len(items) > 1 else "")


def shown_cell(text: str) -> str:
    """A cell in quotes, cut where it is long."""
    return repr(text if len(text) <= 24 else text[:23] + "…")


def rows_told(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"
