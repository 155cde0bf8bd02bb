"""Why the gradient of a weight is exactly zero, read off the places where it is used (floor 6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .chain_rule import Place, Tape, unit_at

MOST_PLACES = 64  # that are looked at one by one


def why_zero(tape: Tape, places: Sequence[Place], path: str) -> str:
    """In words: the input is 0, the unit is off, the loss does not see it, or its contributions cancel."""
    if not places:
        return f"nothing that the loss depends on reads it: this answer does not use this part of {path}"
    if any(place.contribution for place in places):
        return "its contributions are not zero, but they cancel exactly"
    if tape.flat:
        return "the loss is flat at this answer: its gradient with respect to the answer is 0"
    counts = Counter(_reason(tape, place) for place in places[:MOST_PLACES])
    if len(counts) == 1:
        where = f"at each of its {len(places)} places " if len(places) > 1 else ""
        return f"{where}{next(iter(counts))}"
    return "; ".join(f"at {count} of its places {reason}" for reason, count in counts.most_common())


def _reason(tape: Tape, place: Place) -> str:
    if not place.local:
        return "the input that it multiplies is 0"
    unit = unit_at(tape, place)
    if unit.blocked:
        return unit.blocked
    if not unit.slope:
        return "its unit is off: the slope of the activation is 0 there"
    return "the loss does not see its unit: every way on meets a unit that is off or a weight of 0"
