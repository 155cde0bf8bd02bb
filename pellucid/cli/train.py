"""`pellucid train`: from a data set to a trained, saved and scored network (floor 7)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..data.base import DataOption, PredictionForm
from ..data.datasets import find
from ..data.kinds import KINDS, data_options, kind_named
from ..data.load import load_problem
from ..data.problem import TokenSequence
from ..errors import OptionError
from ..evaluation.metrics import score_line, verdict
from ..models import FAMILIES, family_for
from ..models.base import ImageGenerator, LanguageModel
from ..nn.activation import ACTIVATIONS
from ..runs import run as runs
from ..runs.settings import OPTIMIZERS, as_settings, choose, read_config, recipe
from ..training import session
from ..training.fine_tuning import network_values
from .options import (  # fmt: skip
    CtrlC,
    Names,
    Number,
    Numbers,
    Whole,
    as_options,
    baseline_json,
    baseline_words,
    flat,
    print_json,
    shell_word,
)
from .progress import Watcher, say
from .shell import Stopped

CONTAINERS = [kind.container for kind in reversed(KINDS.values()) if kind.endings]
HELP = f"""Train a network on DATA: a name from `pellucid datasets`, {", ".join(CONTAINERS[:-1])} or {CONTAINERS[-1]}.

Pictures and sounds need a folder for each class, and may lie in an archive.

\b
pellucid train digits
pellucid train people.csv --target income
pellucid train pets/
pellucid train --resume last
"""
DATA_OPTIONS = data_options()  # --set and a --config file may give them too
BESIDE_RESUME = {"resume", "epochs", "threads", "judge", "quiet", "as_json"}


def _about_data(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that the registry of kinds of data declares."""
    for option in reversed(DATA_OPTIONS.values()):
        function = _click_option(option)(function)
    return function


def _click_option(option: DataOption) -> Callable[[Callable[..., None]], Callable[..., None]]:
    flag = "--" + option.name.replace("_", "-")
    if bool in option.types:
        names = f"{flag}/--no-{flag[2:]}" if option.negatable else flag
        return click.option(names, is_flag=True, default=None, help=option.help)
    forms: dict[tuple[Any, ...], Any] = {(int,): Whole(), (int, float): Number()}
    type = Names() if list in option.types else forms.get(option.types)
    return click.option(flag, option.name, type=type, metavar=option.metavar, help=option.help)


@click.command("train", short_help="Train a network.", help=HELP, options_metavar="[OPTIONS]")
@click.argument("data", required=False)
@_about_data
@click.option("--model", metavar="NAME", help=f"The family of network: {', '.join(FAMILIES)}.")
@click.option("--layers", type=Numbers(), help="Sizes of the hidden layers, or none; 128,64 for images.")
@click.option("--activation", metavar="NAME", help=f"{', '.join(ACTIVATIONS)}.")
@click.option("--dropout", type=Number(), help="Share of hidden units left out at each step.")
@click.option(
    "--set", "more", multiple=True, metavar="NAME=VALUE", help="Any other setting of training or of the network."
)
@click.option("--optimizer", metavar="NAME", help=f"{', '.join(OPTIMIZERS)}.")
@click.option("--lr", type=Number(), help="The highest learning rate.")
@click.option("--epochs", type=Whole(), help="How often to go through the training data.")
@click.option("--batch-size", type=Whole(), help="Examples a step.")
@click.option("--seed", type=Whole(0), help="Start of all random numbers, the split included.  [default: 0]")
@click.option("--threads", type=Whole(), help="Threads for matrix products.")
@click.option(
    "--eager", is_flag=True, default=None, help="Run operation by operation; slower, but does not wait for a compiler."
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Options and settings in a TOML file, or a shipped recipe's name.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The run's folder, a new one (else runs/DATA-MODEL-N).",
)
@click.option("--from", metavar="RUN", help="Begin with the weights of RUN; only the last layer may differ.")
@click.option("--freeze", type=Names("layers", "stages.0"), help="Layers that do not learn, by path, such as stages.0.")
@click.option(
    "--judge", metavar="RUN", help="For images drawn: a cnn run on DATA to judge them (else the best that is found)."
)
@click.option("--resume", metavar="RUN", help="Go on with a run that was stopped.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.pass_context
def command(
    context: click.Context, data: str | None, resume: str | None, as_json: bool, quiet: bool, **options: Any
) -> None:
    if resume is not None:
        training = _resume(context, data, resume, options)
    elif data is None:
        raise click.UsageError(
            "DATA is missing; expected a data set, a table or --resume RUN; write: pellucid train digits"
        )
    else:
        training = _begin(data, {name: value for name, value in options.items() if value is not None}, quiet)
    result = _watch(training, quiet)
    if as_json:
        print_json(_as_json(training, result))
    else:
        for line in closing_lines(training, result):
            click.echo(line)


def _begin(data: str, options: dict[str, Any], quiet: bool) -> session.TrainingSession:
    out = options.pop("out", None)
    if out is not None and out.exists():
        raise OptionError(
            f"--out {out}: there is something of that name already; expected a new folder; choose another name"
        )
    path = options.pop("config_file", None)
    written = read_config(path) if path else {}
    more = as_settings(options.pop("more", ()))
    asked = {**written, **options, **more}
    family = str(asked.pop("model")) if "model" in asked else None
    source, judge = (runs.find(str(asked.pop(name))) if name in asked else None for name in ("from", "judge"))
    inherited = {} if source is None else network_values(source, family)
    family = source.config["family"] if source else family
    about = {name: asked.pop(name) for name in DATA_OPTIONS if name in asked}
    try:
        # A wrong option should not wait for the data.
        settings, _ = choose(family or "mlp", asked if family else {"seed": asked.get("seed", 0)})
        problem = load_problem(data, seed=settings.seed, **_checked(about))
        kind = kind_named(problem.kind)
        family = family_for(kind.name, kind.inputs, kind.family_for(problem), family)
        known = data if find(data) else ""  # a user's digits.csv has nothing to do with the recipe of digits
        values = {**recipe(family, known, problem.preprocessor.recipe, len(problem.train)), **inherited, **asked}
        training = session.start(problem, family, values, out, source=source, judge=judge)
    except OptionError as error:
        raise _named(error, options, more, written, path) from None
    if not quiet:
        sizes = ", ".join(f"{len(getattr(problem, part)):,} {part}" for part in ("train", "validation", "test"))
        smooth = training.run.config["network"].get("label_smoothing", 0)
        smoothed = (
            [f"training loss: with label smoothing {smooth:g}, so it ends above the validation loss"] if smooth else []
        )
        for note in [
            *problem.notes,
            *smoothed,
            f"{'tokens' if isinstance(problem.train, TokenSequence) else 'examples'}: {sizes}",
            f"run: {training.run.folder}",
        ]:
            say(note)
    return training


def _checked(about: dict[str, Any]) -> dict[str, Any]:
    """Options about the data, each of a kind that it can be. Raises OptionError."""
    for name, value in about.items():
        kinds = DATA_OPTIONS[name].types
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise OptionError(f"{name}: {value!r} is a {type(value).__name__}; expected a {' or '.join(kind.__name__ for kind in kinds)}; "
                              "see pellucid train --help")  # fmt: skip
        if list in kinds and isinstance(value, str):  # from a config file, where one name needs no list
            about[name] = [part.strip() for part in value.split(",")]
    return about


def _named(
    error: OptionError, options: dict[str, Any], more: dict[str, Any], written: dict[str, Any], path: Path | None
) -> OptionError:
    """Say whether a bad setting came from an option, from --set or from the --config file."""
    bare = str(error).removeprefix("--")
    name = re.split("[: ]", bare)[0].replace("-", "_")
    if name in more:
        return OptionError(f"--set {bare}")
    if name in written and name not in options:
        return OptionError(f"{path}: {bare}")
    return as_options(error, {*options, "model"})


def _resume(context: click.Context, data: str | None, name: str, options: dict[str, Any]) -> session.TrainingSession:
    command_line = click.core.ParameterSource.COMMANDLINE
    given = [p for p in context.command.params if context.get_parameter_source(str(p.name)) is command_line]
    extra = sorted(p.opts[0] for p in given if p.name not in BESIDE_RESUME | {"data"})
    if data is not None or extra:
        what = f"DATA ({data})" if data is not None else extra[0]
        raise click.UsageError(f"--resume: {what} cannot be given beside it, a run goes on as it was begun; expected only --epochs, "
                               "--threads, --judge, --quiet, --json; leave it out, or begin a new run")  # fmt: skip
    run = runs.find(name)
    source = run.config["source"]
    judge = runs.find(options["judge"]) if options["judge"] else None
    try:
        training = session.resume(run, load_problem(**source), options["epochs"], options["threads"], judge)
    except OptionError as error:
        raise as_options(error, {"epochs"}) from None
    if training.is_done():
        say(
            f"note: {run.name} is finished, after {training.learner.progress.epoch} of {training.settings.epochs} epochs; nothing is left to train"
        )
    stored = run.config["settings"]["threads"]
    if training.settings.threads != stored:
        say(f"note: the run was begun with {stored} threads and goes on with {training.settings.threads}; its last bits may "
            "differ from an uninterrupted run's")  # fmt: skip
    return training


def _watch(training: session.TrainingSession, quiet: bool) -> session.Result:
    """Train and finish, showing progress; after Ctrl-C save a checkpoint and raise Stopped with the command to go on."""
    learner, name = training.learner, shell_word(training.run.name)
    again = f"to go on: pellucid train --resume {name}"
    try:
        with CtrlC() as ctrl_c, Watcher(training.settings.epochs, len(learner.loader), quiet=quiet) as watcher:
            for event in training.events():
                watcher.show(event)
                if ctrl_c.heard:
                    training.save()
                    at = learner.progress
                    raise Stopped(f"stopped in epoch {at.epoch + 1} at step {at.step}, everything is saved; {again}")
        if not quiet:
            say("scoring on the test data, and fitting the baselines to compare with ...")
        return training.finish()
    except KeyboardInterrupt:
        raise Stopped(f"stopped, the last checkpoint is kept; {again}") from None


def closing_lines(training: session.TrainingSession, result: session.Result) -> list[str]:
    """Test score against the baseline, the run, the report, and the next command to paste."""
    run = training.run
    beside = (
        f", {verdict(result.metrics, result.baselines).relation} {baseline_words(result.baselines)}"
        if result.baselines
        else ""
    )
    return [
        f"test    {score_line(result.metrics)}{beside}",
        f"run     {run.folder}",
        f"report  {run.report}",
        f"next    {next_command(training)}",
    ]


def next_command(training: session.TrainingSession) -> str:
    run, problem = shell_word(training.run.name), training.problem
    if isinstance(training.network, LanguageModel | ImageGenerator):
        return f"pellucid sample {run}"
    options = {
        PredictionForm.ROWS: "--out predictions.csv", PredictionForm.FORECAST: "--horizon 7", PredictionForm.FILES: "--show"
    }  # fmt: skip
    return f"pellucid predict {run} {shell_word(problem.source['spec'])} {options[kind_named(problem.kind).prediction]}"


def _as_json(training: session.TrainingSession, result: session.Result) -> dict[str, Any]:
    return {
        "run": str(training.run.folder), "task": training.problem.task, **flat(result.metrics), "seconds": round(result.seconds, 3),
        "epochs": result.epochs, "best_epoch": result.best_epoch, "baseline": baseline_json(result.baselines),
    }  # fmt: skip
