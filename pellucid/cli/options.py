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
from ..evaluation.importance import Importances
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


class WholeOrNone(Whole):
    """A whole number from 1, or none, which is 0."""

    name = "N|none"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return 0 if str(value).strip().lower() == "none" else super().convert(value, param, ctx)


class Number(click.ParamType):
    """A finite number."""

    name = "X"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r}; expected a number; write 0.001", param, ctx)


# ---- options, and commands that show them under headings ---------------------------------------------------------------

HEADINGS = ("Data", "Reading", "Splits and scores", "Network", "Training", "Run", "Output")
DOZEN = 12  # options that --help shows; where a command has more, --help-all shows all of them
Decorator = Callable[[Callable[..., None]], Callable[..., None]]


class HeadedOption(click.Option):
    """An option with the heading of HEADINGS under which --help-all lists it. common: whether --help does too."""

    def __init__(self, *args: Any, heading: str = "Output", common: bool = False, **more: Any) -> None:
        super().__init__(*args, **more)
        self.heading, self.common = heading, common


def option(*names: str, heading: str = "Output", common: bool = False, **more: Any) -> Decorator:
    """`click.option` with a heading."""
    decorate: Decorator = click.option(*names, cls=HeadedOption, heading=heading, common=common, **more)
    return decorate


class HeadedCommand(click.Command):
    """A command whose --help shows its common options alone where it has more than a dozen; --help-all shows all of them."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        if len(self._headed()) <= DOZEN:
            return params
        shows_all = click.Option(
            ["--help-all"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_all,
            help="Show all options and exit.",
        )
        return [*params[:-1], shows_all, params[-1]]

    def _headed(self) -> list[HeadedOption]:
        return [param for param in self.params if isinstance(param, HeadedOption)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        headed = self._headed()
        if len(headed) <= DOZEN:
            return super().format_options(ctx, formatter)
        shown = {"Options": [one for one in headed if one.common]}
        if ctx.meta.get("help_all"):
            shown = {heading: [one for one in headed if one.heading == heading] for heading in HEADINGS}
        helps = [
            param
            for param in self.get_params(ctx)
            if isinstance(param, click.Option) and not isinstance(param, HeadedOption)
        ]
        for heading, own in shown.items():
            records = [record for one in own if (record := one.get_help_record(ctx))]
            if heading in ("Options", HEADINGS[-1]):
                records += [record for one in helps if (record := one.get_help_record(ctx))]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
        if not ctx.meta.get("help_all"):
            more = len(headed) - len(shown["Options"])
            formatter.write_paragraph()
            formatter.write_text(f"{more} more options: pellucid {self.name} --help-all")


def _show_all(context: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        context.meta["help_all"] = True
        click.echo(context.get_help(), color=context.color)
        context.exit()


# A word that several commands have means the same in all of them, so it is written once.
JSON = option("--json", "as_json", is_flag=True, help="Print one JSON object.")
OUT = option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the result to FILE: a table as .csv or .tsv, images as .png.",
)
FEATURE_NETWORK = option(
    "--feature-network",
    metavar="RUN",
    heading="Splits and scores",
    help="For generated images: the cnn run on the same data that computes their Frechet distance.  [default: the best one found]",
)


def seed_option(default: int | None = 0) -> Decorator:
    """--seed. default: None where a command needs to know whether it was given, and then takes 0."""
    return option(
        "--seed",
        type=Whole(0),
        default=default,
        heading="Run",
        common=True,
        help="Seed of all random numbers: the same seed gives the same result.  [default: 0]",
    )


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


def importances_json(found: Importances | None) -> dict[str, Json]:
    """The importance of each column for --json; {} where there is none."""
    if found is None:
        return {}
    told = lambda one: {"worse": one.worse, "worse_95": None if one.interval is None else [*one.interval]}
    columns: list[Json] = [{"name": c.name, **told(c), "shared_with": [*c.shared_with]} for c in found.columns]
    together: list[Json] = [{"names": [*c.names], **told(c)} for c in found.together]
    about: dict[str, Json] = {"score": found.score, "rows": found.rows, "shuffles": found.shuffles, "of": found.of}
    return {"importances": {**about, "columns": columns, "together": together}}


def print_json(content: Mapping[str, object]) -> None:
    """Print `content` as one line of JSON."""
    click.echo(json.dumps(plain(content), ensure_ascii=False, allow_nan=False))
