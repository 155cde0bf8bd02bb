"""`pellucid landscape`: how the loss rises around the weights of a run, and on the way to another run (floor 11)."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from ..data.problem import TokenSequence
from ..errors import OptionError
from ..files import Json
from ..inference.asked import RunExamples
from ..inspect.curvature import curvature
from ..inspect.landscape import Landscape, Line, loss_line, loss_slice
from ..inspect.objective import work
from ..report.inspection import ViewPage
from ..report.landscape_view import landscape_sections
from ..runs.run import Run, find_run
from ..runs.snapshots import load_snapshots
from ..tensor import Tensor
from .inspecting import pasted, show
from .options import JSON, Whole, option

MOST, LEAST = 2000, 100  # training examples
PATH, LEAST_PATH = 40, 3  # kept epochs that the path of training goes through
WORK = 300e6  # multiplications of one forward pass over them; of twice as many, fewer points are computed


@click.command("landscape")
@click.argument("run")
@option(
    "--with", "other", metavar="RUN2", common=True, help="Show the line to another training of the same network too."
)
@option("--align", is_flag=True, common=True, help="Match the units of RUN2 to those of RUN first.")
@option(
    "--examples", type=Whole(2), metavar="N", common=True,
    help="How many training examples the loss is a mean of.  [default: 2,000, fewer for costly networks]",
)  # fmt: skip
@JSON
def command(run: str, other: str | None, align: bool, examples: int | None, as_json: bool) -> None:
    """Show how the training loss of RUN rises around its weights: a slice, its curvature, and the line to another run."""
    if align and other is None:
        raise OptionError("--align: given without --with; expected another run to match with; add --with RUN2")
    trained = find_run(run)
    ours = RunExamples(trained)
    note = _as_trained(ours)
    data = batch(ours, examples or MOST)
    fixed, each = work(ours.network, data)
    if examples is None:
        data = batch(ours, min(MOST, max(LEAST, int((WORK - fixed) / max(1.0, each)))))
    costly = fixed + each * len(data[1]) > 2 * WORK
    points, products = (11, 20) if costly else (21, 40)
    line = _line(ours, find_run(other), data, align) if other is not None else None
    path = [one.weights for one in load_snapshots(trained, PATH)]
    found = Landscape(
        loss_slice(ours.network, data, points=points), curvature(ours.network, data, products),
        loss_slice(ours.network, data, points=points, path=path) if len(path) >= LEAST_PATH else None, line, note,
    )  # fmt: skip
    near = ["--with", other] if other is not None else []
    words = pasted("landscape", run, None, None, None, *near, *(["--align"] if align else []))
    view = ViewPage(
        "landscape", "The landscape of the loss", found.headline(), landscape_sections(found), command=words
    )
    following = f"{words} --align" if other and not align else pasted("explain", run)
    show(trained, found, view, as_json, next_command=following)


def batch(examples: RunExamples, most: int) -> tuple[Any, ...]:
    """(inputs, target), with the weights of the rows where they have some: `most` training examples, evenly spread."""
    network, split = examples.network, examples.data.train
    if isinstance(split, TokenSequence):
        windows = split.eval_dataset(network)
        count = min(len(windows), max(2, most // windows[0][0].shape[0]))
        *inputs, target = windows.gather(np.linspace(0, len(windows) - 1, count).round().astype(np.int64))
        return tuple(inputs), target
    part = examples.part("train", most)
    weights = [] if part.weight is None or not getattr(network, "weighted_rows", False) else [part.weight]
    return tuple(part.inputs[name] for name in network.input_names), part.target, *weights


def _as_trained(examples: RunExamples) -> str:
    """Let the network answer alone where validation gave it a share beside linear models; a note on what the loss is then of."""
    for name in ("share", "mix"):
        share = getattr(examples.network, name, None)
        if isinstance(share, Tensor) and (given := float(share.item())) != 1:
            share.assign(np.float32(1))
            return f"The network's share in the answers is {given:.0%}; the loss is that of the whole network, as training had it."
    if len(examples.network.phases()) > 1:
        return "The loss is that of validation; training lowered others, one for each of its phases."
    return ""


def _line(ours: RunExamples, other: Run, data: tuple[Any, ...], align: bool) -> Line:
    theirs = RunExamples(other)
    _as_trained(theirs)
    if _scales_apart(theirs.preprocessor.encoding()) != _scales_apart(ours.preprocessor.encoding()):
        raise OptionError(
            f"--with {other.name}: it reads its data otherwise than {ours.run.name}; expected a run on the same data; "
            "train one with another --seed and the same data"
        )
    return loss_line(ours.network, theirs.network, data, align)


def _scales_apart(encoding: Json) -> Json:
    """An encoding without its real numbers: another seed has other training rows, so other means. RUN2 reads what RUN reads."""
    if isinstance(encoding, dict):
        return {name: _scales_apart(value) for name, value in encoding.items()}
    if isinstance(encoding, list):
        return [_scales_apart(value) for value in encoding]
    return None if isinstance(encoding, float) else encoding
