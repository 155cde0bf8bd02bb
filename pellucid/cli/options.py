"""Option types and helpers that several commands use (floor 7)."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import click

from ..errors import OptionError
from ..evaluation.formatting import BASELINE_NAMES, value_text
from ..evaluation.metrics import Metrics, primary_metric
from ..files import plain


class Numbers(click.ParamType):
    """`128,64` as (128, 64); `none` as no hidden layer at all."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if not isinstance(value, str):
            return tuple(value)
        if value.strip().lower() == "none":
            return ()
        parts = [part.strip() for part in value.split(",")]
        if not all(re.fullmatch(r"[0-9]+", part) for part in parts) or not all(int(part) for part in parts):
            self.fail(
                f"{value!r}; expected whole numbers from 1, the size of each hidden layer; write 128,64", param, ctx
            )
        return tuple(int(part) for part in parts)


class Names(click.ParamType):
    """`A,B` as ("A", "B"); `what` they name, and an `example` of them, are for the message where there is none."""

    name = "A,B"

    def __init__(self, what: str = "columns", example: str = "age,city") -> None:
        self.what, self.example = what, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if not isinstance(value, str):
            return tuple(value)
        names = tuple(part.strip() for part in value.split(",") if part.strip())
        if not names:
            self.fail(
                f"{value!r}; expected names of {self.what}, with commas between; write {self.example}", param, ctx
            )
        return names


class Whole(click.ParamType):
    """A whole number from `least`."""

    name = "N"

    def __init__(self, least: int = 1) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).strip()
        if not re.fullmatch(r"[+-]?[0-9]+", text) or int(text) < self.least:
            self.fail(f"{value!r}; expected a whole number from {self.least}", param, ctx)
        return int(text)


class Number(click.ParamType):
    """A finite number."""

    name = "X"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r}; expected a number; write 0.001", param, ctx)


class CtrlC:
    """While inside, Ctrl-C is only noted in `heard`; a second one interrupts at once."""

    def __init__(self) -> None:
        self.heard = False
        self.before: Any = None

    def __enter__(self) -> CtrlC:
        if threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.heard:
            raise KeyboardInterrupt
        self.heard = True


def as_options(error: OptionError, given: Iterable[str]) -> OptionError:
    """An error about a setting, named as the option it was given by: `lr: ...` becomes `--lr: ...`."""
    message = str(error)
    name = message.split(":")[0]
    return OptionError("--" + name.replace("_", "-") + message[len(name) :]) if name in given else error


def flat(metrics: Metrics) -> dict[str, Any]:
    """Metrics for --json: plain names, and `accuracy_95: [low, high]` for each interval."""
    correct = {} if metrics.correct is None else {"correct": metrics.correct}
    intervals = {f"{name}_95": list(pair) for name, pair in metrics.intervals.items()}
    return {**metrics.scores, **correct, "n": metrics.n, **intervals}


def strongest(baselines: dict[str, Metrics]) -> tuple[str, Metrics] | None:
    """The baseline with the best headline score, by its plain name."""
    if not baselines:
        return None
    name = primary_metric(next(iter(baselines.values())))
    best = (max if name == "accuracy" else min)(baselines, key=lambda key: baselines[key][name])
    return best, baselines[best]


def baseline_words(baselines: dict[str, Metrics]) -> str:
    found = strongest(baselines)
    if found is None:
        return "no baseline"
    shown = {found[0]: found[1]} | {name: m for name, m in baselines.items() if name == "persistence"}
    return ", ".join(
        f"{BASELINE_NAMES.get(name, name)} {value_text(m, primary_metric(m))}" for name, m in shown.items()
    )


def baseline_json(baselines: dict[str, Metrics]) -> dict[str, Any]:
    found = strongest(baselines)
    return {"name": found[0], **flat(found[1])} if found else {}


def print_json(content: dict[str, Any]) -> None:
    click.echo(json.dumps(plain(content), ensure_ascii=False, allow_nan=False))


def aligned(headings: list[str], rows: list[list[str]]) -> str:
    """Rows under their headings, in columns as wide as their widest cell; nothing is cut off."""
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [headings, *rows]
    )


def shell_word(text: str | Path) -> str:
    """`text` as it can be pasted after a command: in quotes where it needs them."""
    word = str(text)
    return word if re.fullmatch(r"[\w./:\\@%+=,-]+", word) else '"' + word.replace('"', '\\"') + '"'
