"""Option types, and helpers that several commands share (floor 11)."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import click

from ..errors import OptionError
from ..evaluation.formatting import BASELINE_NAMES, value_text
from ..evaluation.metrics import Metrics, primary_metric
from ..files import Json, plain
from ..runs.metric_names import higher_is_better


class Numbers(click.ParamType):
    """Sizes of hidden layers: `128,64` as (128, 64), and `none` as ()."""

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
    """Names separated by commas: `A,B` as ("A", "B"). `what` they name and an `example` are for the error message."""

    name = "A,B"

    def __init__(self, what: str = "columns", example: str = "age,city") -> None:
        self.what, self.example = what, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if not isinstance(value, str):
            return tuple(value)
        names = tuple(part.strip() for part in value.split(",") if part.strip())
        if not names:
            self.fail(
                f"{value!r}; expected names of {self.what}, separated by commas; write {self.example}", param, ctx
            )
        return names


class Whole(click.ParamType):
    """A whole number from `least`."""

    name = "N"

    def __init__(self, least: int = 1) -> None:
        self.least = least

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).strip()
        if not re.fullmatch(r"[+-]?[0-9]+", text) or int(text) < self.least:
            self.fail(f"{value!r}; expected a whole number from {self.least}; write {max(self.least, 1)}", param, ctx)
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
    """A context in which the first Ctrl-C only sets `pressed`; the second one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.pressed = False
        self.previous_handler: Callable[[int, FrameType | None], object] | int | None = None

    def __enter__(self) -> CtrlC:
        if threading.current_thread() is threading.main_thread():
            self.previous_handler = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.previous_handler is not None:
            signal.signal(signal.SIGINT, self.previous_handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True


def as_options(error: OptionError, given: Iterable[str]) -> OptionError:
    """An error about a setting that was `given` as an option, with the option's name: `lr: ...` becomes `--lr: ...`."""
    message = str(error)
    name = message.split(":")[0]
    return OptionError("--" + name.replace("_", "-") + message[len(name) :]) if name in given else error


def flat(metrics: Metrics) -> dict[str, Json]:
    """Metrics for --json: plain names, and `accuracy_95: [low, high]` for each interval."""
    correct = {} if metrics.correct is None else {"correct": metrics.correct}
    groups = {} if metrics.groups is None else {"groups": metrics.groups}
    intervals: dict[str, Json] = {f"{name}_95": [*pair] for name, pair in metrics.intervals.items()}
    return {**metrics.scores, **correct, "n": metrics.n, **groups, **intervals}


def strongest(baselines: dict[str, Metrics]) -> tuple[str, Metrics] | None:
    """The baseline with the best primary metric, as (name, metrics); None without baselines."""
    if not baselines:
        return None
    name = primary_metric(next(iter(baselines.values())))
    best = (max if higher_is_better(name) else min)(baselines, key=lambda key: baselines[key][name])
    return best, baselines[best]


def baseline_words(baselines: dict[str, Metrics]) -> str:
    """The strongest baseline, and persistence where there is one, with their scores, as one line shows them."""
    best = strongest(baselines)
    if best is None:
        return "no baseline"
    shown = {best[0]: best[1]} | {name: m for name, m in baselines.items() if name == "persistence"}
    return ", ".join(
        f"{BASELINE_NAMES.get(name, name)} {value_text(m, primary_metric(m))}" for name, m in shown.items()
    )


def baseline_json(baselines: dict[str, Metrics]) -> dict[str, Json]:
    """The strongest baseline for --json; {} without baselines."""
    best = strongest(baselines)
    return {"name": best[0], **flat(best[1])} if best else {}


def print_json(content: Mapping[str, object]) -> None:
    """Print `content` as one line of JSON."""
    click.echo(json.dumps(plain(content), ensure_ascii=False, allow_nan=False))


def shell_word(text: str | Path) -> str:
    """`text` as one word for a shell: quoted where needed."""
    word = str(text)
    return word if re.fullmatch(r"[\w./:\\@%+=,-]+", word) else '"' + word.replace('"', '\\"') + '"'
