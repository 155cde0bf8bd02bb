"""The step axis: an operation of a scan's body, applied to the values of all steps at once (floor 4).

A value of the body (...) has the shape (T, ...) at all T steps. `Op.batched` says how the attributes of an operation change;
here its inputs are given the shapes that fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...core.origin import Origin
from ...core.value import Symbol
from ...ops.contraction import matmul
from ...ops.movement import concatenate, reshape
from ...ops.reduce import expand
from ..ir.rewrite import emit


class AtSteps(NamedTuple):
    """A value of the body in the surrounding graph.

    stacked: whether its first axis is that of the steps. If not, it is the same at every step.
    """

    symbol: Symbol
    stacked: bool


def is_hoistable(s: Symbol) -> bool:
    """Whether the operation of `s` can be applied to the values of all steps at once."""
    return s.op is not None and s.op.batched(s.attributes, 1) is not None


def repeated(x: AtSteps, length: int, origin: Origin) -> Symbol:
    """x at every step, (T, ...)."""
    return x.symbol if x.stacked else emit(expand, x.symbol, origin=origin, shape=(length, *x.symbol.shape))


def at_all_steps(s: Symbol, inputs: Sequence[AtSteps], length: int) -> AtSteps:
    """The operation of `s`, which is hoistable, on these inputs: once if none is stacked, else for all steps."""
    op, origin = s.op, s.origin
    assert op is not None
    if not any(x.stacked for x in inputs):
        return AtSteps(emit(op, *(x.symbol for x in inputs), origin=origin, **s.attributes), False)
    attributes = op.batched(s.attributes, length)
    assert attributes is not None, "is_hoistable"
    if op is matmul:
        return AtSteps(_matmul(s, *inputs), True)
    if op is concatenate:
        operands = [repeated(x, length, origin) for x in inputs]
    elif op is expand or op.kind == "elementwise":
        operands = [_aligned(x, old, s) for x, old in zip(inputs, s.inputs, strict=True)]
    else:
        operands = [x.symbol for x in inputs]
    return AtSteps(emit(op, *operands, origin=origin, **attributes), True)


def _aligned(x: AtSteps, old: Symbol, s: Symbol) -> Symbol:
    """x, which is `old` at all steps, with as many axes behind the first as `s` has. New ones follow the first, of size 1.

    Broadcasting aligns axes from the last one, and would otherwise align the first axis with another one.
    """
    if not x.stacked or old.ndim == s.ndim:
        return x.symbol
    length, *shape = x.symbol.shape
    return emit(reshape, x.symbol, origin=x.symbol.origin, shape=(length, *[1] * (s.ndim - old.ndim), *shape))


def _matmul(s: Symbol, a: AtSteps, b: AtSteps) -> Symbol:
    """A matmul for all steps; with a weight that is the same at every step, one matmul of all rows."""
    if s.inputs[0].ndim == s.inputs[1].ndim == 2 and a.stacked and not b.stacked:
        t, m, k = a.symbol.shape
        rows = emit(reshape, a.symbol, origin=s.origin, shape=(t * m, k))
        return emit(reshape, emit(matmul, rows, b.symbol, origin=s.origin), origin=s.origin, shape=(t, *s.shape))
    return emit(matmul, _aligned(a, s.inputs[0], s), _aligned(b, s.inputs[1], s), origin=s.origin)
