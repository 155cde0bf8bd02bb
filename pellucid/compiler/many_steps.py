"""`run_steps`: many steps of a compiled step in one call, its arguments checked and its results stacked (floor 4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.op import new_value
from ..errors import OptionError, format_shape
from ..ops.index import rows, take
from ..tensor import Tensor
from .backends import Program
from .backends.in_turn import joined, kept, one_step
from .trace.traced_step import Function, IndexFault

if TYPE_CHECKING:
    from ..tensor.operands import TensorLike

Progress = Callable[[int], object]
CHUNK = 0.05  # seconds between two calls of `progress`, about
# Gives the Tensors of a call and its program, and whether that program is good for more than this call.
Lookup = Callable[[tuple[Tensor, ...]], tuple[list[Tensor], Program, bool]]


def on_rows(function: Function) -> Function:
    """`function` on gathered rows. Arguments: the first row of each Tensor of data, the number of rows of each, the index."""

    def on_rows(*given: Tensor) -> Any:
        *data, index = given
        half = len(data) // 2
        return function(*[rows(x, index, count) for x, count in zip(data[:half], data[half:], strict=True)])

    return on_rows


def resident_arguments(data: Sequence[Tensor], order: np.ndarray) -> list[Tensor]:
    """What `on_rows` is given before the index: the first row of each Tensor of data, and the number of its rows."""
    first = [_resident(x, i, order) for i, x in enumerate(data)]
    return [*first, *(new_value(np.array(len(x.array), np.int64)) for x in data)]


def run_each(
    lookup: Lookup, given: Callable[[], Sequence[Tensor]], order: np.ndarray, per_step: Mapping[Tensor, np.ndarray],
    progress: Progress | None,
) -> Any:  # fmt: skip
    """Run one step for each row of `order`, which is the last argument after `given()`. Returns the results stacked.

    Steps run natively for some 50 ms at a time. Before each such chunk the arguments and the program are looked up again, so
    that what `progress` did counts. per_step: the value of a Tensor in each step. Raises IndexFault with the number of the
    first step whose index was out of range.
    """
    parts, done, told = [], 0, time.perf_counter()
    with kept(per_step):
        while done < len(order):
            tensors, program, is_kept = lookup((*given(), new_value(order[done])))
            check_unwritten(program, per_step, "per_step", "leave it to the step, or call the step in a loop")
            rest = {tensor: values[done:] for tensor, values in per_step.items()}
            try:
                if program.is_whole and is_kept:
                    result, count = program.run_steps(tensors, order[done:], rest)
                else:
                    result, count = one_step(partial(program, tensors), rest)
            except IndexFault as fault:
                raise IndexFault(done + fault.args[0]) from None
            parts.append(result)
            done += count
            if progress is not None and (done == len(order) or time.perf_counter() - told > CHUNK):
                progress(done)
                told = time.perf_counter()
    return joined(parts)


def step_order(indices: TensorLike) -> np.ndarray:
    """Which rows each step takes, (S, B) int64."""
    try:
        order = np.asarray(indices.array if isinstance(indices, Tensor) else indices)
    except ValueError:
        raise OptionError(
            "run_steps: indices of different lengths; expected (steps, batch); leave out the shorter last batch"
        ) from None
    if order.ndim != 2 or not order.size:
        raise OptionError(
            f"run_steps: indices {format_shape(order.shape)}; expected (steps, batch), both at least 1; reshape them"
        )
    if order.dtype.kind not in "iu" or order.dtype == np.uint64:
        raise OptionError(f"run_steps: indices are {order.dtype}; expected whole numbers; convert them to int64")
    return np.ascontiguousarray(order, np.int64)


def step_values(per_step: Mapping[Tensor, TensorLike] | None, steps: int) -> dict[Tensor, np.ndarray]:
    """The values of each Tensor by step, (S, ...) in its own dtype."""
    checked = {}
    for number, (tensor, given) in enumerate((per_step or {}).items()):
        if not isinstance(tensor, Tensor) or tensor.cell is not None:
            what = "a view" if isinstance(tensor, Tensor) else f"a {type(tensor).__name__}"
            raise OptionError(f"run_steps: per_step names {what}; expected a Tensor that the step reads; name that one")
        values = np.asarray(given.array if isinstance(given, Tensor) else given)
        if values.shape != (steps, *tensor.shape):
            raise OptionError(
                f"run_steps: per_step has {format_shape(values.shape)} for Tensor {number} {format_shape(tensor.shape)}; expected "
                f"{format_shape((steps, *tensor.shape))}, one value for each step; give as many as there are rows of indices"
            )
        checked[tensor] = np.ascontiguousarray(values, tensor.dtype)
    return checked


def refuse_as_data(per_step: Mapping[Tensor, np.ndarray], data: Sequence[Tensor]) -> None:
    """Raise OptionError for a Tensor of `per_step` that the step is given rows of."""
    for number, x in enumerate(data):
        if any(x is tensor for tensor in per_step):
            raise OptionError(
                f"run_steps: per_step names data {number} {format_shape(x.shape)}; expected another Tensor that the step reads; "
                "give the rows of each step by indices"
            )


def _resident(x: Tensor, number: int, order: np.ndarray) -> Tensor:
    """The first row of data, in memory where the other rows follow it."""
    if not isinstance(x, Tensor):
        raise OptionError(
            f"run_steps: data {number} is a {type(x).__name__}; expected a Tensor; make it one with pellucid.tensor(...)"
        )
    if x.requires_grad:
        raise OptionError(
            f"run_steps: data {number} {format_shape(x.shape)} requires a gradient; expected data that only the step reads; "
            "pass x.detach()"
        )
    if not x.shape or not x.shape[0]:
        take(x, new_value(order[0]))  # says what is wrong
    return new_value(np.ascontiguousarray(x.array)[:1])


def check_unwritten(program: Program, tensors: Iterable[Tensor], what: str, fix: str) -> None:
    """Raise OptionError where the step writes one of the Tensors, named `what`, that it was given to read."""
    written = {id(entry.owner.cell or entry.owner) for entry, _ in program.graph.writes}
    for number, x in enumerate(tensors):
        if id(x.cell or x) in written:
            raise OptionError(
                f"run_steps: the step writes {what} {number} {format_shape(x.shape)}; expected {what} that stay as they are; {fix}"
            )
