"""`pellucid runs`: the runs in this folder with their scores (floor 11)."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import PellucidError
from ..evaluation.formatting import fold_line, score_line
from ..files import Json
from ..runs import run as runs
from .options import JSON, baseline_json, baseline_words, flat, print_json
from .tables import print_table


@click.command("runs")
@JSON
def command(as_json: bool) -> None:
    """List the runs under runs/ with their test scores, or the epochs done so far."""
    rows = [_row(folder) for folder in runs.folders()]
    if as_json:
        print_json({"runs": [about for about, _ in rows]})
        return
    if not rows:
        click.echo("no runs here yet; train one: pellucid train digits")
        return
    print_table(["run", "task", "started", "test", "strongest baseline"], [cells for _, cells in rows])


def _row(folder: Path) -> tuple[dict[str, Json], list[str]]:
    """A run for --json and as cells of the table; a damaged run is listed as damaged."""
    try:
        run = runs.load_run(folder)
        result, epochs = run.result(), len(run.history())
    except PellucidError as error:
        return {"run": str(folder), "error": str(error)}, [folder.name, "", "", "damaged: see pellucid summary", ""]
    config = run.config
    about: dict[str, Json] = {"run": str(folder), "task": config.task, "data": config.data, "model": config.family}
    started = config.created[:16].replace("T", " ")
    if result is None:
        state = f"stopped after {run.progress()}"
        return {**about, "epochs": epochs, "finished": False}, [run.name, config.task, started, state, ""]
    full = {
        **about,
        "finished": True,
        **flat(result.test),
        "seconds": result.seconds,
        "baseline": baseline_json(result.baselines),
    }
    if result.folds is not None:  # of a small table, what counts
        shown, baselines = fold_line(result.folds), result.folds.baselines
    else:
        shown, baselines = score_line(result.test), result.baselines
    return full, [run.name, config.task, started, shown, baseline_words(baselines)]
