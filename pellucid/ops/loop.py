"""scan: a loop with a carry, `scan(body, carry, xs) -> carry, ys`, and tree_map over nests of Tensors (floor 2).

    for t in range(T):  carry, y[t] = body(carry, x[t])

Eagerly it is that Python loop, and its tape gives gradients of any order. While a step is recorded it is one operation, whose
compile time does not grow with T: the tracer runs the body once (`compiler/trace/scan.py`). For that the length is static, the
carry keeps its structure, shapes and dtypes, and the body assigns no state; all of this is checked here in every mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..core.op import Node, Op, Rule
from ..core.value import Shaped, Spec, Value, current_tracer
from ..errors import ShapeError, TraceError, format_shape
from .movement import concatenate, reshape, slice_

# A Tensor, or tuples, lists and dicts of them: what the user chooses.
Nest = Any
# The body of a scan: (carry, x) -> (carry, y).
Body = Callable[[Nest, Nest], tuple[Nest, Nest]]

# The name of the body while a scan runs it, else empty; `Tensor.assign` refuses then.
inside: ContextVar[str] = ContextVar("scan", default="")
SHORT = 2  # loops up to this length are unrolled while a step is recorded: a scan would gain nothing


def scan(
    body: Body,
    carry: Nest,
    xs: Nest = None,
    *,
    reverse: bool = False,
    length: int | None = None,
) -> tuple[Nest, Nest]:
    """Apply `body(carry, x_t) -> (carry, y_t)` along the first axis of `xs`; give the last carry and all y stacked.

    carry, xs, ys: a Tensor, or a nest of tuples, lists and dicts of Tensors; every leaf of `xs` is (T, ...), and y_t of
        shape S becomes (T, *S). `ys` may be None. Without `xs`, `length` is the number of steps.
    reverse: run from the last position to the first; ys keep the positions of xs.
    Raises ShapeError where lengths disagree or the carry changes, TraceError where the body assigns a Tensor.
    """
    steps = _length(xs, length)
    active = current_tracer()
    if active is not None and steps > SHORT:
        return active.scan(body, carry, xs, steps, reverse)
    return unrolled(body, carry, xs, steps, reverse)


def unrolled(body: Body, carry: Nest, xs: Nest, steps: int, reverse: bool) -> tuple[Nest, Nest]:
    """`scan` as a Python loop."""
    outputs: list[Nest] = []
    spec = tree_spec(carry)
    for t in reversed(range(steps)) if reverse else range(steps):
        carry, y = one_step(body, carry, tree_map(lambda x, t=t: _at(x, t), xs), spec, t)
        outputs.append(y)
    if reverse:
        outputs.reverse()
    return carry, (_stack(outputs) if outputs else None)


def one_step(body: Body, carry: Nest, x: Nest, spec: Nest, t: int) -> tuple[Nest, Nest]:
    """The body at position t. Raises ShapeError unless the new carry has the `tree_spec` of the first one, `spec`."""
    mark = inside.set(getattr(body, "__name__", "body"))
    try:
        carry, y = body(carry, x)
    finally:
        inside.reset(mark)
    if tree_spec(carry) != spec:
        raise ShapeError(
            f"scan: the body turned the carry {spec} into {tree_spec(carry)} at position {t}; "
            "expected the same structure, shapes and dtypes; cast or reshape what it returns"
        )
    return carry, y


def forbid_in_scan() -> None:
    """Raise TraceError when called while the body of a scan runs."""
    name = inside.get()
    if name:
        raise TraceError(f"scan: {name} assigns a Tensor; expected a body that only computes; "
                         "pass the state through the carry and assign it after the loop")  # fmt: skip


def tree_map(function: Callable[..., Any], *nests: Nest) -> Nest:
    """`function` applied to corresponding leaves of nests of tuples, lists and dicts; None stays None."""
    first = nests[0]
    if isinstance(first, dict):
        return {key: tree_map(function, *(nest[key] for nest in nests)) for key in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(tree_map(function, *parts) for parts in zip(*nests, strict=True)))
    if isinstance(first, tuple | list):
        return type(first)(tree_map(function, *parts) for parts in zip(*nests, strict=True))
    return None if first is None else function(*nests)


def tree_leaves(nest: Nest) -> list[Any]:
    """The leaves of a nest, in order."""
    leaves: list[Any] = []
    tree_map(leaves.append, nest)
    return leaves


def _length(xs: Nest, length: int | None) -> int:
    """The number of steps; raises ShapeError where the leaves of xs and `length` do not agree on one."""
    lengths = [x.shape[0] if x.ndim else -1 for x in tree_leaves(xs)] + ([] if length is None else [length])
    if not lengths or -1 in lengths or len(set(lengths)) > 1:
        raise ShapeError(f"scan: lengths {lengths}; "
"expected one length T, the first axis of every leaf of xs (or length=T); "
                         "slice or stack the sequences to equal length")  # fmt: skip
    return lengths[0]


def _at(x: Value, t: int) -> Value:
    """x[t]."""
    row = slice_(x, slices=((t, 1, 1), *((0, size, 1) for size in x.shape[1:])))
    return reshape(row, shape=x.shape[1:])


def _stack(outputs: list[Nest]) -> Nest:
    """The outputs of all positions, leaf by leaf, along a new first axis."""
    return tree_map(lambda *ys: concatenate(*[reshape(y, shape=(1, *y.shape)) for y in ys], axis=0), *outputs)


def tree_spec(nest: Nest) -> Nest:
    """Structure, shapes and dtypes of a nest: comparable, and readable in a message. ShapeError for what is no Tensor."""

    def leaf(x: Value) -> str:
        if not isinstance(x, Value):
            raise ShapeError(
                f"scan: the carry holds {x!r} ({type(x).__name__}); expected Tensors; wrap it in pellucid.tensor(...)"
            )
        return f"{format_shape(x.shape)} {x.dtype}"

    return tree_map(leaf, nest)


# ---- the scan as one operation of a recorded step ------------------------------------------------------------------------


class Scan(Op):
    """A whole scan as one operation. Its value stands for all its outputs; `part` (`ScanOutput`) takes out one of them.

    body: the scan body of `compiler/trace/scan.py`, which runs on arrays and knows its outputs. Only the tracer makes this
    operation, so it is not in the registry; its gradient, another scan, is made by the tracer too.
    """

    kind = "loop"
    same_dtype = False
    saves_output = False

    def __init__(self, name: str, gradients: Sequence[Rule | None] = ()) -> None:
        self.name, self.gradients = name, tuple(gradients)

    def infer(self, *inputs: Shaped, body: object) -> Spec:
        return Spec((), np.dtype(object))

    def forward(self, *arrays: np.ndarray, body: Callable[..., object]) -> np.ndarray:
        outputs = np.empty((), object)
        outputs[()] = body(*arrays)
        return outputs

    def backward(self, node: Node, g: Cotangents) -> list[Value | None]:
        return node.attributes["trace"].backward(g)


class ScanOutput(Op):
    """One output of a scan, flattened.

    what: "last", carry number `index` after the last step; "states", that carry at every position, the initial one included;
    "stack", output number `index` at every position.
    """

    kind = "loop"
    same_dtype = False
    saves_inputs = False
    saves_output = False

    def __init__(self, name: str, gradients: Sequence[Rule | None] = ()) -> None:
        self.name, self.gradients = name, tuple(gradients)

    def infer(self, loop: Value, *, what: str, index: int) -> Spec:
        return loop.array.attributes["body"].part(what, index)

    def forward(self, loop: np.ndarray, *, what: str, index: int) -> np.ndarray:
        outputs: dict[tuple[str, int], np.ndarray] = loop.item()
        return outputs[what, index]


class Cotangents(dict[tuple[str, int], Value]):
    """dL/d(output) for some outputs of a scan, by (what, index): the gradient that the tape sends to it. `+` adds by output."""

    def __add__(self, other: Cotangents) -> Cotangents:
        total = Cotangents(self)
        for key, g in other.items():
            total[key] = total[key] + g if key in total else g
        return total


loop = Scan("scan", [None])
part = ScanOutput("part", [lambda g, y, loop, what, index: Cotangents({(what, index): g})])
