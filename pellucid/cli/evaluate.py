"""`pellucid evaluate`: score a trained network on its own test data or on other data (floor 11)."""

from __future__ import annotations

import click
import numpy as np

from ..errors import OptionError
from ..evaluation.evaluator import inverse_transform
from ..evaluation.formatting import fold_line, interval_text, score_line, value_text
from ..evaluation.metrics import Metrics, primary_metric
from ..inference.predictor import Predictor, caveats
from ..inference.text_scorer import TextScorer
from ..models.heads.generation import ImageGenerator
from ..models.heads.language import LanguageModel
from ..models.heads.prediction import PredictionModel
from ..runs import run as runs
from ..training import session
from .data_options import READ
from .options import FEATURE_NETWORK, JSON, HeadedCommand, baseline_json, baseline_words, flat, option, print_json
from .progress import say

Scores = tuple[Metrics, dict[str, Metrics], list[str]]  # metrics, those of each baseline, and notes


@click.command("evaluate", cls=HeadedCommand)
@click.argument("run")
@click.argument("data", required=False)
@FEATURE_NETWORK
@option(
    "--average-with",
    "names",
    multiple=True,
    metavar="RUN",
    help="Average the predictions of this run and of RUN; may be given several times.",
)
@READ
@JSON
def command(
    run: str, data: str | None, feature_network: str | None, names: tuple[str, ...], read: str | None, as_json: bool
) -> None:
    """Score RUN (a path, a name under runs/, or last) on its own test data, or on DATA, which must hold the targets.

    A language model scores any text. An image generator is compared with its own test data only.

    \b
    pellucid evaluate mnist-cnn-1 --average-with mnist-cnn-2 --average-with mnist-cnn-3
    """
    if read is not None and data is None:
        raise OptionError(
            f"--read {read}: no DATA to read; expected the file to score on; name it, or leave --read out"
        )
    trained, others = runs.find_run(run), [runs.find_run(other) for other in names]
    network = trained.new_network()
    generates = isinstance(network, ImageGenerator)
    if feature_network is not None and not generates:
        raise OptionError(
            f"--feature-network {feature_network}: {trained.name} generates no images; expected a run that does, such as a gan; "
            "leave it out"
        )
    for member in (trained, *others) if others else ():
        if not isinstance(member.new_network(), PredictionModel):
            raise OptionError(f"--average-with {', '.join(names)}: {member.name} predicts nothing; expected runs that do, such as cnns; leave it out")  # fmt: skip
    if generates and data is not None:
        raise OptionError(
            f"{data}: {trained.name} generates images, which are compared with its own test data; expected no DATA; leave it out"
        )
    if generates or (isinstance(network, LanguageModel) and data is None):
        metrics, baselines, notes = _evaluate_own_test(trained, feature_network)
    elif isinstance(network, LanguageModel):
        metrics, baselines, notes = _evaluate_text(trained, str(data), read)
    else:
        metrics, baselines, notes = _evaluate_predictions(trained, data, others, read)
    told = any(note.startswith("rows: ") and "flatters" in note for note in notes)
    notes += [
        note for member in (trained, *others) for note in caveats(member, None if told and member is trained else data)
    ]
    for note in notes:
        say(f"note: {note}")
    if as_json:
        about = {"run": str(trained.folder), "task": trained.config.task, "data": data or trained.config.data}
        print_json(
            {**about, **flat(metrics), **({"baseline": baseline_json(baselines)} if baselines else {}), "notes": notes}
        )
        return
    click.echo(f"{trained.folder} on {data or 'its test data'}: {score_line(metrics)}")
    further = [name for name in metrics.scores if name != primary_metric(metrics)]
    width = max(map(len, [*further, "baseline"]))
    for name in further:
        interval = interval_text(metrics, name)
        click.echo(f"  {name:<{width}}  {value_text(metrics, name)}{f'  ({interval})' if interval else ''}")
    result = trained.result() if data is None and not others else None
    if result is not None and result.folds is not None:
        click.echo(f"  {'folds':<{width}}  {fold_line(result.folds)}")
    if baselines:
        click.echo(f"  {'baseline':<{width}}  {baseline_words(baselines)}")


def _evaluate_predictions(run: runs.Run, data: str | None, others: list[runs.Run], read: str | None) -> Scores:
    """Scores of a run, or of the mean prediction of several; on its own test data with its baselines."""
    predictor = Predictor(run)
    predictions = predictor.predict_test() if data is None else predictor.predict_labelled(data, read)
    outputs, truth = [predictions.output], predictor.targets(predictions)
    zero, one = inverse_transform(predictor.preprocessor, np.array([0.0, 1.0]))
    for other in map(Predictor, others):
        other_predictions = other.predict_test() if data is None else other.predict_labelled(data, read)
        other_truth = other.targets(other_predictions)
        # Each run stores targets as float32 on its own scale, so they agree except for rounding.
        same = other_truth.shape == truth.shape and np.allclose(other_truth, truth, rtol=0, atol=1e-4 * (one - zero))
        if data is None:
            same = same and other.run.config.fingerprint == run.config.fingerprint
        if other.classes != predictor.classes or not same:
            raise OptionError(f"--average-with {other.run.name}: its test examples differ from those of {run.name}; expected runs on the same "
                              "data and split; name the data to score, or leave it out")  # fmt: skip
        outputs.append(other_predictions.output)
    predictions.output = np.mean(outputs, axis=0)
    notes = predictor.unseen_values(predictions)
    if data is None:
        result = run.result()
        return predictor.score(predictions), result.baselines if result else {}, notes
    known, why = predictor.rows_of_training(predictions)
    if known is not None:
        what = f"rows: {int(known.sum()):,} of {len(known):,} are rows of training, so this score flatters"
        rest = "no others" if known.all() else f"on the others {score_line(predictor.score(predictions, ~known))}"
        why = [f"{what}; {rest}"]
    return predictor.score(predictions), {}, [*notes, *why]


def _evaluate_own_test(run: runs.Run, feature_network: str | None) -> Scores:
    """Scores of a language model or an image generator on its own test data."""
    problem = run.load_problem()
    before = len(problem.notes)
    result = session.evaluate_run(run, problem, runs.find_run(feature_network) if feature_network else None)
    return result.metrics, result.baselines, problem.notes[before:]


def _evaluate_text(run: runs.Run, data: str, read: str | None) -> Scores:
    """Scores of a language model on another text."""
    scorer = TextScorer(run)
    text = scorer.text(data, read)
    return scorer.score(text), {}, [*scorer.notes, *scorer.preprocessor.unseen_values(text)]
