"""`pellucid predict`: what a trained network says of new rows or files (floor 7)."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..data.base import PredictionForm
from ..data.kinds import kind_named
from ..data.load import open_source
from ..data.series.kind import SeriesKind
from ..data.series.preprocess import SeriesPreprocessor
from ..errors import OptionError
from ..evaluation.metrics import score_line
from ..files import write_text
from ..inference.forecast import forecast
from ..inference.predictor import Predictions, Predictor
from ..inference.text_scorer import TextScorer
from ..models.base import ImageGenerator
from ..runs import run as runs
from .options import Whole, print_json
from .progress import say

SHADES = " .:-=+*#%@"
SHOWN = 10  # pictures drawn, and lines printed, at most


@click.command("predict")
@click.argument("run")
@click.argument("data", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the table here: .csv or .tsv.")
@click.option("--show", is_flag=True, help="Draw what the network saw of each picture or sound.")
@click.option("--horizon", type=Whole(), metavar="N", help="How many steps to go on with a series; 1.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(run: str, data: tuple[str, ...], out: Path | None, show: bool, horizon: int | None, as_json: bool) -> None:
    """Let RUN answer for DATA: a table (it comes back with predictions), pictures for a run on images, or a series to go on with.
    A run that writes tells how little it expects a text, and with --out each of its characters. A series without DATA goes on
    where the run's own ends.

    \b
    pellucid predict last people.csv --out answers.csv
    pellucid predict last seven.png --show
    pellucid predict last temperatures.csv --horizon 7
    pellucid predict last photos/ --out answers.csv
    """
    _check_out(out)
    found = runs.find(run)
    form = kind_named(found.config["kind"]).prediction
    if not data and form is PredictionForm.FORECAST:
        data = (found.config["source"]["spec"],)
    if not data:
        raise OptionError(f"DATA is missing; expected what {found.name} shall answer for; see pellucid predict --help")
    if horizon is not None and form is not PredictionForm.FORECAST:
        raise OptionError(
            f"--horizon {horizon}: {found.name} was not trained on a series; expected one that was; leave it out"
        )
    if form is PredictionForm.TEXT:
        return _read(found, data, out, show, as_json)
    _check_answers(found)
    files = form is PredictionForm.FILES
    if show and not files:
        raise OptionError(f"--show: {found.name} reads tables; expected a run on images or sounds; leave it out")
    if not files and len(data) > 1:
        raise OptionError(f"DATA: {len(data)} tables; expected one; predict them one after another")
    trained = Predictor(found)
    if form is PredictionForm.FORECAST:
        return _go_on(trained, data[0], horizon or 1, out, as_json)
    answers = trained.predict(data)
    for note in trained.unseen_values(answers):
        say(f"note: {note}")
    if show:
        _draw(trained, answers)
    rows = _rows(trained, answers)
    if out is not None:
        write_text(out, _as_text(rows, "\t" if out.suffix.lower() == ".tsv" else ","))
        click.echo(f"{out}: {len(rows):,} rows with predictions", err=as_json)
    if as_json:
        print_json(
            {
                "run": str(found.folder),
                "task": found.config["task"],
                "n": len(rows),
                "predictions": _json_rows(trained, answers),
            }
        )
    elif out is None and files:
        most = max(SHOWN, len(data))  # each file that was named has its line
        for line in _sentences(trained, answers, most):
            click.echo(line)
        if len(rows) > most:
            say(f"and {len(rows) - most:,} more, for which there are answers too; --out answers.csv writes a table of all: each "
                f"{trained.kind.noun}'s file, its class, and the probability of every class")  # fmt: skip
    elif out is None:
        click.echo(_as_text(rows, ","), nl=False)


def _go_on(trained: Predictor, data: str, horizon: int, out: Path | None, as_json: bool) -> None:
    """The steps after the end of a series, one a row."""
    preprocessor, kind = trained.preprocessor, trained.kind
    assert isinstance(preprocessor, SeriesPreprocessor) and isinstance(kind, SeriesKind)
    table = kind.read_table(preprocessor, open_source(data, kind))
    steps = forecast(trained.forward.native, preprocessor, table, horizon)
    rows = [{preprocessor.clock.name: time, "prediction": float(f"{answer:.7g}")} for time, answer in steps]
    if out is not None:
        write_text(out, _as_text(rows, "\t" if out.suffix.lower() == ".tsv" else ","))
        click.echo(f"{out}: {len(rows):,} steps that come next", err=as_json)
    if as_json:
        print_json({"run": str(trained.run.folder), "task": "regression", "n": len(rows), "predictions": rows})
    elif out is None:
        click.echo(_as_text(rows, ","), nl=False)


def _check_answers(found: runs.Run) -> None:
    if isinstance(found.new_network(), ImageGenerator):
        raise OptionError(f"{found.name}: a {found.config['family']}, which draws and answers nothing; expected a run that answers, such as "
                          f"a cnn; for images it draws: pellucid sample {found.name}")  # fmt: skip


def _read(found: runs.Run, data: tuple[str, ...], out: Path | None, show: bool, as_json: bool) -> None:
    """How little a run that writes expects each text, or with `out` each character of one."""
    if show:
        raise OptionError(f"--show: {found.name} reads texts; expected a run on images or sounds; leave it out")
    if out is not None and len(data) > 1:
        raise OptionError(f"DATA: {len(data)} texts; expected one with --out; read them one after another")
    reader = TextScorer(found)
    texts = {name: reader.text(name) for name in data}
    for name, text in texts.items():
        for note in reader.known.unseen_values(text):
            say(f"note: {name}: {note}")
    scores = {name: reader.score(text) for name, text in texts.items()}
    if out is not None:
        rows = [
            {"position": place, "character": letters, "nats": f"{nats:.6f}"}
            for place, letters, nats in reader.surprises(texts[data[0]])
        ]
        write_text(out, _as_text(rows, "\t" if out.suffix.lower() == ".tsv" else ","))
        click.echo(f"{out}: {len(rows):,} rows", err=as_json)
    if as_json:
        told = [{"name": name, "nats": metrics["nats"], "characters": metrics["n"]} for name, metrics in scores.items()]
        print_json({"run": str(found.folder), "task": found.config["task"], "n": len(told), "predictions": told})
    elif out is None:
        for name, metrics in scores.items():
            click.echo(f"{name}: {score_line(metrics)}")


def _check_out(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix.lower() not in (".csv", ".tsv"):
        raise OptionError(f"--out {out}: expected a name that ends in .csv or .tsv; write answers.csv")
    if out.exists():
        raise OptionError(f"--out {out}: there is a file of that name already; expected a new one; choose another name")


def said(trained: Predictor, answers: Predictions) -> list[Any]:
    """The answer for each example: a class name, or a number."""
    if trained.classes is None:
        return [float(f"{value:.7g}") for value in answers.output]
    return [trained.classes[i] for i in answers.output.argmax(1)]


def _rows(trained: Predictor, answers: Predictions) -> list[dict[str, Any]]:
    """The table that goes out: what came in, the prediction, and a probability for each class."""
    rows = []
    for i, prediction in enumerate(said(trained, answers)):
        row: dict[str, Any] = (
            answers.table.row(i) if answers.table is not None else {trained.kind.noun: answers.names[i]}
        )
        row[_free("prediction", row)] = prediction
        for k, name in enumerate(trained.classes or []):
            row[_free(f"probability {name}", row)] = f"{answers.output[i, k]:.6f}"
        rows.append(row)
    return rows


def _free(name: str, row: dict[str, Any]) -> str:
    """`name`, unless the table that came in has such a column already."""
    while name in row:
        name += "_"
    return name


def _as_text(rows: list[dict[str, Any]], separator: str) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _json_rows(trained: Predictor, answers: Predictions) -> list[dict[str, Any]]:
    found = []
    for i, prediction in enumerate(said(trained, answers)):
        row: dict[str, Any] = {"name": answers.names[i], "prediction": prediction}
        if trained.classes is not None:
            row["probabilities"] = {
                name: round(float(answers.output[i, k]), 6) for k, name in enumerate(trained.classes)
            }
        found.append(row)
    return found


def _sentences(trained: Predictor, answers: Predictions, most: int) -> list[str]:
    """`seven.png: 7 (98.2%), then 1 (1.1%), 9 (0.4%)`, for each of the first pictures."""
    lines = []
    for i, name in enumerate(answers.names[:most]):
        best = np.argsort(-answers.output[i])[:3]
        words = [f"{trained.classes[k]} ({100 * answers.output[i, k]:.1f}%)" for k in best]  # type: ignore[index]
        truth = (
            f"; it is {trained.classes[answers.target[i]]}" if answers.target is not None and trained.classes else ""
        )
        lines.append(f"{name}: {words[0]}, then {', '.join(words[1:])}{truth}")
    return lines


def _draw(trained: Predictor, answers: Predictions) -> None:
    """The first images as the network saw them, in characters, on stderr so that stdout stays a table."""
    assert answers.view is not None
    for i, (name, prediction) in enumerate(zip(answers.names[:SHOWN], said(trained, answers), strict=False)):
        image = answers.view(i)
        click.echo(f"{name}, seen as {image.shape[0]}x{image.shape[1]}: {prediction}", err=True)
        for line in drawing(image):
            click.echo("  " + line, err=True)


def drawing(image: np.ndarray) -> list[str]:
    """uint8 (H, W), or (H, W, 3) in colour, as H lines of 2W characters, light where the image is."""
    grey = image.mean(2) if image.ndim == 3 else image
    shades = grey.astype(int) * (len(SHADES) - 1) // 255
    return ["".join(2 * SHADES[shade] for shade in row).rstrip() for row in shades]
