"""`pellucid summary`: the layers, shapes and parameters of a run's network (floor 11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import click

from ..creation import zeros
from ..data.input_spec import ImageSpec, InputSpec, SeriesSpec, TextSpec
from ..evaluation.formatting import score_line
from ..inspect.summary import summary
from ..models.heads.generation import ImageGenerator
from ..runs import run as runs
from ..tensor import Tensor
from .options import JSON, print_json


@click.command("summary")
@click.argument("run")
@JSON
def command(run: str, as_json: bool) -> None:
    """Show the layers, output shapes and parameters of RUN: a path, a name under runs/, or last."""
    trained = runs.find_run(run)
    network = trained.network() if trained.weights.exists() else trained.new_network()
    inputs = (
        None
        if isinstance(network, ImageGenerator)
        else example_inputs(trained.preprocessor().input_spec(), network.input_names)
    )
    table = summary(network, input=inputs)
    config, result = trained.config, trained.result()
    parameters = sum(p.numel() for p in network.parameters())
    if as_json:
        print_json({"run": str(trained.folder), "task": config.task, "data": config.data, "parameters": parameters,
                    "network": asdict(config.network), "settings": asdict(config.settings), "epochs": len(trained.history())})  # fmt: skip
        return
    click.echo(f"{trained.folder}: {config.task} on {config.data}")
    for note in config.notes:
        click.echo(f"  {note}")
    click.echo()
    click.echo(str(table))
    click.echo()
    click.echo("settings  " + ", ".join(f"{name} {value}" for name, value in asdict(config.settings).items()))
    click.echo(f"epochs    {len(trained.history())}")
    click.echo(
        f"test      {score_line(result.test)}"
        if result
        else f"test      not finished; continue with: pellucid train --resume {trained.name}"
    )


def example_inputs(spec: InputSpec, names: Sequence[str]) -> tuple[Tensor, ...]:
    """The inputs of one example as zeros, in the order in which a network reads them; names: what it reads of a table."""
    if isinstance(spec, TextSpec):
        return (zeros(1, 1).long(),)
    if isinstance(spec, SeriesSpec):
        return (zeros(1, spec.steps, spec.features),)
    if isinstance(spec, ImageSpec):
        return (zeros(1, *spec.size),)
    shapes = {
        "numbers": (spec.numbers,),
        "straight": (len(spec.straight),),
        "categories": (len(spec.categories),),
        "text": (len(spec.texts), 1),
        "text_weights": (len(spec.texts), 1),
    }
    arrays = {name: zeros(1, *shape) for name, shape in shapes.items()}
    return tuple(arrays[name].long() if name in ("categories", "text") else arrays[name] for name in names)
