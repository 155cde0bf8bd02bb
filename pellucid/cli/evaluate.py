"""`pellucid evaluate`: a trained network's scores, on its own test data or on other data (floor 7)."""

from __future__ import annotations

import click

from ..training import run as runs
from ..training.answering import Trained
from ..training.metrics import headline, interval_text, score_line, value_text
from .options import baseline_json, baseline_words, flat, print_json
from .progress import say


@click.command("evaluate")
@click.argument("run")
@click.argument("data", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(run: str, data: str | None, as_json: bool) -> None:
    """Score RUN (a path, a name under runs/, or last) on its own test data, or on DATA, which must hold the answers."""
    trained = Trained(runs.find(run))
    found = trained.own_test() if data is None else trained.scored(data)
    metrics = trained.score(found)
    for note in trained.notes_on(data, found):
        say(f"note: {note}")
    result = trained.run.result() if data is None else None
    if as_json:
        about = {
            "run": str(trained.run.folder),
            "task": trained.run.config["task"],
            "data": data or trained.run.config["data"],
        }
        beside = {"baseline": baseline_json(result["baselines"])} if result else {}
        print_json({**about, **flat(metrics), **beside})
        return
    click.echo(f"{trained.run.folder} on {data or 'its test data'}: {score_line(metrics)}")
    for name in metrics:
        if name in ("intervals", "n", "correct", headline(metrics)):
            continue
        span = interval_text(metrics, name)
        click.echo(f"  {name:<9} {value_text(metrics, name)}{f'  ({span})' if span else ''}")
    if result:
        click.echo(f"  baseline  {baseline_words(result['baselines'])}")
