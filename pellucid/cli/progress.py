"""Training progress on stderr: a progress bar on a terminal, one line for each epoch elsewhere, nothing with --quiet (floor 11)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import TracebackType

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ..evaluation.formatting import short_name
from ..runs.records import PRIMARY
from ..training.ensemble import MemberStarted
from ..training.loop import BatchDone, EpochDone


class Watcher:
    """Shows training events. Use it as a context, which restores the terminal."""

    def __init__(self, epochs: int, batches: int, *, quiet: bool, metric: str = "") -> None:
        self.metric = metric  # the score of the validation part that is shown, where one was asked for
        self.epochs = epochs
        self.batches = batches
        self.rate = 0.0
        self.of_member = ""  # ` of network 2 of 5`, of an ensemble
        self.headed = False
        self.bar: Progress | None = None
        self.quiet = quiet
        if not quiet and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[status]}"))
            self.bar = Progress(
                *columns, console=Console(stderr=True, highlight=False), transient=True, refresh_per_second=8
            )
            self.task = self.bar.add_task("", total=epochs * batches, status="")

    def __enter__(self) -> Watcher:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def show(self, event: BatchDone | EpochDone | MemberStarted) -> None:
        if isinstance(event, MemberStarted):
            self.of_member = f" of network {event.number} of {event.count}"
            if not self.quiet:
                self._line(f"network {event.number} of {event.count}, seed {event.seed}")
        elif isinstance(event, EpochDone):
            self._epoch(event)
        elif self.bar:
            self._batch(event)

    def _batch(self, event: BatchDone) -> None:
        assert self.bar is not None
        left = self.bar.tasks[0].time_remaining
        rate = f"{self.rate:,.0f} examples/s" if self.rate else ""
        status = f"loss {event.loss:.4f}  {rate}  {_duration(left) + ' left' if left else ''}"
        self.bar.update(
            self.task,
            completed=event.step,
            description=f"epoch {event.epoch}/{self.epochs}{self.of_member}",
            status=status,
        )

    def _epoch(self, event: EpochDone) -> None:
        self.rate = event.examples_per_second
        if self.quiet:
            return
        if not self.headed:
            self.headed = True
            self._line(f"{'epoch':>9}  {'training loss':>13}  {short_name(score_name(event.train)):>8}  {'validation loss':>15}  "
                       f"{short_name(self._validated(event)):>{self._width(event)}}    {'examples/s':>10}  left   (*: best so far)")  # fmt: skip
        left = (self.epochs - event.epoch) * event.seconds
        self._line(
            f"{f'{event.epoch}/{self.epochs}':>9}  {event.train['loss']:>13.4f}  {score_text(event.train, score_name(event.train)):>8}  {event.validation['loss']:>15.4f}  "
            f"{score_text(event.validation, self._validated(event)):>{self._width(event)}} {'*' if event.improved else ' '}  {event.examples_per_second:>10,.0f}  {_duration(left) if left else ''}"
        )

    def _validated(self, event: EpochDone) -> str:
        return self.metric if self.metric in event.validation else score_name(event.validation)

    def _width(self, event: EpochDone) -> int:
        return max(8, len(short_name(self._validated(event))))

    def _line(self, line: str) -> None:
        if self.bar:
            self.bar.console.print(line.rstrip(), soft_wrap=True)
        else:
            say(line.rstrip())


def say(line: str) -> None:
    """Print a line on stderr. A closed pipe stops the output, not the training."""
    try:
        click.echo(line, err=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def score_name(values: Mapping[str, float]) -> str:
    """The name of the score among `values`, "" without one."""
    return next((name for name in PRIMARY if name in values), "")


def score_text(values: Mapping[str, float], name: str) -> str:
    """The score `name` as text: `97.9%` for an accuracy, else four digits; "" without one."""
    return "" if not name else f"{100 * values[name]:.1f}%" if name == "accuracy" else f"{values[name]:.4g}"


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"
