"""Cells that say where a number lies: `<7`, `51+`, `15-25`, `(0, 10]`, cut into the numbers that they are made of (floor 4).

Which columns are so written, and how each number is read, is decided in `number_format.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BELOW = r"<=|=<|<|≤|under|below|less than|up to|at most"
ABOVE = r">=|=>|>|≥|over|above|more than|at least"
AND_ABOVE = r"(?:and|or|&) (?:over|above|older|more|up|later|higher|greater)"
NUMBER = r"[^\d<>+-]{0,5}-?[.,]?\d[\d.,']*[^\d<>+-]{0,15}"

ONE_SIDE = re.compile(rf"(?:(?P<below>{BELOW})|(?P<above>{ABOVE})) ?(?P<number>[-+]?{NUMBER})", re.IGNORECASE)
FROM = re.compile(rf"(?P<number>[^\d<>+-]{{0,5}}\d[\d.,']*[^\d<>+-]{{0,15}}?) ?(?:\+(?P<unit>[^\d<>+-]{{0,15}})|{AND_ABOVE})", re.IGNORECASE)  # fmt: skip
BETWEEN = re.compile(rf"(?P<low>-?{NUMBER}?) ?(?:-|\bto\b|\.\.\.?) ?(?P<high>-?{NUMBER})", re.IGNORECASE)
BRACKETS = re.compile(r"[\[(](?P<low>[^,;]*)[,;] (?P<high>[^,;]*)[\])]")
LONGEST = 60  # characters of a cell
DASHES = str.maketrans("–—−‒", "----")


@dataclass(frozen=True)
class Limit:
    """Where a number lies: below, from on, or between one and another.      low, high: text, None where it is open."""

    low: str | None
    high: str | None


def cut_limit(text: str) -> Limit | None:
    """The limits that a cell names, as text; None for any other cell."""
    if len(text) > LONGEST:
        return None
    text = " ".join(text.translate(DASHES).split())
    if found := ONE_SIDE.fullmatch(text):
        return Limit(None, found["number"]) if found["below"] else Limit(found["number"], None)
    if found := FROM.fullmatch(text):
        return Limit(found["number"] + (found["unit"] or ""), None)
    if found := BRACKETS.fullmatch(text) or BETWEEN.fullmatch(text):
        return Limit(found["low"].strip(), found["high"].strip())
    return None


def place(low: float | None, high: float | None) -> float | None:
    """The number for a place between limits: its middle, half of an upper limit above zero, a lower limit itself."""
    if low is not None and high is not None:
        return low + (high - low) / 2 if low <= high else None
    if high is not None:
        return high / 2 if high > 0 else high
    return low
