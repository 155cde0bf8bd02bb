"""scan: a loop with a carry, `scan(body, carry, xs) -> carry, ys`; and tree_map, over nested containers of Tensors (floor 2).

    for t in range(T):  carry, y[t] = body(carry, x[t])

The carry is what one step passes to the next. Run eagerly, `scan` is this Python loop, and its gradients can be differentiated
again. In a compiled step it is one operation: the tracer runs the body once (`compiler/trace/scan.py`), so the compile time
does not grow with T.

That needs three things, which are checked in eager mode too. The length does not depend on values. The carry keeps its
structure, shapes and dtypes. The body assigns no Tensor.
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

# The name of the body that a scan runs now; empty outside of a scan. `Tensor.assign` raises an error while it is set.
running_body: ContextVar[str] = ContextVar("scan", default="")
MAX_UNROLLED = 2  # a compiled step unrolls loops up to this length: one operation would not be faster


def scan(
    body: Body,
    carry: Nest,
    xs: Nest = None,
    *,
    reverse: bool = False,
    length: int | None = None,
) -> tuple[Nest, Nest]:
    """Apply `body(carry, x_t) -> (carry, y_t)` along the first axis of `xs`. Returns the last carry, and all y_t stacked.

    carry, xs, y_t: a Tensor, or nested tuples, lists and dicts of Tensors. Every Tensor of `xs` is (T, ...); a Tensor of y_t
        of shape S becomes (T, *S). y_t may be None.
    reverse: run from the last position to the first. y_t is still at position t of the result.
    length: T, where there is no `xs`.

    Raises ShapeError if lengths differ, or if the carry changes its structure, shapes or dtypes. Raises TraceError if the
    body assigns a Tensor.
    """
    steps = _length(xs, length)
    tracer = current_tracer()
    if tracer is not None and steps > MAX_UNROLLED:
        return tracer.scan(body, carry, xs, steps, reverse)
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
    """Run the body at position t. spec: the `tree_spec` of the initial carry; ShapeError if the new carry has another one."""
    token = running_body.set(getattr(body, "__name__", "body"))
    try:
        carry, y = body(carry, x)
    finally:
        running_body.reset(token)
    if tree_spec(carry) != spec:
        raise ShapeError(
            f"scan: the body turned the carry {spec} into {tree_spec(carry)} at position {t}; "
            "expected the same structure, shapes and dtypes; cast or reshape what it returns"
        )
    return carry, y


def forbid_in_scan() -> None:
    """Raise TraceError when called while the body of a scan runs."""
    name = running_body.get()
    if name:
        raise TraceError(f"scan: {name} assigns a Tensor; expected a body that only computes; "
                         "pass the state through the carry and assign it after the loop")  # fmt: skip


def tree_map(function: Callable[..., Any], *trees: Nest) -> Nest:
    """Apply `function` to the corresponding leaves of trees of one structure. Returns a tree of the results.

    A tree is nested tuples, lists and dicts; anything else is a leaf, except None, which stays None.
    """
    first = trees[0]
    if isinstance(first, dict):
        return {key: tree_map(function, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):  # a namedtuple
        return type(first)(*(tree_map(function, *children) for children in zip(*trees, strict=True)))
    if isinstance(first, tuple | list):
        return type(first)(tree_map(function, *children) for children in zip(*trees, strict=True))
    return None if first is None else function(*trees)


def tree_leaves(tree: Nest) -> list[Any]:
    """The leaves of a tree, in order."""
    leaves: list[Any] = []
    tree_map(leaves.append, tree)
    return leaves


def _length(xs: Nest, length: int | None) -> int:
    """The number of steps. Raises ShapeError unless `length` and the first axes of all leaves of xs are equal."""
    # -1: a leaf without axes
    lengths = [x.shape[0] if x.ndim else -1 for x in tree_leaves(xs)] + ([] if length is None else [length])
    if not lengths or -1 in lengths or len(set(lengths)) > 1:
        raise ShapeError(f"scan: lengths {lengths}; expected one length T, the first axis of every leaf of xs (or length=T); "
                         "slice or stack the sequences to equal length")  # fmt: skip
    return lengths[0]


def _at(x: Value, t: int) -> Value:
    """x[t], by operations that can be recorded."""
    row = slice_(x, slices=((t, 1, 1), *((0, size, 1) for size in x.shape[1:])))
    return reshape(row, shape=x.shape[1:])


def _stack(outputs: list[Nest]) -> Nest:
    """Stack the outputs of all positions along a new first axis, leaf by leaf."""
    return tree_map(lambda *ys: concatenate(*[reshape(y, shape=(1, *y.shape)) for y in ys], axis=0), *outputs)


def tree_spec(tree: Nest) -> Nest:
    """The tree with a str in place of each Tensor: its shape and dtype. Used to compare, and in error messages.

    Raises ShapeError for a leaf that is not a Tensor.
    """

    def leaf(x: Value) -> str:
        if not isinstance(x, Value):
            raise ShapeError(
                f"scan: the carry holds {x!r} ({type(x).__name__}); expected Tensors; wrap it in pellucid.tensor(...)"
            )
        return f"{format_shape(x.shape)} {x.dtype}"

    return tree_map(leaf, tree)


# ---- the scan as one operation of a compiled step ------------------------------------------------------------------------


class Scan(Op):
    """A whole scan as one operation. Its result is all outputs of the scan together; the operation `part` takes one of them.

    body: a `ScanBody` (`compiler/ir/scan_body.py`). Only the tracer makes this operation (`compiler/trace/scan.py`), and also
    its gradient, which is another scan (`scan_transpose.py`). So it is not in the registry of operations. On the tape, its
    Node has the function "gradient" in place of the body.
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
        return node.attributes["gradient"](g)


class ScanOutput(Op):
    """One output of a scan: one of three kinds, `what`. In all of them, `index` counts the carries first, then the y_t.

    "last"      the carry after the last step
    "states"    the carry before each step and after the last, flattened
    "stack"     y_t at every position, flattened
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
    """The gradient of the loss with respect to the outputs of a scan: {(what, index): gradient}.

    An output that the loss does not depend on is missing. The tape adds such gradients with `+`: here, output by output.
    """

    def __add__(self, other: Cotangents) -> Cotangents:
        total = Cotangents(self)
        for key, g in other.items():
            total[key] = total[key] + g if key in total else g
        return total


loop = Scan("scan", [None])
part = ScanOutput("part", [lambda g, y, loop, what, index: Cotangents({(what, index): g})])
