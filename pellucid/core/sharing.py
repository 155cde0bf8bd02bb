"""Views: Tensors that share the numbers of a base, follow what is written to it, and write through (floor 1).

Arrays are immutable values. What is shared is a `Cell`, which holds the base's array. A view has a cell and a path, the
movements that lead from the base to it. A write gives the cell a new array and removes the arrays of the other Tensors; a
Tensor without an array computes it by its path when it is read. A cell refers to its Tensors weakly and to no Node, so a
detached view keeps numbers alive but no tape.

Operations give values; the methods of Tensor give views (`viewed`). A write through a view goes into the cell's array where
nothing else holds it (`write_array`); on the tape, and while a step is recorded, it is composed of operations (`put`).
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn
from weakref import ref

import numpy as np

from ..errors import GradientError, ShapeError, format_shape
from .op import Attributes, Op, apply, aside, bare_value
from .origin import Origin, user_origin
from .value import NativeMemory, Symbol, V, Value, current_tracer, grad_mode


class Movement(Op):
    """An operation that moves numbers, and can be written through as a view.

    inverse(old, part, **attributes) -> `old` with `part` in place of what the movement takes from it.
    """

    kind = "movement"
    saves_inputs = False
    saves_output = False
    inverse: Callable[..., Value]

    def writable_view(self, array: np.ndarray, **attributes: Any) -> np.ndarray:
        """What the movement takes of a contiguous array, as a NumPy view that can be written."""
        return self.forward(array, **attributes)


Path = tuple[tuple[Movement, Attributes], ...]  # movements and their attributes, from the base on

_lock = threading.RLock()  # held for reads and writes; taken after the lock of native memory, never before


class Cell:
    """The numbers of a base and the Tensors that share them.

    array: the base's; None while only native memory has the numbers. native: the memory that compiled programs write, or None.
    shape: the base's. strides: those of an argument of a recorded step, where it is not in row-major order. tensors: weak
    references to those that share, the base first. limit: tidy up above this many.
    """

    __slots__ = ("array", "limit", "native", "shape", "strides", "tensors")

    def __init__(self, base: Value) -> None:
        native: NativeMemory | None = base.storage
        self.native = native
        array = base.array if native is None else base.__dict__.get("array")
        if array.__class__ is Symbol:  # while a step is recorded: a Tensor from before it has an array too
            array = base.__dict__.get("array")
        self.array: Any = array
        self.shape: tuple[int, ...] = base.shape if native is None else native.shape
        self.strides: tuple[int, ...] | None = None
        self.tensors = [ref(base)]
        self.limit = 16
        base.cell = self

    def base(self) -> Any:
        """The Tensor at the root; a new one where the user's is gone."""
        with _lock:
            value = self.tensors[0]()
            if value is None:
                value = bare_value(self.array)
                value.cell, value.storage = self, self.native
                if self.array is None:
                    del value.array
                self.tensors[0] = ref(value)
                if self.native is not None:
                    self.native.tensor = ref(value)
            return value

    def tidy(self) -> None:
        """Forget the views that are gone."""
        first, *others = self.tensors
        self.tensors = [first, *(reference for reference in others if reference() is not None)]
        self.limit = 16 + 2 * len(self.tensors)

    def living(self) -> list[Value]:
        """Its Tensors that still exist."""
        return [value for reference in self.tensors if (value := reference()) is not None]

    # ---- reading ----

    def numbers(self) -> np.ndarray:
        """The base's array."""
        while (array := self.array) is None:
            assert self.native is not None  # one of the two has the numbers
            self.native.look(self)
        return array

    def look(self, value: Value) -> np.ndarray:
        """Compute the array of one of its Tensors, which has none, by its path."""
        while True:
            numbers = array = self.numbers()
            with _lock:
                if self.array is not numbers:
                    continue  # another thread has written meanwhile
                for op, attributes in value.path:
                    array = op.forward(array, **attributes)
                value.array = array
                return array

    # ---- writing ----

    def forget(self, written_at: Origin | None) -> None:
        """Drop the arrays that its Tensors hold, which a write has outdated."""
        for value in self.living():
            with suppress(AttributeError):
                del value.array
            value.version += 1
            value.written_at = written_at
            if value.storage is not None and value.storage is not self.native:
                value.storage.outdated()
        if len(self.tensors) > 2:
            self.tidy()

    def moved(self) -> None:
        """Note that a compiled program is about to write the native memory."""
        with _lock:
            self.forget(None)
            self.array = None


# ---- making views ------------------------------------------------------------------------------------------------------


def viewed(op: Movement, x: Value, **attributes: Any) -> Any:
    """The movement `op` of x as a view of x, unless a reshape has to copy the numbers."""
    result = apply(op, x, **attributes)
    cut = x.path or (x.cell is not None and x.cell.strides is not None)
    if cut and op.name == "reshape" and not _stays_view(x, result, attributes["shape"]):
        return result
    return as_view(result, x, ((op, attributes),))


def as_view(result: V, x: Value, path: Path) -> V:
    """`result`, the outcome of `path` on x, made a view of x."""
    share(result, x, path)
    without_grad = x.base_without_grad
    if without_grad is not None:
        result.base_without_grad = without_grad
    elif grad_mode.get():
        result.base = x if x.base is None else x.base
    else:
        result.base_without_grad = ref(x if x.base is None else x.base)
    return result


def share(result: Value, source: Value, path: Path = ()) -> None:
    """Let `result` share the numbers of `source` along `path`; their places on the tape stay as they are."""
    with _lock:  # another thread may be writing, or making a view too
        cell = source.cell
        if cell is None:
            cell = Cell(source)
        result.cell = cell
        result.path = source.path + path
        if len(cell.tensors) > cell.limit:
            cell.tidy()
        cell.tensors.append(ref(result))
        array, whole = result.array, cell.array
        if array is not whole and array.__class__ is np.ndarray and (whole is None or not _lies_in(array, whole)):
            del result.array  # computed from numbers that a write has since outdated


def _lies_in(part: np.ndarray, whole: np.ndarray) -> bool:
    return part.base is not None and (part.base is whole or part.base is whole.base)


def leave(value: Value) -> None:
    """Stop `value` from sharing: the Tensors that it shared with keep the present numbers."""
    cell = value.cell
    if cell is None:
        return
    cell.numbers()
    value.array = value.array  # computed while it still has its path
    with _lock:
        is_base = cell.tensors[0]() is value
        cell.tensors = [reference for reference in cell.tensors if reference() is not value]
        if is_base:  # the native memory goes with it
            cell.native = None
            cell.tensors.insert(0, _gone)
        value.cell, value.path, value.base = None, (), None


class _Dead:
    pass


_gone: Any = ref(_Dead())  # a dead reference


def copied(copy: Value, source: Value, memo: dict[int, Any]) -> None:
    """Let `copy` share with the other copies of `memo` as `source` shares with their originals."""
    cell = source.cell
    if cell is None:
        return
    if id(cell) not in memo:
        memo[id(cell)] = Cell(bare_value(cell.numbers()))
    share(copy, memo[id(cell)].base(), source.path)


def _stays_view(x: Value, result: Value, shape: tuple[int, ...]) -> bool:
    """Whether reshaping x moves no number, given its strides in its base: PyTorch's rule, eager and recorded."""
    assert x.cell is not None
    array, whole, base = result.array, x.array, x.cell.array
    if array.__class__ is whole.__class__ is base.__class__ is np.ndarray and base.flags.c_contiguous:
        return _lies_in(array, whole)  # as NumPy has found
    try:
        _laid_out(x).reshape(shape, copy=False)
    except ValueError:
        return False
    return True


def _laid_out(x: Value) -> np.ndarray:
    """A one-element array with the shape and strides of x in its base, so that NumPy decides what needs a copy."""
    assert x.cell is not None
    shape, strides = x.cell.shape, x.cell.strides
    if strides is None:
        strides = tuple([math.prod(shape[axis + 1 :]) for axis in range(len(shape))])
    probe = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), shape, strides)
    for op, attributes in x.path:
        if op.name == "reshape":
            probe = probe.reshape(attributes["shape"], copy=False)
        else:
            probe = op.forward(probe, **attributes)
    return probe


def is_view_along(view: Value, x: Value, path: Path) -> bool:
    """Whether `view` is the view of x along `path`; x itself for an empty path."""
    return view.cell is not None and view.cell is x.cell and view.path == x.path + path


def in_row_order(x: Value) -> bool:
    """Whether the numbers of x lie in row-major order in its base."""
    return strides_of(x) is None


def strides_of(x: Value) -> tuple[int, ...] | None:
    """The strides of x in its base; None for row-major order."""
    if x.cell is None or not (x.path or x.cell.strides):
        return None
    probe = _laid_out(x)
    return None if probe.flags.c_contiguous else probe.strides


# ---- writing -----------------------------------------------------------------------------------------------------------


def write_part(x: Value, path: Path, array: np.ndarray, written_at: Origin | None) -> None:
    """Write `array` into the view of x along `path`, off the tape."""
    with _lock:
        cell = Cell(x) if x.cell is None else x.cell
    _write(cell, x.path + path, array, written_at)


def write_array(x: Value, array: np.ndarray, written_at: Origin | None) -> None:
    """Write `array`, of the shape and dtype of x, into x, off the tape."""
    assert x.cell is not None
    _write(x.cell, x.path, array, written_at)


def _write(cell: Cell, path: Path, array: np.ndarray, written_at: Origin | None) -> None:
    """Write `array` along `path` from the base, and drop the arrays of all that share."""
    while True:
        if path:
            cell.numbers()
        with _lock:
            if path and cell.array is None:
                continue  # a program of another thread has started meanwhile
            cell.forget(written_at)
            if path:
                _put_array(cell, path, array)
            else:
                cell.array = array
            break
    if cell.native is not None:
        cell.native.outdated()


class _Probe:
    __slots__ = ("array",)
    array: np.ndarray


def _holders(cell: Cell | _Probe) -> int:
    return sys.getrefcount(cell.array)


def _sole_holder_count() -> int:
    """The reference count of an array that only its cell holds; -1 where Python does not count references."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return -1
    probe = _Probe()
    probe.array = np.zeros(1)
    return _holders(probe)


SOLE_HOLDER = _sole_holder_count()


def _put_array(cell: Cell, path: Path, array: np.ndarray) -> None:
    """Write into the cell's array where nothing else holds it, else into a copy."""
    alone = _holders(cell) <= SOLE_HOLDER  # before a name holds it here
    whole: Any = cell.array
    if not (alone and whole.flags.carray and whole.base is None):
        whole = np.array(whole, order="C")
    part = whole
    for op, attributes in path:
        part = op.writable_view(part, **attributes)
    if any(stride == 0 and size > 1 for stride, size in zip(part.strides, part.shape, strict=True)):
        refuse_overlap(part.shape)
    part[...] = array
    cell.array = whole


def put(base: Value, path: Path, part: Value) -> Value:
    """`base` with `part` written along `path`, by operations: on the tape, and in a recorded step."""
    if not path:
        return part
    (op, attributes), rest = path[0], path[1:]
    inner = put(apply(op, base, **attributes), rest, part) if rest else part
    return op.inverse(base, inner, **attributes)


def write_on_tape(view: Value, part: Value) -> None:
    """Put the computed `part` into the base of `view`, so that all its views are differentiated through it."""
    base = view.base
    base.write(put(aside(base), view.path[len(base.path) :], part))


def follow(base: Value) -> None:
    """Move the views of `base` to its new place on the tape."""
    active = current_tracer()
    for view in [] if base.cell is None else base.cell.living():
        if view.base is base:
            if active is not None:
                active.read(view)  # so that it is known to the tracer
            fresh = base
            for op, attributes in view.path[len(base.path) :]:
                fresh = apply(op, fresh, **attributes)
            view.array, view.node, view.requires_grad = fresh.array, fresh.node, fresh.requires_grad


def refuse_without_grad(view: Value, part: Value) -> None:
    """Raise GradientError where a view made under no_grad is written with gradients on, and a gradient would have to pass
    through the write: the tape does not connect the view with its base.
    """
    assert view.base_without_grad is not None
    base = view.base_without_grad()
    if view.requires_grad or part.requires_grad or (base is not None and base.requires_grad):
        raise GradientError(
            f"{user_origin()}: in-place write with gradients on into a view {format_shape(view.shape)} that was made under no_grad(); "
            "expected both on, or both off; make the view again outside of no_grad(), or write under no_grad()"
        )


def refuse_overlap(shape: tuple[int, ...]) -> NoReturn:
    """Raise ShapeError: a Tensor of `shape` shows some numbers in several places."""
    raise ShapeError(
        f"{user_origin()}: in-place write into an expanded Tensor {format_shape(shape)}, whose numbers stand in several places at once; "
        "expected one place for each number; write to a clone()"
    )
