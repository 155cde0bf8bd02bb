"""`pellucid train`: train a network on a data set, save it and score it (floor 11)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from ..data.base import OptionValue
from ..data.datasets import find
from ..data.description import sorted_notes
from ..data.description_text import shell_word
from ..data.kinds import KINDS, kind_named
from ..data.load import load_problem
from ..data.problem import SPLITS, DataModule, TokenSequence
from ..data.table.folds import fold_note
from ..errors import OptionError
from ..evaluation.comparison import compare_with_baselines
from ..evaluation.formatting import fold_line, importance_line, interval_text, score_line, value_text
from ..evaluation.metrics import Metrics
from ..files import Json
from ..models import family_for
from ..models.heads.generation import ImageGenerator
from ..models.heads.language import LanguageModel
from ..nn.activation import ACTIVATIONS
from ..runs import run as runs
from ..runs.renamed import new_name
from ..runs.settings import OPTIMIZERS, load_recipe, parse_overrides, read_config, resolve_config
from ..training import session
from ..training.fine_tuning import network_values
from .data_options import DATA_OPTIONS, data_option_flags
from .options import (
    FEATURE_NETWORK,
    JSON,
    CtrlC,
    HeadedCommand,
    Names,
    Number,
    Numbers,
    Whole,
    WholeOrNone,
    as_options,
    baseline_json,
    baseline_words,
    flat,
    importances_json,
    option,
    print_json,
    seed_option,
)
from .progress import Watcher, say
from .shell import Stopped
from .training_options import CONFIG, EAGER, METRIC, MODEL, NUM_THREADS, QUIET, RESUME, SET, epochs_option

Options = dict[str, OptionValue]  # what the user gave, by name
CONTAINERS = [kind.container for kind in reversed(KINDS.values()) if kind.endings]
HELP = f"""Train a network on DATA: a name from `pellucid datasets`, {", ".join(CONTAINERS[:-1])} or {CONTAINERS[-1]}.

Images and sounds need one folder for each class, names such as cat.1.jpg, or a table of files and labels; they may lie in an
archive.

\b
pellucid train digits
pellucid train people.csv --target income
pellucid train pets/
pellucid train --resume last
"""
OTHER_RUNS = ("init_from", "feature_network")  # options that name a run
MOST_NOTES = 8  # on the terminal; the report has all
# What may make a score untrue, or a reading doubtful: told even with --quiet.
WARNINGS = ("leak", "labels", "rows", "file", "numbers: not clear", "numbers: gaps", "numbers: limits", "numbers: leading zeros",
            "numbers: written otherwise", "dates: not clear", "dates: the target", "columns: units mixed", "target: written otherwise", "activation")  # fmt: skip
WITH_RESUME = {"resume", "epochs", "num_threads", "feature_network", "quiet", "as_json"}


@click.command("train", cls=HeadedCommand, short_help="Train a network.", help=HELP, options_metavar="[OPTIONS]")
@click.argument("data", required=False)
@data_option_flags
@MODEL
@option(
    "--hidden-sizes",
    type=Numbers(),
    heading="Network",
    help="Sizes of the hidden layers of an mlp or lstm, or none, such as 128,64.",
)
@option("--activation", metavar="NAME", heading="Network", help=f"{', '.join(ACTIVATIONS)}.")
@option("--dropout", type=Number(), heading="Network", help="Share of hidden units to drop in each training step.")
@option(
    "--init-from",
    metavar="RUN",
    heading="Network",
    help="Start from the weights of RUN; only the last layer may differ.",
)
@option(
    "--freeze",
    type=Names("layers", "stages.0"),
    heading="Network",
    help="Layers not to train, by path, such as stages.0.",
)
@option(
    "--ensemble",
    type=Whole(),
    metavar="N",
    heading="Training",
    common=True,
    help="Train N networks, each from a seed of its own; their mean is the answer, their spread its uncertainty.",
)
@epochs_option(common=True)
@option("--lr", type=Number(), heading="Training", help="The peak learning rate.")
@option("--batch-size", type=Whole(), heading="Training", help="Examples in each step.")
@option("--optimizer", metavar="NAME", heading="Training", help=f"{', '.join(OPTIMIZERS)}.")
@option(
    "--class-weight",
    metavar="WEIGHTS",
    heading="Training",
    help="Weights of the classes in the loss: balanced, none, or such as a=1,b=5.",
)
@EAGER
@SET
@METRIC
@FEATURE_NETWORK
@option(
    "--run-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    heading="Run",
    help="The folder to create for the run.  [default: runs/DATA-MODEL-N]",
)
@option(
    "--snapshots",
    type=WholeOrNone(),
    heading="Run",
    help="Keep the weights of up to N epochs, which labels and blame read.  [default: 40, within 200 MB]",
)
@RESUME
@seed_option(None)
@CONFIG
@NUM_THREADS
@QUIET
@JSON
@click.pass_context
def command(
    context: click.Context, data: str | None, resume: str | None, as_json: bool, quiet: bool, **options: OptionValue
) -> None:
    if resume is not None:
        training = _resume(context, data, resume, options)
    elif data is None:
        raise click.UsageError(
            "missing argument DATA: a data set, a table, a text or a folder of images to train on, or --resume RUN; "
            "write: pellucid train digits"
        )
    else:
        training = _start(data, {name: value for name, value in options.items() if value is not None}, quiet)
    result = _watch(training, quiet)
    if as_json:
        print_json(_as_json(training, result))
    else:
        for line in closing_lines(training, result):
            click.echo(line)


@dataclass(frozen=True)
class Prepared:
    """What options, a --config file and data come to.

    values: settings, the recipe's among them.      given: those of the user's own, and options about the data.
    located: an OptionError about one of them with the place where it was given.
    """

    problem: DataModule
    family: str
    values: Options
    given: Options
    init_from: runs.Run | None
    feature_network: runs.Run | None
    located: Callable[[OptionError], OptionError]


def prepare(data: str, options: Options) -> Prepared:
    """Load `data`, and bring together the settings for it. Raises OptionError, DataError."""
    path = options.pop("config_file", None)
    in_file = read_config(path) if path else {}
    overrides = parse_overrides(options.pop("more", ()))
    values = {**in_file, **options, **overrides}
    located = lambda error: _with_origin(error, options, overrides, in_file, path)
    try:
        _refuse_renamed(values)
        family = str(values.pop("model")) if "model" in values else None
        init_from, feature_network = (
            runs.find_run(str(values.pop(name))) if name in values else None for name in OTHER_RUNS
        )
        inherited = {} if init_from is None else network_values(init_from, family)
        family = init_from.config.family if init_from else family
        given = dict(values)
        about_data = {name: values.pop(name) for name in DATA_OPTIONS if name in values}
        # Check the settings before loading the data, which may take long.
        settings, _ = resolve_config(family or "mlp", values if family else {"seed": values.get("seed", 0)})
        problem = load_problem(data, seed=settings.seed, **_checked(about_data))
        kind = kind_named(problem.kind)
        family = family_for(kind.name, kind.inputs, kind.family_for(problem), family)
        dataset = data if find(data) else ""  # a user's own digits.csv does not get the recipe of the data set digits
        recipe = load_recipe(family, dataset, problem.preprocessor.recipe, len(problem.train))
        if "epochs" in values:  # so many, however few steps they have
            recipe.pop("least_steps", None)
        values = {**recipe, **inherited, **values}
    except OptionError as error:
        raise located(error) from None
    return Prepared(problem, family, values, given, init_from, feature_network, located)


def _start(data: str, options: Options, quiet: bool) -> session.TrainingSession:
    run_dir = options.pop("run_dir", None)
    if run_dir is not None and run_dir.exists():
        raise OptionError(f"--run-dir {run_dir}: exists already; expected a new folder; choose another name")
    found = prepare(data, options)
    try:
        training = session.start(found.problem, found.family, found.values, run_dir, source=found.init_from,
                                 feature_network=found.feature_network)  # fmt: skip
    except OptionError as error:
        raise found.located(error) from None
    if quiet:
        for note in shown_notes(warnings_among(training.problem.notes)):
            say(note)
    else:
        _say_notes(training)
    return training


def warnings_among(notes: Sequence[str]) -> list[str]:
    """The notes on what may make a score untrue, or a reading doubtful, in their order."""
    return [note for note in notes if note.startswith(WARNINGS)]


def shown_notes(notes: Sequence[str]) -> list[str]:
    """The notes for the terminal: those of a kind together, MOST_NOTES at most.

    Where there are more, warnings are kept first.
    """
    order = sorted_notes(notes)
    if len(order) > MOST_NOTES:
        first = sorted(order, key=lambda note: not note.startswith(WARNINGS))
        kept = sorted_notes(first[: MOST_NOTES - 1])
        order = [*kept, *first[MOST_NOTES - 1 :]]
    if len(order) <= MOST_NOTES:
        return order
    return [*order[: MOST_NOTES - 1], f"notes: {len(order) - MOST_NOTES + 1} more, in the report"]


def _say_notes(training: session.TrainingSession) -> None:
    """What is worth knowing before the first epoch, one line each."""
    problem = training.problem
    sizes = ", ".join(f"{len(getattr(problem, split)):,} {split}" for split in ("train", "validation", "test"))
    folds = getattr(training.run.config.network, "bag_folds", 0)
    if folds > 1:
        sizes = f"{len(problem.train):,} train in {folds} folds, each judged by the network that did not learn it, {len(problem.test):,} test"
    smoothing = getattr(training.run.config.network, "label_smoothing", 0)
    notes = shown_notes(problem.notes)
    if smoothing:
        notes.append(f"training loss: with label smoothing {smoothing:g}, so it ends above the validation loss")
    if training.network.starts_fitted:
        notes.append(
            "linear: training begins with linear models; an epoch has a * where it is better than all before, them included"
        )
    if training.is_cross_validated:
        notes.append(fold_note(sum(len(problem.examples(split)) for split in SPLITS)))
    notes.append(f"{'tokens' if isinstance(problem.train, TokenSequence) else 'examples'}: {sizes}")
    for note in [*notes, f"run: {training.run.folder}"]:
        say(note)


def _refuse_renamed(values: Options) -> None:
    """Raise OptionError for the old name of an option; `choose` does so for settings."""
    for name in values:
        renamed = new_name(name, {*DATA_OPTIONS, *OTHER_RUNS})
        if renamed:
            raise OptionError(f"{name}: no such option; it is called {renamed}; write {renamed}={values[name]}")


def _checked(options: Options) -> Options:
    """Options about the data for `load_problem`. Raises OptionError for a value of a wrong type."""
    for name, value in options.items():
        types = DATA_OPTIONS[name].types
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise OptionError(f"{name}: {value!r} is a {type(value).__name__}; expected a {' or '.join(kind.__name__ for kind in types)}; "
                              "see pellucid train --help")  # fmt: skip
        if list in types and isinstance(value, str):  # from a config file, where one name needs no list
            options[name] = [part.strip() for part in value.split(",")]
    return options


def _with_origin(
    error: OptionError, options: Options, overrides: Options, in_file: Options, path: Path | None
) -> OptionError:
    """The error with the place where the bad value was given: an option, --set or the --config file."""
    bare = str(error).removeprefix("--")
    name = re.split("[: ]", bare)[0].replace("-", "_")
    if name in overrides:
        return OptionError(f"--set {bare}")
    if name in in_file and name not in options:
        return OptionError(f"{path}: {bare}")
    return as_options(error, {*options, "model"})


def _resume(context: click.Context, data: str | None, name: str, options: Options) -> session.TrainingSession:
    command_line = click.core.ParameterSource.COMMANDLINE
    given = [p for p in context.command.params if context.get_parameter_source(str(p.name)) is command_line]
    extra = sorted(p.opts[0] for p in given if p.name not in WITH_RESUME | {"data"})
    if data is not None or extra:
        what = f"DATA ({data})" if data is not None else extra[0]
        raise click.UsageError(f"--resume: {what} cannot be combined with it, since a run keeps the options it was started with; expected "
                               "only --epochs, --num-threads, --feature-network, --quiet, --json; leave it out, or start a new run")  # fmt: skip
    run = runs.find_run(name)
    feature_network = runs.find_run(options["feature_network"]) if options["feature_network"] else None
    try:
        training = session.resume(run, run.load_problem(), options["epochs"], options["num_threads"], feature_network)
    except OptionError as error:
        raise as_options(error, {"epochs"}) from None
    if training.is_done():
        done, total = training.learner.state.progress.epoch, training.settings.epochs
        say(f"note: {run.name} is finished, after {done} of {total} epochs; nothing is left to train")
    stored = run.config.settings.num_threads
    if training.settings.num_threads != stored:
        say(f"note: the run was started with {stored} threads and continues with {training.settings.num_threads}; the last bits of "
            "its numbers may differ from those of an uninterrupted run")  # fmt: skip
    return training


def _watch(training: session.TrainingSession, quiet: bool) -> session.Result:
    """Train and finish, showing progress; after Ctrl-C save a checkpoint and raise Stopped with the command to continue."""
    name = shell_word(training.run.name)
    advice = f"to continue: pellucid train --resume {name}"
    try:
        with (
            CtrlC() as ctrl_c,
            Watcher(
                training.settings.epochs, len(training.learner.loader), quiet=quiet, metric=training.metric
            ) as watcher,
        ):
            for event in training.events():
                watcher.show(event)
                if ctrl_c.pressed:
                    training.save()
                    at = training.learner.state.progress
                    raise Stopped(
                        f"stopped in epoch {at.epoch + 1} at step {at.step}{watcher.of_member}, everything is saved; {advice}"
                    )
        if not quiet:
            folds = ", and training again on each fold" if training.is_cross_validated else ""
            say(f"scoring on the test data, and fitting the baselines to compare with{folds} ...")
        before = len(training.problem.notes)
        result = training.finish()
        later = training.problem.notes[before:]
        for note in warnings_among(later) if quiet else later:
            say(note)
        return result
    except KeyboardInterrupt:
        raise Stopped(f"stopped, the last checkpoint is kept; {advice}") from None


def closing_lines(training: session.TrainingSession, result: session.Result) -> list[str]:
    """Test score against the baseline, the run, the report, and the next command to paste."""
    run, folds = training.run, result.folds
    lines = [f"note    {note}" for note in result.notes]
    if folds is not None:  # of so few rows this is the score to go by
        lines.append(f"folds   {fold_line(folds)}{_beside(folds.network, folds.baselines)}")
    beside = _beside(result.metrics, result.baselines) if folds is None else ", the network kept, on one split"
    lines.append(f"test    {score_line(result.metrics)}{beside}")
    scored, of_what = (
        (result.metrics, "of the test rows") if folds is None else (folds.network, "of the rows, over folds,")
    )
    if scored.get("coverage") is not None:
        held = [value_text(scored, "coverage"), interval_text(scored, "coverage")]
        lines.append(f"held    {held[0]} {of_what} lie in their interval{f' ({held[1]})' if held[1] else ''}")
    if result.importances is not None:
        lines.append(f"inputs  {importance_line(result.importances)}")
    return [
        *lines,
        f"run     {run.folder}",
        f"report  {run.report}",
        f"next    {next_command(training, result)}",
    ]


def _beside(metrics: Metrics, baselines: dict[str, Metrics]) -> str:
    """`, better than logistic regression 94.1%`; empty without baselines."""
    if not baselines:
        return ""
    return f", {compare_with_baselines(metrics, baselines).relation} {baseline_words(baselines)}"


def next_command(training: session.TrainingSession, result: session.Result) -> str:
    """The command to try next on the new run: why it answered as it did where it was farthest from right."""
    run = shell_word(training.run.name)
    if isinstance(training.network, LanguageModel | ImageGenerator) or result.worst is None:
        return f"pellucid sample {run}"
    return f"pellucid explain {run} --example {result.worst}"


def _as_json(training: session.TrainingSession, result: session.Result) -> dict[str, Json]:
    return {
        "run": str(training.run.folder), "task": training.problem.task, **flat(result.metrics), "seconds": round(result.seconds, 3),
        "epochs": result.epochs, "best_epoch": result.best_epoch, "baseline": baseline_json(result.baselines),
        **importances_json(result.importances),
        **({} if result.folds is None else {"folds": {"count": result.folds.count, **flat(result.folds.network),
                                                      "baseline": baseline_json(result.folds.baselines)}}),
        **({} if result.ensemble is None else {"ensemble": asdict(result.ensemble)}),
        "notes": [*training.problem.notes, *result.notes],
    }  # fmt: skip
