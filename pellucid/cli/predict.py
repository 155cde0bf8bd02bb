"""`pellucid predict`: predictions of a trained network for new rows, images, series or texts (floor 11)."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np

from ..data.base import PredictionForm
from ..data.kinds import kind_named
from ..data.load import open_source
from ..data.series.kind import SeriesKind
from ..data.series.preprocess import SeriesPreprocessor
from ..data.table.preprocess import TablePreprocessor
from ..errors import OptionError
from ..evaluation.evaluator import threshold_words
from ..evaluation.forecasts import interval_sentence
from ..evaluation.formatting import score_line, value_text
from ..files import write_text, writing
from ..inference.forecast import Step, forecast
from ..inference.predictor import Predictions, Predictor, notes_by_column
from ..inference.text_scorer import TextScorer
from ..models.heads.generation import ImageGenerator
from ..runs import run as runs
from .data_options import READ
from .options import JSON, OUT, HeadedCommand, Whole, option, print_json
from .progress import say

Row = Mapping[str, object]  # a line of the output by column
SHADES = " .:-=+*#%@"
SHOWN = 10  # the most images and lines to print
INPUTS = {  # what DATA is
    PredictionForm.ROWS: "the table of rows to predict for",
    PredictionForm.FILES: "the files to predict for",
    PredictionForm.TEXT: "the texts to score",
}


@click.command("predict", cls=HeadedCommand)
@click.argument("run")
@click.argument("data", nargs=-1)
@OUT
@option(
    "--preview", is_flag=True, help="Print images, or spectrograms of sounds, in characters, as the network reads them."
)
@option(
    "--horizon",
    type=Whole(),
    metavar="N",
    help="Steps of a series to forecast.  [default: as many as rows say what is known ahead, or 1]",
)
@READ
@JSON
def command(
    run: str,
    data: tuple[str, ...],
    out: Path | None,
    preview: bool,
    horizon: int | None,
    read: str | None,
    as_json: bool,
) -> None:
    """Predict for DATA with RUN: a table (printed again with predictions), images or sounds for a run on such files, or a series to
    forecast; without DATA, the series of the run itself. A language model scores texts: nats per character, and with --out
    those of each character.

    \b
    pellucid predict last people.csv --out predictions.csv
    pellucid predict last seven.png --preview
    pellucid predict last temperatures.csv --horizon 7
    pellucid predict last photos/ --out predictions.csv
    """
    _check_out(out)
    trained = runs.find_run(run)
    kind = kind_named(trained.config.kind)
    form = kind.prediction
    if not data and form is PredictionForm.FORECAST:
        data = (str(trained.config.source["spec"]),)
    if not data:
        raise OptionError(f"missing argument DATA: {INPUTS[form]}; see pellucid predict --help")
    if horizon is not None and form is not PredictionForm.FORECAST:
        raise OptionError(
            f"--horizon {horizon}: {trained.name} was not trained on a series; expected a run on a series; leave it out"
        )
    if form is PredictionForm.TEXT:
        return _score_texts(trained, data, out, preview, read, as_json)
    _check_predicts(trained)
    on_files = form is PredictionForm.FILES
    if preview and not on_files:
        raise OptionError(f"--preview: {trained.name} reads tables; expected a run on images or sounds; leave it out")
    if not on_files and len(data) > 1:
        raise OptionError(f"DATA: {len(data)} tables; expected one; predict for one after another")
    predictor = Predictor(trained)
    if form is PredictionForm.FORECAST:
        return _forecast(predictor, data[0], horizon, out, read, as_json)
    if form is PredictionForm.ROWS:
        return _predict_rows(predictor, data, out, read, as_json)
    _predict_files(predictor, data, out, preview, read, as_json)


def _predict_files(
    predictor: Predictor, data: tuple[str, ...], out: Path | None, preview: bool, read: str | None, as_json: bool
) -> None:
    """Print the class of each file, or write a table of them to `out`."""
    predictions = predictor.predict(data, read)
    notes = [*predictor.unseen_values(predictions), *decision_notes(predictor)]
    for note in notes:
        say(f"note: {note}")
    if preview:
        _print_images(predictor, predictions)
    rows = _rows(predictor, predictions)
    _write(rows, out, "rows with predictions", as_json)
    if as_json:
        _print_json(predictor, _json_rows(predictor, predictions), notes)
    elif out is None:
        most = max(SHOWN, len(data))  # each file that was named has its line
        for line in _sentences(predictor, predictions, most):
            click.echo(line)
        if len(rows) > most:
            say(f"{len(rows) - most:,} more predictions are not shown; --out predictions.csv writes a table of all: each file's name, "
                "its class, and the probability of every class")  # fmt: skip


def _predict_rows(
    predictor: Predictor, data: tuple[str, ...], out: Path | None, read: str | None, as_json: bool
) -> None:
    """Print the table again with predictions, or write it to `out`, a part at a time where it is large."""
    count, told, answers, said = 0, set[str](), list[Row](), list[str]()
    with contextlib.nullcontext() if out is None else writing(out) as file:
        for predictions in predictor.predict_in_parts(data, read):
            if as_json and count:
                raise OptionError(
                    f"--json: {data[0]} has more rows than one JSON object should hold; expected --out FILE; leave --json out"
                )
            notes = notes_by_column(predictor.unseen_values(predictions))
            decided = [] if count else decision_notes(predictor)
            new = [*(note for about, note in notes.items() if about not in told), *decided]
            for note in new:
                say(f"note: {note}")
            said += new
            told |= notes.keys()
            text = _columns_as_text(_columns(predictor, predictions), out, header=not count)
            if file is not None:
                file.write(text.encode("utf-8"))
            elif not as_json:
                click.echo(text, nl=False)
            answers = _json_rows(predictor, predictions) if as_json else answers
            count += len(predictions.output)
    if out is not None:
        click.echo(f"{out}: {count:,} rows with predictions", err=as_json)
    if as_json:
        _print_json(predictor, answers, said)


def _columns_as_text(columns: Mapping[str, Sequence[object]], out: Path | None, header: bool) -> str:
    """Columns as CSV, or TSV where `out` ends so."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=_separator(out), lineterminator="\n")
    if header:
        writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _separator(out: Path | None) -> str:
    return "\t" if out is not None and out.suffix.lower() == ".tsv" else ","


def _forecast(
    predictor: Predictor, data: str, horizon: int | None, out: Path | None, read: str | None, as_json: bool
) -> None:
    """Predict the steps after the end of each series, one a row, with their interval and what it held on the test part."""
    preprocessor, kind = predictor.preprocessor, predictor.kind
    assert isinstance(preprocessor, SeriesPreprocessor) and isinstance(kind, SeriesKind)
    table = kind.read_table(preprocessor, open_source(data, kind, read=read))
    result = predictor.run.result()
    interval = result.interval if result else None
    steps = forecast(predictor.forward.native, preprocessor, table, horizon, interval)
    rows = [forecast_row(preprocessor, step, interval is not None) for step in steps]
    notes = [*table.notes]
    notes += preprocessor.long_enough(table, preprocessor.read_lines(table, notes))[1]
    if interval is not None:
        count = len(steps) // max(1, len({step.series for step in steps}))
        notes.append(f"interval: {interval_sentence(interval, count)}")
        if count > (most := len(interval.half_widths)):
            notes.append(f"interval: measured up to {most} steps ahead; none is printed for the steps after")
    for note in notes:
        say(f"note: {note}")
    _write(rows, out, "forecast steps", as_json)
    if as_json:
        _print_json(predictor, rows, notes)
    elif out is None:
        click.echo(_as_text(rows, ","), nl=False)


def decision_notes(predictor: Predictor) -> list[str]:
    """What predictions rest on: a threshold, and how many test rows the intervals held."""
    config, result, notes = predictor.run.config, predictor.run.result(), []
    how = f"best {config.settings.metric} on validation" if result else "none is chosen yet, the run is not finished"
    if config.thresholds and predictor.classes is not None:
        notes.append(f"threshold: {threshold_words(predictor.classes, config.thresholds)} ({how})")
    if predictor.scoring.has_threshold and config.decision is not None and predictor.classes is not None:
        name = predictor.classes[config.decision.positive]
        notes.append(f"threshold: {name} from a probability of {config.decision.threshold:.3g} ({how})")
    if predictor.preprocessor.interval is not None:
        asked, held = f"{100 * predictor.preprocessor.interval:g}%", "not measured, the run is not finished"
        if result is not None and "coverage" in result.test:
            held = f"{value_text(result.test, 'coverage')} of {result.test.n:,} test rows"
        notes.append(f"interval: lower to upper was to hold {asked}; it held {held}")
    return notes


def forecast_row(preprocessor: SeriesPreprocessor, step: Step, interval: bool) -> Row:
    """A line of a forecast: the series, the time, the prediction and, where it was measured, its interval."""
    number = lambda value: "" if value is None else float(f"{value:.7g}")
    row: dict[str, object] = {preprocessor.series_name: step.series} if preprocessor.series_name else {}
    row |= {preprocessor.clock.name: step.time, "prediction": number(step.value)}
    return {**row, "lower": number(step.low), "upper": number(step.high)} if interval else row


def _write(rows: Sequence[Row], out: Path | None, what: str, as_json: bool) -> None:
    """Write the rows to `out`, if there is one, and say so."""
    if out is not None:
        write_text(out, _as_text(rows, _separator(out)))
        click.echo(f"{out}: {len(rows):,} {what}", err=as_json)


def _print_json(predictor: Predictor, rows: Sequence[Row], notes: Sequence[str]) -> None:
    run = predictor.run
    print_json(
        {"run": str(run.folder), "task": run.config.task, "n": len(rows), "predictions": rows, "notes": list(notes)}
    )


def _check_predicts(trained: runs.Run) -> None:
    if isinstance(trained.new_network(), ImageGenerator):
        raise OptionError(f"{trained.name}: a {trained.config.family} generates images and predicts nothing; expected a run that predicts, such "
                          f"as a cnn; for images: pellucid sample {trained.name}")  # fmt: skip


def _score_texts(
    trained: runs.Run, data: tuple[str, ...], out: Path | None, preview: bool, read: str | None, as_json: bool
) -> None:
    """Score each text by a language model, or with `out` each character of one text."""
    if preview:
        raise OptionError(f"--preview: {trained.name} reads texts; expected a run on images or sounds; leave it out")
    if out is not None and len(data) > 1:
        raise OptionError(f"DATA: {len(data)} texts; expected one with --out; score one after another")
    scorer = TextScorer(trained)
    texts = {name: scorer.text(name, read) for name in data}
    unseen = [f"{name}: {note}" for name, text in texts.items() for note in scorer.preprocessor.unseen_values(text)]
    notes = [*scorer.notes, *unseen]
    for note in notes:
        say(f"note: {note}")
    scores = {name: scorer.score(text) for name, text in texts.items()}
    if out is not None:
        rows = [
            {"position": position, "character": letters, "nats": f"{nats:.6f}"}
            for position, letters, nats in scorer.token_nll(texts[data[0]])
        ]
        _write(rows, out, "rows", as_json)
    if as_json:
        values = [
            {"name": name, "nll_per_char": scored["nll_per_char"], "characters": scored.n}
            for name, scored in scores.items()
        ]
        about = {"run": str(trained.folder), "task": trained.config.task, "n": len(values)}
        print_json({**about, "predictions": values, "notes": notes})
    elif out is None:
        for name, metrics in scores.items():
            click.echo(f"{name}: {score_line(metrics)}")


def _check_out(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix.lower() not in (".csv", ".tsv"):
        raise OptionError(f"--out {out}: expected a name that ends in .csv or .tsv; write predictions.csv")
    if out.exists():
        raise OptionError(f"--out {out}: exists already; expected a new file; choose another name")


def predicted_values(predictor: Predictor, predictions: Predictions) -> list[float | str]:
    """The prediction for each example: a class name, labels as the data write them, or a number."""
    classes, output = predictor.classes, predictions.output
    if classes is None:
        return [float(f"{value:.7g}") for value in (output if output.ndim == 1 else output[:, 1])]
    if predictor.preprocessor.task != "multilabel":
        return [classes[i] for i in predictor.scoring.said(output)]
    known = predictor.preprocessor
    assert isinstance(known, TablePreprocessor) and known.target_form.separator is not None
    between = known.target_form.separator + " " * (known.target_form.separator != "|")
    named = [[classes[k] for k in np.flatnonzero(row)] for row in predictor.scoring.said(output)]
    return [between.join(labels) or known.target_form.no_label for labels in named]


def interval_ends(predictor: Predictor, predictions: Predictions, i: int) -> dict[str, float]:
    """The interval of example `i` by its ends; empty for a run that predicts none."""
    if predictor.preprocessor.interval is None:
        return {}
    low, _, high = predictions.output[i]
    return {"lower": float(f"{low:.7g}"), "upper": float(f"{high:.7g}")}


def _columns(predictor: Predictor, predictions: Predictions) -> dict[str, Sequence[object]]:
    """The output table: the columns of the input, the prediction, and the probability of each class."""
    table, output = predictions.table, predictions.output
    columns: dict[str, Sequence[object]] = {predictor.kind.noun: predictions.names}
    if table is not None:
        columns = {
            name: ["" if cell is None else cell for cell in column.tolist()]
            for name, column in zip(table.names, table.columns, strict=True)
        }
    columns[_new_column("prediction", columns)] = predicted_values(predictor, predictions)
    if predictor.preprocessor.interval is not None:
        for name, k in (("lower", 0), ("upper", 2)):
            columns[_new_column(name, columns)] = [float(f"{end:.7g}") for end in output[:, k].tolist()]
    for k, name in enumerate(predictor.classes or []):
        columns[_new_column(f"probability {name}", columns)] = [f"{p:.6f}" for p in output[:, k].tolist()]
    return columns


def _rows(predictor: Predictor, predictions: Predictions) -> list[Row]:
    """The output table by rows."""
    columns = _columns(predictor, predictions)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _new_column(name: str, columns: Mapping[str, object]) -> str:
    """`name`, with underscores added while there is a column of that name."""
    while name in columns:
        name += "_"
    return name


def _as_text(rows: Sequence[Row], separator: str) -> str:
    """The rows as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _json_rows(predictor: Predictor, predictions: Predictions) -> list[Row]:
    rows: list[Row] = []
    for i, prediction in enumerate(predicted_values(predictor, predictions)):
        row: dict[str, object] = {"name": predictions.names[i], "prediction": prediction}
        row |= interval_ends(predictor, predictions, i)
        if predictor.classes is not None:
            row["probabilities"] = {
                name: round(float(predictions.output[i, k]), 6) for k, name in enumerate(predictor.classes)
            }
        rows.append(row)
    return rows


def _sentences(predictor: Predictor, predictions: Predictions, most: int) -> list[str]:
    """`seven.png: 7 (98.2%), then 1 (1.1%), 9 (0.4%)`, for each of the first `most` images."""
    lines, said = [], predictor.scoring.said(predictions.output)
    for i, name in enumerate(predictions.names[:most]):
        named = said[i]  # first, though a threshold may have made it the less probable one
        best = [named, *(k for k in np.argsort(-predictions.output[i]) if k != named)][:3]
        words = [f"{predictor.classes[k]} ({100 * predictions.output[i, k]:.1f}%)" for k in best]  # type: ignore[index]
        truth = (
            f"; it is {predictor.classes[predictions.target[i]]}"
            if predictions.target is not None and predictor.classes
            else ""
        )
        lines.append(f"{name}: {words[0]}, then {', '.join(words[1:])}{truth}")
    return lines


def _print_images(predictor: Predictor, predictions: Predictions) -> None:
    """Print the first images in characters, as the network reads them, on stderr."""
    assert predictions.view is not None
    for i, (name, prediction) in enumerate(
        zip(predictions.names[:SHOWN], predicted_values(predictor, predictions), strict=False)
    ):
        image = predictions.view(i)
        click.echo(f"{name}, read as {image.shape[0]}x{image.shape[1]}: {prediction}", err=True)
        for line in as_characters(image):
            click.echo("  " + line, err=True)


def as_characters(image: np.ndarray) -> list[str]:
    """An image, uint8 (H, W) or (H, W, 3), as H lines of 2W characters; denser characters are lighter pixels."""
    grey = image.mean(2) if image.ndim == 3 else image
    shades = grey.astype(int) * (len(SHADES) - 1) // 255
    return ["".join(2 * SHADES[shade] for shade in row).rstrip() for row in shades]
