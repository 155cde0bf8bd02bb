"""`pellucid attention`: where each head of a network looks, and what it is worth (floor 11)."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from ..data.problem import TokenSequence
from ..files import Json
from ..inference.asked import RunExamples
from ..inspect.attending import attending
from ..models.heads.generation import ImageGenerator
from ..models.heads.language import LanguageModel
from ..report.attention_view import attention_sections
from ..report.inspection import ViewPage
from ..runs.run import find_run
from ..tensor import Tensor
from .inspecting import EXAMPLE, TEXT, WITH_EXAMPLES, asked_of, pasted, show
from .options import JSON, option

ABLATED = 128  # examples of the test part on which heads are left out

ABLATE = option(
    "--ablate",
    is_flag=True,
    common=True,
    help=f"Leave heads out on up to {ABLATED} examples of the test part, and not on this one alone.",
)


@click.command("attention")
@click.argument("run")
@click.argument("data", required=False)
@EXAMPLE
@TEXT
@ABLATE
@WITH_EXAMPLES
@JSON
def command(
    run: str, data: str | None, example: int | None, text: str | None, ablate: bool, with_examples: bool, as_json: bool
) -> None:
    """Show where each head of RUN looks, and how much worse the network answers without it.

    The maps are of one example of the test part, of DATA, or of --text.
    """
    trained = find_run(run)
    examples = RunExamples(trained)
    asked = asked_of(examples, data, example, text)
    measured_on = measured_examples(examples) if ablate else None
    spelled = asked.raw if isinstance(asked.raw, list) else ()
    found = attending(asked.question, measured_on, "the test part" if ablate else asked.name, spelled)
    shown = tuple(spelled) if with_examples or text is not None else ()
    holds = "" if not shown else "the text that you typed" if text is not None else f"the text of {asked.name}"
    view = ViewPage(
        "attention",
        f"Where {trained.name} looks",
        found.headline(),
        attention_sections(found, shown),
        holds,
        pasted("attention", run, data, example, text, *(["--ablate"] if ablate else [])),
    )
    more: dict[str, Json] = {"example": asked.name, **({"tokens": list(shown)} if shown else {})}
    following = (
        pasted("explain", run, data, example, text)
        if ablate
        else pasted("attention", run, data, example, text, "--ablate")
    )
    show(trained, found, view, as_json, more=more, with_examples=with_examples, next_command=following)


def measured_examples(examples: RunExamples) -> tuple[tuple[Any, ...], Any]:
    """Inputs and right answers of examples of the test part; of running text, windows of it."""
    network = examples.network
    test = examples.data.test
    if isinstance(test, TokenSequence):
        assert isinstance(network, LanguageModel)
        length = min(network.max_length or network.context_length, network.context_length, len(test) - 1)
        count = max(1, (len(test) - 1) // length)
        first = np.unique(np.linspace(0, count - 1, ABLATED).round().astype(np.int64)) * length
        tokens = np.stack([np.asarray(test.tokens[i : i + length + 1], np.int64) for i in first.tolist()])
        return (Tensor(tokens[:, :-1]),), Tensor(tokens[:, 1:])
    part = examples.part("test", ABLATED)
    inputs = tuple(Tensor(np.asarray(part.inputs[name])) for name in network.input_names)
    target = Tensor(np.asarray(part.target))
    if isinstance(network, ImageGenerator):
        return (*inputs, target), target
    return inputs, target
