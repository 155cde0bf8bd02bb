"""Values of workbooks, JSON and data frames as the text that a CSV file would have (floor 4)."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

GONE = ("NaT", "<NA>")  # pandas' missing values


def as_text(values: Sequence[Any], booleans: tuple[str, str] = ("false", "true")) -> list[str]:
    """A column's values as text, "" where missing. booleans: how False and True are written.

    Dates and times are ISO; the time is left out where it is midnight in the whole column.
    """
    with_time = any(isinstance(v, datetime.datetime) and v.time() != datetime.time() for v in values)
    return [_one(value, booleans, with_time) for value in values]


def _one(value: Any, booleans: tuple[str, str], with_time: bool) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return booleans[value]
    if isinstance(value, datetime.date):  # datetimes too; pandas' NaT is one
        text = str(value)
        return (
            ""
            if text in GONE
            else text.removesuffix(" 00:00:00")
            if not with_time
            else text
            if " " in text
            else f"{text} 00:00:00"
        )
    if isinstance(value, datetime.timedelta):
        return str(value.total_seconds())
    text = str(value)
    return "" if text in GONE else text
