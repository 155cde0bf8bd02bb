"""`pellucid labels`: training examples whose label the network doubts (floor 11)."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import click

from ..errors import OptionError
from ..files import write_text
from ..inference.asked import RunExamples
from ..inference.label_issues import LabelIssues, label_issues
from ..report.examples_view import labels_sections
from ..report.inspection import ViewPage
from ..runs.run import find_run
from .inspecting import TOP, WITH_EXAMPLES, pasted, show
from .options import JSON, OUT, HeadedCommand


@click.command("labels", cls=HeadedCommand)
@click.argument("run")
@TOP
@OUT
@WITH_EXAMPLES
@JSON
def command(run: str, top: int, out: Path | None, with_examples: bool, as_json: bool) -> None:
    """Show the training examples of RUN whose label its network doubts most: mistakes in the data, or hard cases.

    RUN: a path, a name under runs/, or last. A row's number is that in your file, from 1, the header not counted.
    """
    if out is not None:
        _check(out)
    trained = find_run(run)
    examples = RunExamples(trained)
    found = label_issues(examples, top)
    if out is not None:
        write_text(out, _as_csv(label_issues(examples, None), "\t" if out.suffix.lower() == ".tsv" else ","))
    title = "Which labels of the training data does the network doubt?"
    sections = labels_sections(examples, found, with_examples)
    holds = "training examples with their labels" if with_examples else ""
    view = ViewPage("labels", title, found.headline(), sections, holds, pasted("labels", run))
    show(
        trained,
        found,
        view,
        as_json,
        with_examples=with_examples,
        next_command=_next(found, examples, run, out),
    )


def _next(found: LabelIssues, examples: RunExamples, name: str, out: Path | None) -> str:
    if not found.rows:
        return pasted("explain", name)
    spec = examples.run.config.source.get("spec", "DATA")
    if out is None:
        return pasted("labels", name, None, None, None, "--out", "doubted.csv")
    return f"look at the first rows of {out}, correct what is wrong in the data, then: {pasted('train', str(spec))}"


def _check(out: Path) -> None:
    if out.suffix.lower() not in (".csv", ".tsv"):
        raise OptionError(f"--out {out}: expected a name that ends in .csv or .tsv; write doubted.csv")
    if out.exists():
        raise OptionError(f"--out {out}: exists already; expected a new file; choose another name")


def _as_csv(found: LabelIssues, separator: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(["example", "label", "says", "off_by_spreads" if found.is_number else "sure", "loss"])
    for row in found.rows:
        writer.writerow([row.name, row.label, row.says, f"{row.sure:.6g}", f"{row.loss:.6g}"])
    return text.getvalue()
