"""What the commands that look into a network share: which example is meant, one screen, a page, and `next` (floor 11)."""

from __future__ import annotations

from collections.abc import Mapping

import click

from ..data.description_text import shell_word
from ..errors import OptionError
from ..files import Json
from ..inference.asked import Asked, RunExamples
from ..inspect.result import Result
from ..report.inspection import ViewPage, write_page
from ..runs.run import Run
from .options import Whole, option, print_json

EXAMPLE = option(
    "--example",
    type=Whole(1),
    metavar="N",
    common=True,
    help="Which example, counted from 1: of the test part, or of DATA.  [default: 1]",
)
TEXT = option(
    "--text", metavar="TEXT", common=True, help="Of a language model: what comes before the token asked about."
)
TOP = option("--top", type=Whole(), metavar="N", default=15, show_default=True, common=True, help="How many to list.")
WITH_EXAMPLES = option(
    "--with-examples",
    is_flag=True,
    common=True,
    help="Let the page hold rows, pictures and texts of your data. Without it, it may be passed on.",
)


def asked_of(examples: RunExamples, data: str | None, example: int | None, text: str | None = None) -> Asked:
    """The question that a user names. Raises OptionError for options that say two things, or data that are not there."""
    if text is not None:
        if data is not None or example is not None:
            raise OptionError(
                "--text: given together with DATA or --example; expected one of them; leave the others out"
            )
        return examples.ask_text(text)
    if data is not None:
        return examples.ask_new(data, example or 1)
    return examples.ask(example or 1)


def pasted(
    view: str, run: str, data: str | None = None, example: int | None = None, text: str | None = None, *more: str
) -> str:
    """The command of a view about the same example, as a shell takes it whole: each word quoted where needed."""
    words = [view, run, *([data] if data is not None else [])]
    words += ["--example", str(example)] if example is not None else []
    words += ["--text", text] if text is not None else []
    return " ".join(shell_word(word) for word in ["pellucid", *words, *more])


def show(
    run: Run,
    result: Result,
    view: ViewPage,
    as_json: bool,
    *,
    more: Mapping[str, Json] | None = None,
    with_examples: bool = False,
    next_command: str,
) -> None:
    """Print a result on one screen, or as JSON; write its page; end with what to do next.

    with_examples: whether the numbers beside the page may hold data.
    """
    about: dict[str, Json] = {"run": str(run.folder), **(more or {})}
    numbers = {**about, **result.to_dict()}
    path = write_page(run.folder, view, numbers if with_examples else {**about, **result.without_data().to_dict()})
    if as_json:
        print_json({**numbers, "page": str(path)})
        return
    click.echo(str(result))
    click.echo()
    click.echo(f"page    {path}")
    click.echo(f"next    {next_command}")


__all__ = ["EXAMPLE", "TEXT", "TOP", "WITH_EXAMPLES", "asked_of", "pasted", "show"]
