"""`pellucid explain`: why a trained network gave one answer, everything known of it on a page (floor 11)."""

from __future__ import annotations

import click

from ..inference.asked import RunExamples
from ..inference.explanation import explanation
from ..report.explanation_page import explanation_page
from ..runs.run import find_run
from .inspecting import EXAMPLE, TEXT, WITH_EXAMPLES, asked_of, pasted, show
from .options import JSON, HeadedCommand, Names, option


@click.command("explain", cls=HeadedCommand)
@click.argument("run")
@click.argument("data", required=False)
@EXAMPLE
@TEXT
@option(
    "--fixed",
    type=Names(),
    default=(),
    metavar="A,B",
    common=True,
    help="Columns that cannot change, as an age; the least change of the answer leaves them.",
)
@WITH_EXAMPLES
@JSON
def command(
    run: str,
    data: str | None,
    example: int | None,
    text: str | None,
    fixed: tuple[str, ...],
    with_examples: bool,
    as_json: bool,
) -> None:
    """Show why RUN answered as it did for one example: of its own test part, or of DATA: a row, a picture, a text.

    \b
    pellucid explain last --example 17
    pellucid explain last people.csv --example 3 --fixed age,sex
    pellucid explain last --text "To be or not to "
    """
    examples = RunExamples(find_run(run))
    asked = asked_of(examples, data, example, text)
    found = explanation(examples, asked, fixed, with_examples)
    held = ["--fixed", ",".join(fixed)] if fixed else []
    again = pasted("explain", run, data, example, text if with_examples else None, *held)
    view = explanation_page(found, asked, with_examples, again)
    row = asked.row if asked.part == "test" else example
    show(
        examples.run,
        found,
        view,
        as_json,
        with_examples=with_examples,
        next_command=pasted("trace", run, data, row, text),
    )
