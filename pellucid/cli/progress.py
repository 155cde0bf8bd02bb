"""Progress of a training on stderr: a live bar on a terminal, a line an epoch elsewhere, nothing when quiet (floor 7)."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ..training.loop import BatchDone, EpochDone


class Watcher:
    """Shows the events it is given; use it as a context, so that the terminal is left clean."""

    def __init__(self, epochs: int, batches: int, *, quiet: bool) -> None:
        self.epochs = epochs
        self.batches = batches
        self.rate = 0.0
        self.first_step = 0
        self.last_seen = (0, 0.0)
        self.bar: Progress | None = None
        self.quiet = quiet
        if not quiet and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[status]}"))
            self.bar = Progress(*columns, console=Console(stderr=True, highlight=False), transient=True, refresh_per_second=8)
            self.task = self.bar.add_task("", total=epochs * batches, status="")

    def __enter__(self) -> Watcher:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def show(self, event: BatchDone | EpochDone) -> None:
        if isinstance(event, EpochDone):
            self._epoch(event)
        elif self.bar:
            self._batch(event)

    def _batch(self, event: BatchDone) -> None:
        assert self.bar is not None
        left = self.bar.tasks[0].time_remaining
        rate = f"{self.rate:,.0f} examples/s" if self.rate else ""
        status = f"loss {event.loss:.4f}  {rate}  {_duration(left) + ' left' if left else ''}"
        self.bar.update(self.task, completed=event.step, description=f"epoch {event.epoch}/{self.epochs}", status=status)

    def _epoch(self, event: EpochDone) -> None:
        self.rate = event.examples_per_second
        if self.quiet:
            return
        left = (self.epochs - event.epoch) * event.seconds
        line = (
            f"epoch {event.epoch:>{len(str(self.epochs))}}/{self.epochs}   training {values(event.train)}   "
            f"validation {values(event.validation)}{' *' if event.improved else '  '}  {event.examples_per_second:,.0f} examples/s"
            f"   {_duration(left) + ' left' if left else ''}"
        ).rstrip()
        if self.bar:
            self.bar.console.print(line)
        else:
            click.echo(line, err=True)


def values(found: dict[str, Any]) -> str:
    """`loss 0.0821 accuracy 97.9%`."""
    parts = [f"loss {found['loss']:.4f}"]
    if "accuracy" in found:
        parts.append(f"accuracy {100 * found['accuracy']:.1f}%")
    if "rmse" in found:
        parts.append(f"rmse {found['rmse']:.4g}")
    return " ".join(parts)


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"
