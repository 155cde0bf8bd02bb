"""`pellucid evaluate`: a trained network's scores, on its own test data or on other data (floor 7)."""

from __future__ import annotations

import click
import numpy as np

from ..data.load import load_problem
from ..errors import OptionError
from ..evaluation.evaluator import in_units
from ..evaluation.metrics import Metrics, interval_text, primary_metric, score_line, value_text
from ..inference.predictor import Predictor, caveats
from ..inference.text_scorer import TextScorer
from ..models.base import ImageGenerator, LanguageModel, PredictionModel
from ..runs import run as runs
from ..training import session
from .options import baseline_json, baseline_words, flat, print_json
from .progress import say

Scores = tuple[Metrics, dict[str, Metrics], list[str]]  # with those of the baselines, and notes


@click.command("evaluate")
@click.argument("run")
@click.argument("data", required=False)
@click.option("--judge", metavar="RUN", help="For images drawn: the cnn run on the same data that judges them.")
@click.option(
    "--with", "others", multiple=True, metavar="RUN", help="Let RUN answer together with this one: the mean of both."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(run: str, data: str | None, judge: str | None, others: tuple[str, ...], as_json: bool) -> None:
    """Score RUN (a path, a name under runs/, or last) on its own test data, or on DATA, which must hold the answers.

    A run that writes scores any text; one that draws is compared with its own test data alone.

    \b
    pellucid evaluate mnist-cnn-1 --with mnist-cnn-2 --with mnist-cnn-3
    """
    found, beside = runs.find(run), [runs.find(other) for other in others]
    network = found.new_network()
    draws = isinstance(network, ImageGenerator)
    if judge is not None and not draws:
        raise OptionError(
            f"--judge {judge}: {found.name} draws nothing; expected a run that does, such as a gan; leave it out"
        )
    for one in (found, *beside) if beside else ():
        if not isinstance(one.new_network(), PredictionModel):
            raise OptionError(f"--with {', '.join(others)}: {one.name} answers nothing; expected runs that do, such as cnns; leave it out")  # fmt: skip
    if draws and data is not None:
        raise OptionError(
            f"{data}: {found.name} draws, and is compared with its own test data; expected no DATA; leave it out"
        )
    if draws or (isinstance(network, LanguageModel) and data is None):
        metrics, baselines, notes = _examined(found, judge)
    elif isinstance(network, LanguageModel):
        metrics, baselines, notes = _read(found, str(data))
    else:
        metrics, baselines, notes = _answered(found, data, beside)
    notes += [note for one in (found, *beside) for note in caveats(one, data)]
    for note in notes:
        say(f"note: {note}")
    if as_json:
        about = {"run": str(found.folder), "task": found.config["task"], "data": data or found.config["data"]}
        print_json({**about, **flat(metrics), **({"baseline": baseline_json(baselines)} if baselines else {})})
        return
    click.echo(f"{found.folder} on {data or 'its test data'}: {score_line(metrics)}")
    names = [name for name in metrics if name not in ("intervals", "n", "correct", primary_metric(metrics))]
    width = max(map(len, [*names, "baseline"]))
    for name in names:
        span = interval_text(metrics, name)
        click.echo(f"  {name:<{width}}  {value_text(metrics, name)}{f'  ({span})' if span else ''}")
    if baselines:
        click.echo(f"  {'baseline':<{width}}  {baseline_words(baselines)}")


def _answered(run: runs.Run, data: str | None, others: list[runs.Run]) -> Scores:
    """Of a run that answers, or of the mean of several's answers; on its own test data beside its baselines."""
    trained = Predictor(run)
    found = trained.own_test() if data is None else trained.scored(data)
    outputs, truth = [found.output], trained.truth(found)
    zero, one = in_units(trained.preprocessor, np.array([0.0, 1.0]))
    for other in map(Predictor, others):
        theirs = other.own_test() if data is None else other.scored(data)
        own = other.truth(theirs)
        # Each run keeps targets as float32 on a scale of its own, so they agree but for rounding.
        same = own.shape == truth.shape and np.allclose(own, truth, rtol=0, atol=1e-4 * (one - zero))
        if data is None:
            same = same and other.run.config["fingerprint"] == run.config["fingerprint"]
        if other.classes != trained.classes or not same:
            raise OptionError(f"--with {other.run.name}: its test examples are others than those of {run.name}; expected runs on the same "
                              "data and split; name the data to score, or leave it out")  # fmt: skip
        outputs.append(theirs.output)
    found.output = np.mean(outputs, axis=0)
    result = run.result() if data is None else None
    return trained.score(found), result["baselines"] if result else {}, trained.unseen_values(found)


def _examined(run: runs.Run, judge: str | None) -> Scores:
    """Of a run that writes or draws, on its own test data."""
    problem = load_problem(**run.config["source"])
    told = len(problem.notes)
    found = session.examine(run, problem, runs.find(judge) if judge else None)
    return found.metrics, found.baselines, problem.notes[told:]


def _read(run: runs.Run, data: str) -> Scores:
    """Of a run that writes, on another text."""
    reader = TextScorer(run)
    text = reader.text(data)
    return reader.score(text), {}, reader.known.unseen_values(text)
