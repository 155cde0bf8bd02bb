"""`pellucid trace`: one step of training, number by number, seen from one weight (floor 11)."""

from __future__ import annotations

import dataclasses

import click

from ..errors import OptionError
from ..inference.asked import RunExamples
from ..inspect.trace import trace
from ..nn import Module
from ..optim import Optimizer
from ..report.trace_view import trace_page
from ..runs.run import find_run
from ..training.optimizers import make_optimizers
from .inspecting import EXAMPLE, TEXT, asked_of, pasted, show
from .options import JSON, HeadedCommand, Number, option


@click.command("trace", cls=HeadedCommand)
@click.argument("run")
@click.argument("data", required=False)
@EXAMPLE
@TEXT
@option(
    "--weight",
    metavar="NAME",
    common=True,
    help="Which weight, as in layers.0.weight[5,123].  [default: the one of the first layer that is most to blame]",
)
@option("--step-size", type=Number(), metavar="X", common=True, help="Learning rate of the step.  [default: the run's]")
@JSON
def command(
    run: str,
    data: str | None,
    example: int | None,
    text: str | None,
    weight: str | None,
    step_size: float | None,
    as_json: bool,
) -> None:
    """Show one step of training of RUN number by number, for one weight and one example: forward, loss, backward, step.

    \b
    pellucid trace last
    pellucid trace last --example 17 --weight layers.0.weight[5,12] --step-size 0.1
    pellucid trace last --text "the cat sat on the"
    """
    trained = find_run(run)
    asked = asked_of(RunExamples(trained), data, example, text)
    settings = trained.config.settings
    if step_size is not None:
        try:
            settings = dataclasses.replace(settings, lr=step_size)
        except OptionError as error:
            raise OptionError(str(error).replace("lr", "--step-size", 1)) from None

    def own(network: Module) -> list[Optimizer]:
        return make_optimizers(network, settings)

    plain = settings.optimizer == "sgd" and not settings.momentum and not settings.weight_decay
    found = trace(asked.question, weight, settings.lr, None if plain else own)
    options = [
        *(["--weight", weight] if weight is not None else []),
        *(["--step-size", f"{step_size:g}"] if step_size is not None else []),
    ]
    view = trace_page(found, asked.name, pasted("trace", run, data, example, None, *options))
    following = pasted("explain", run, data, example, text)
    show(trained, found, view, as_json, more={"example": asked.name}, next_command=following)
