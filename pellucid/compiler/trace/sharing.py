"""Tensors that share memory, while a step is traced: read through a view, and write through it (floor 4).

The rules for numbers are those of `core/sharing.py`. Here the base holds a Symbol, and a view the Symbol at the end of its
path. Only the base is an input of the graph.
"""

from __future__ import annotations

from typing import Any

from ...core.op import apply
from ...core.origin import user_origin
from ...core.sharing import Path, put
from ...core.value import Symbol, grad_mode, traced_or_array
from ...errors import TraceError, format_shape
from ...tensor import Tensor
from .outer_tensors import OuterTensors, is_made_inside
from .recording import Recording
from .traced_step import SHARED_ARGUMENT


def find_symbol(value: Any, tensors: OuterTensors, recording: Recording) -> Symbol:
    """The Symbol of a Tensor from before the step: an input, or a view of the input that is its base."""
    base = value if value.cell is None else value.cell.base()
    entry = tensors.inputs.get(id(base))
    if base is value or (entry is not None and entry.kind == "argument"):
        return tensors.add_input("state", value).symbol
    tensors.add_view(value, base)
    before = recording.leave_scans()  # another scan may read it too
    try:
        value.array = _follow_path(value.path, base)
    finally:
        recording.return_to(before)
    return value.array


def _follow_path(path: Path, base: Tensor) -> Symbol:
    """The Symbol where `path` leads from `base`."""
    mode = grad_mode.set(False)  # its node on the tape is known
    try:
        for op, attributes in path:
            base = apply(op, base, **attributes)
        return traced_or_array(base)
    finally:
        grad_mode.reset(mode)


def rebind(value: Tensor, symbol: Symbol, tensors: OuterTensors) -> None:
    """Let `value` be `symbol` from now on, and update every Tensor that shares its memory."""
    traced_or_array(value)  # so that its old state is saved
    value.version += 1
    if value.cell is None:
        value.array = symbol
        return
    base = value.cell.base()
    if base is not value:
        if id(value) in tensors.inputs:  # its base is an argument
            shapes = format_shape(value.shape), format_shape(base.shape)
            raise TraceError(SHARED_ARGUMENT.format(user_origin(), *shapes))
        mode = grad_mode.set(False)
        try:
            base.array = traced_or_array(put(base, value.path, Tensor(symbol)))
        finally:
            grad_mode.reset(mode)
        base.version += 1
    value.array = symbol
    if is_made_inside(base):
        base.cell.array = base.array
    for view in base.cell.living():
        if view is not base and view is not value and id(view) not in tensors.inputs:
            view.version += 1
            if is_made_inside(view):
                view.array = _follow_path(view.path, base)
    tensors.forget_views(base, but=value)


def refuse_separation(value: Tensor) -> None:
    """Raise TraceError where `x.data = y` would give `value` memory of its own while other Tensors share the old one."""
    traced_or_array(value)
    if value.cell is not None and len(value.cell.living()) > 1:  # a write to its own `.data` comes through `rebind`
        raise TraceError(
            f"{user_origin()}: x.data = y inside a compiled step, for x {format_shape(value.shape)} that shares its numbers with other "
            "Tensors, which would go on with the old ones; expected a write that all of them see; write x.data.copy_(y)"
        )
