"""`pellucid tune`: search for better settings, by random search with successive halving (floor 11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..data.base import OptionValue
from ..data.description_text import shell_word
from ..errors import OptionError
from ..evaluation.formatting import short_name
from ..models.heads.prediction import PredictionModel
from ..runs.metric_names import METRIC_TASKS
from ..runs.space import load_space
from ..training import session
from ..training.tuning import BEST, TrialPaused, Tuner, TuningPlan, resume_tuning, start_tuning
from .data_options import data_option_flags
from .options import (
    JSON,
    CtrlC,
    HeadedCommand,
    Number,
    Whole,
    as_options,
    baseline_json,
    flat,
    option,
    print_json,
    seed_option,
)
from .progress import say, score_name, score_text
from .shell import Stopped
from .train import closing_lines, prepare, shown_notes, warnings_among
from .training_options import CONFIG, EAGER, METRIC, MODEL, NUM_THREADS, QUIET, RESUME, SET, epochs_option

MINUTES = 10.0  # where neither a time nor a number of trials is given
WITH_RESUME = {"resume", "trials", "minutes", "quiet", "as_json", "data"}


@click.command("tune", cls=HeadedCommand, short_help="Search for better settings.", options_metavar="[OPTIONS]")
@click.argument("data", required=False)
@data_option_flags
@MODEL
@option(
    "--trials",
    type=Whole(),
    heading="Training",
    common=True,
    help="How many settings to try; the first are those that train takes by itself.",
)
@option(
    "--minutes",
    type=Number(),
    heading="Training",
    common=True,
    help=f"How long to search, the last epochs of the best trial included.  [default: {MINUTES:g}, without --trials]",
)
@option(
    "--space",
    type=click.Path(path_type=Path),
    metavar="FILE",
    heading="Training",
    help="A TOML file that says how settings are drawn.  [default: that of the family, in pellucid/spaces]",
)
@epochs_option(common=False)
@EAGER
@SET
@METRIC
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
    """Search for better settings for DATA: what can be trained on, with the same options. A setting that is given by --set stays.

    Settings are drawn at random. All trials train for a few epochs, the best third goes on for three times as many, and so on.
    Trials are compared on the validation part; the best one alone is tested, once.

    \b
    pellucid tune digits --minutes 10
    pellucid tune people.csv --target income --trials 27
    pellucid tune --resume tune-digits-mlp-1
    """
    minutes = options.get("minutes")
    if minutes is not None and not 0 < minutes < 1e9:
        raise OptionError(f"--minutes {minutes:g}: expected a number above 0; write {MINUTES:g}")
    given = {name: value for name, value in options.items() if value is not None}
    if resume is not None:
        tuner = _resume(context, data, resume, options)
    elif data is None:
        raise click.UsageError("missing argument DATA: what to train on, or --resume RUN; write: pellucid tune digits")
    else:
        tuner = _start(data, given, quiet)
    training, result = _search(tuner, quiet)
    best = tuner.best()
    assert best is not None
    if as_json:
        print_json(_as_json(tuner, best, training, result))
        return
    for line in _closing_lines(tuner, best, training, result):
        click.echo(line)


def _start(data: str, options: dict[str, OptionValue], quiet: bool) -> Tuner:
    trials, minutes, space = (options.pop(name, None) for name in ("trials", "minutes", "space"))
    found = prepare(data, dict(options))
    for name, run in (("init_from", found.init_from), ("feature_network", found.feature_network)):
        if run is not None:
            raise OptionError(f"{name}: {run.name}; expected trials that begin with nothing; leave it out")
    if trials is None and minutes is None:
        minutes = MINUTES
    try:
        plan = TuningPlan(
            found.problem.name, found.family, found.problem.source, found.values, found.given,
            load_space(found.family, space), found.values.get("seed", 0), trials, minutes,
        )  # fmt: skip
        tuner = start_tuning(found.problem, plan)
    except OptionError as error:
        raise as_options(found.located(error), {"space"} if space else ()) from None
    notes = found.problem.notes
    for note in shown_notes(warnings_among(notes) if quiet else notes):
        say(note)
    if not quiet:
        limits = [
            f"{amount:g} {what}{'' if amount == 1 else 's'}"
            for amount, what in ((trials, "trial"), (minutes, "minute"))
            if amount is not None
        ]
        say(
            f"tuning: {', '.join(name for name in plan.space if name not in found.given)} of {found.family}, {' or '.join(limits)}, compared by validation {compared_by(plan)}"
        )
        say(f"run: {tuner.folder}")
    return tuner


def compared_by(plan: TuningPlan) -> str:
    """What trials are compared by."""
    metric, monitor = plan.values.get("metric", ""), plan.values.get("monitor", "loss")
    return short_name(str(metric or monitor))


def _resume(context: click.Context, data: str | None, name: str, options: Mapping[str, OptionValue]) -> Tuner:
    command_line = click.core.ParameterSource.COMMANDLINE
    given = [p for p in context.command.params if context.get_parameter_source(str(p.name)) is command_line]
    extra = sorted(p.opts[0] for p in given if p.name not in WITH_RESUME)
    if data is not None or extra:
        raise click.UsageError(f"--resume: {f'DATA ({data})' if data is not None else extra[0]} cannot be combined with it, since a tuning keeps the options it was "
                               "started with; expected only --trials, --minutes, --quiet, --json; leave it out, or start a new one")  # fmt: skip
    return resume_tuning(name, options["trials"], options["minutes"])


def _search(tuner: Tuner, quiet: bool) -> tuple[session.TrainingSession, session.Result]:
    """Train the trials and test the best, with a line a trial; after Ctrl-C save and raise Stopped with the command to go on."""
    advice = f"to continue: pellucid tune --resume {shell_word(tuner.name)}"
    try:
        with CtrlC() as ctrl_c:
            for part in (tuner.events(), tuner.complete_best()):
                for event in part:
                    if isinstance(event, TrialPaused) and not quiet:
                        say(trial_line(tuner, event))
                    if ctrl_c.pressed:
                        tuner.pause()
                        raise Stopped(f"stopped, everything is saved{_so_far(tuner)}; {advice}")
        if not quiet:
            say(f"scoring trial {tuner.best()} on the test data, and fitting the baselines to compare with ...")
        training = tuner.open_best()
        result = training.finish()
        tuner.close()
        return training, result
    except KeyboardInterrupt:
        raise Stopped(f"stopped, the last checkpoints are kept{_so_far(tuner)}; {advice}") from None


def _so_far(tuner: Tuner) -> str:
    best = tuner.best()
    return "" if best is None else f", the best so far is trial {best}, its settings are in {tuner.folder / BEST}"


def trial_line(tuner: Tuner, event: TrialPaused) -> str:
    """`trial  4  round 2 of 3   10/30 epochs  accuracy 96.7%  loss 0.0912 *  lr 0.0043, dropout 0.12`."""
    of = f"  round {event.rung} of {event.rungs}" if event.rungs > 1 else ""
    head = f"trial {event.number:>2}{of}  {f'{event.epochs}/{event.total}':>7} epochs"
    drawn = settings_words(event.drawn) or "the settings that train takes"
    if event.failed:
        return f"{head}  failed: {event.failed[:100]}  ({drawn})"
    values = {name: value for name, value in event.validation.items() if value is not None}
    return f"{head}  {result_words(values, tuner)} {'*' if event.best else ' '}  {drawn}"


def result_words(values: Mapping[str, float], tuner: Tuner) -> str:
    """The validation score that trials are compared by, or the usual one, and the loss."""
    metric = str(tuner.plan.values.get("metric", ""))
    name = next((name for name in values if metric and name in (metric, *_full_names(metric))), score_name(values))
    score = f"{short_name(name)} {score_text(values, name)}, " if name else ""
    return f"{score}loss {values['loss']:.4f}"


def _full_names(metric: str) -> list[str]:
    """The names that the score of a metric may have."""
    return [f"{metric}_micro", f"{metric}_macro"] if metric in METRIC_TASKS else []


def settings_words(drawn: Mapping[str, Any]) -> str:
    """`lr 0.0043, hidden_sizes 128,64`."""
    text = lambda value: ",".join(map(str, value)) if isinstance(value, list | tuple) else f"{value}"
    return ", ".join(f"{name} {text(value)}" for name, value in drawn.items())


def _closing_lines(tuner: Tuner, best: int, training: session.TrainingSession, result: session.Result) -> list[str]:
    """What was found, the scores of the best trial, its settings as a file, and the next command."""
    kept = [line for line in closing_lines(training, result) if not line.startswith("next ")]
    beside = ""
    if best != 1 and (plain := tuner.run(1)) is not None and (first := _known(tuner.result(1))):
        epochs = f"{len(plain.history())} of {plain.config.settings.epochs} epochs"
        beside = f"; without tuning, trial 1 after {epochs}, {result_words(first, tuner)}"
    drawn = settings_words(tuner.drawn(best)) or "nothing: no trial was better than the settings that train takes"
    data = shell_word(str(training.problem.source["spec"]))
    again = " --ensemble 5" if isinstance(training.network, PredictionModel) else ""
    return [
        f"best    trial {best} of {len(tuner.begun())}, on validation {result_words(_known(tuner.result(best)), tuner)}{beside}",
        f"drawn   {drawn}",
        *kept,
        f"config  {tuner.folder / BEST}",
        f"next    pellucid train {data} --config {shell_word(str(tuner.folder / BEST))}{again}",
    ]


def _known(record: Any) -> dict[str, float]:
    return {} if record is None else {name: value for name, value in record.validation.items() if value is not None}


def _as_json(tuner: Tuner, best: int, training: session.TrainingSession, result: session.Result) -> dict[str, object]:
    trials = []
    for number in tuner.begun():
        if (run := tuner.run(number)) is not None:
            trials.append({
                "trial": number, "run": str(run.folder), "epochs": len(run.history()), "settings": tuner.drawn(number),
                "validation": _known(tuner.result(number)), "failed": tuner.plan.failed.get(str(number), ""),
            })  # fmt: skip
    return {
        "tuning": str(tuner.folder), "run": str(training.run.folder), "task": training.problem.task, "best": best, "trials": trials,
        "config": str(tuner.folder / BEST), **flat(result.metrics), "seconds": round(tuner.plan.seconds, 3),
        "settings": asdict(training.run.config.network) | asdict(training.settings), "baseline": baseline_json(result.baselines),
        "notes": [*training.problem.notes, *result.notes],
    }  # fmt: skip
