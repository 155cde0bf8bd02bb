"""`pellucid blame`: which parts of a network made an answer wrong (floor 11)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import click

from ..errors import OptionError
from ..inference.asked import Asked, RunExamples
from ..inference.attributed import attribution_of
from ..inference.wrong import wrong_answers
from ..inspect.attribution import METHODS
from ..inspect.blame import MEASURES, blame
from ..inspect.result import Result
from ..models.heads.language import LanguageModel
from ..report.attribution_view import attribution_sections
from ..report.blame_view import Sections, blame_sections, example_section
from ..report.examples_view import examples_view
from ..report.inspection import ViewPage
from ..runs.run import find_run
from .inspecting import EXAMPLE, TOP, WITH_EXAMPLES, asked_of, pasted, show
from .options import JSON, HeadedCommand, Whole, option

BY_REMOVAL = ("auto", "gradient", "exact")


@dataclass(frozen=True)
class Wanted:
    """What a user asks: about one example or several, and of what."""

    examples: RunExamples
    asked: list[Asked]
    of: str
    top: int
    measure: str
    method: str
    target: str | None
    baseline: str | None
    with_examples: bool


def _inputs(wanted: Wanted) -> tuple[Result, Sections]:
    if len(wanted.asked) > 1:
        raise OptionError(
            f"--wrong {len(wanted.asked)}: with --of inputs; expected one example, whose input is looked at; write --example N"
        )
    (asked,) = wanted.asked
    method = "integrated_gradients" if wanted.method == "auto" else wanted.method
    if method not in METHODS:
        raise OptionError(
            f"--method {method}: with --of inputs; expected one of {', '.join(METHODS)}; write --method occlusion, say"
        )
    found = attribution_of(wanted.examples, asked, method, wanted.target, wanted.baseline, wanted.with_examples)
    return found, attribution_sections(found, asked)


def _examples(wanted: Wanted) -> tuple[Result, Sections]:
    if len(wanted.asked) > 1:
        raise OptionError(
            f"--wrong {len(wanted.asked)}: with --of examples; expected one answer, whose training examples are ranked; "
            "write --example N"
        )
    found, sections = examples_view(wanted.examples, wanted.asked[0], wanted.top, with_examples=wanted.with_examples)
    return found, sections


def _parts(wanted: Wanted) -> tuple[Result, Sections]:
    if wanted.method not in BY_REMOVAL:
        raise OptionError(
            f"--method {wanted.method}: with --of {wanted.of}; expected one of {', '.join(BY_REMOVAL)}; or write --of inputs"
        )
    for name, value in (("--answer", wanted.target), ("--baseline", wanted.baseline)):
        if value is not None:
            raise OptionError(
                f"{name} {value}: with --of {wanted.of}; expected it with --of inputs alone; leave it out"
            )
    found = blame(
        [one.question for one in wanted.asked],
        wanted.of,  # type: ignore[arg-type]
        wanted.top,
        wanted.measure,  # type: ignore[arg-type]
        wanted.method,  # type: ignore[arg-type]
    )
    return found, blame_sections(found)


# What may be blamed -> from what is wanted to the result and its sections of the page, which hold nothing of the data.
OF: dict[str, Callable[[Wanted], tuple[Result, Sections]]] = {
    "weights": _parts,
    "units": _parts,
    "heads": _parts,
    "layers": _parts,
    "inputs": _inputs,
    "examples": _examples,
}


@click.command("blame", cls=HeadedCommand)
@click.argument("run")
@click.argument("data", required=False)
@EXAMPLE
@option(
    "--wrong",
    type=Whole(1),
    metavar="N",
    common=True,
    help="The mean over the first N wrong answers of the test part, in place of one example.",
)
@option(
    "--line",
    metavar="TEXT",
    common=True,
    help="Of a language model: a text whose last token is the right answer, after those before it.",
)
@option(
    "--of", type=click.Choice(list(OF)), default="weights", show_default=True, common=True, help="What may be to blame."
)
@TOP
@option(
    "--measure",
    type=click.Choice(list(MEASURES)),
    default="loss",
    show_default=True,
    help="What they did: raise the loss, or the margin of the best wrong class over the right one.",
)
@option(
    "--method",
    type=click.Choice([*BY_REMOVAL, *METHODS]),
    default="auto",
    show_default=True,
    help="Measure all parts (exact), or the first by the gradient; auto measures all where that takes about a second. The other "
    "words are for --of inputs, whose default is integrated_gradients.",
)
@option(
    "--answer",
    metavar="ANSWER",
    help="With --of inputs: the answer that is looked at.  [default: what the network says]",
)
@option(
    "--baseline",
    metavar="mean|zero|FILE",
    help="With --of inputs: what the example is compared with.  [default: no ink, the training mean, or no token]",
)
@WITH_EXAMPLES
@JSON
def command(
    run: str, data: str | None, example: int | None, wrong: int | None, line: str | None, of: str, top: int, measure: str,
    method: str, answer: str | None, baseline: str | None, with_examples: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show which weights, units, heads or layers of RUN made an answer wrong: without them the loss would be lower. Each row
    is measured, by setting the part to zero. Or which of its inputs, or of the training examples, made it.

    \b
    pellucid blame last --example 17
    pellucid blame last --wrong 50 --of units
    pellucid blame last people.csv --example 3
    pellucid blame last --line "The ca" --of heads
    """
    trained = find_run(run)
    examples = RunExamples(trained)
    if wrong is not None:
        if data is not None or example is not None or line is not None:
            raise OptionError(
                f"--wrong {wrong}: together with DATA, --example or --line; expected one of them; leave the others out"
            )
        asked = wrong_answers(examples, wrong)
    else:
        one = asked_of(examples, data, example, line)
        asked = [one if line is None else _about_its_last_token(one)]
    result, sections = OF[of](Wanted(examples, asked, of, top, measure, method, answer, baseline, with_examples))
    words = _about(examples, asked, shown=with_examples)
    holds = ""
    if with_examples and len(asked) == 1:
        shown = example_section(asked[0].raw, asked[0].name)
        sections = sections if shown is None else [shown, *sections]
        holds = "the example and what was said of it"
    many = ["--wrong", str(wrong)] if wrong is not None else []
    typed = ["--line", line] if line is not None else []
    again = pasted("blame", run, data, example, None, *many, *(typed if with_examples else []), "--of", of)
    view = ViewPage("blame", f"To blame: {of}", f"{words}. {result.headline()}", sections, holds, again)
    if not as_json:
        click.echo(_about(examples, asked, shown=True))
    following = "units" if of == "weights" else "weights"
    show(
        trained, result, view, as_json, more={"example": words}, with_examples=with_examples,
        next_command=pasted("blame", run, data, example, None, *many, *typed, "--of", following),
    )  # fmt: skip


def _about_its_last_token(one: Asked) -> Asked:
    """The question whose right answer is the last token of a text, after those before it."""
    tokens = one.question.inputs[0]
    if tokens.shape[1] < 2:
        raise OptionError(
            "--line: one token; expected two or more, of which the last is taken as the right answer; write more of it"
        )
    question = dataclasses.replace(one.question, inputs=(tokens[:, :-1],), target=tokens[:, -1])
    return dataclasses.replace(one, question=question, name=f"the text, token {tokens.shape[1]}")


def _about(examples: RunExamples, asked: list[Asked], shown: bool) -> str:
    """Which example, what the network says of it and what is right. shown: also what stands in the data."""
    if len(asked) > 1:
        return f"{len(asked)} wrong answers of the {asked[0].part} part"
    one = asked[0]
    new = "the text" if isinstance(examples.network, LanguageModel) else "an example of new data"
    name = one.name if shown else f"{one.part} {one.row}" if one.part else new
    if one.classes is None or (isinstance(examples.network, LanguageModel) and not shown):
        return name
    said = one.class_name(one.answer()[0])
    right = f", right is {one.class_name(one.right)!r}" if shown and one.right is not None else ""
    return f"{name}: the network says {said!r}{right}"
