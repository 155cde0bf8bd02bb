"""Boolean indexing, `x[mask]`, while a step is traced: a value whose shape depends on numbers (floor 4).

A MaskedSelection keeps every row of x and the mask. Elementwise operations work on all rows; a reduction over the rows gives
a Tensor again. Everything else needs the shape, and raises a TraceError that says what to write instead.

Rows that the mask leaves out are set to 1 before every operation, so that they make no NaN. They get no gradient, since
`where` selects the other rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ...arguments import reduced_axes
from ...core.op import new_value
from ...core.origin import Origin, user_origin
from ...core.promotion import result_type
from ...core.value import DTypeLike, Value, traced_or_array
from ...errors import TraceError, format_shape
from ...ops.elementwise import cast, where
from ...ops.index import check_index
from ...ops.movement import reshape
from ...ops.reduce import expand
from ...tensor import Tensor, operand

if TYPE_CHECKING:
    from ...arguments import Dims


class MaskedSelection(Tensor):
    """x[mask], for x of shape (*mask.shape, *rest): (K, *rest), K unknown.

    rows: x, or the result of elementwise operations on it. mask: the bool Tensor at the time of the selection.
    """

    def __init__(self, rows: Tensor, mask: Tensor, origin: Origin) -> None:
        self.rows, self.mask, self.origin = rows, mask, origin  # no array: it is no value of the trace

    # ---- known without the numbers ----------------------------------------------------------------------

    dtype = property(lambda self: self.rows.dtype)
    ndim = property(lambda self: self.rows.ndim - self.mask.ndim + 1)
    requires_grad = property(lambda self: self.rows.requires_grad)
    shape = property(lambda self: self.refuse())
    array = property(lambda self: self.refuse())

    def __repr__(self) -> str:
        return f"tensor(being traced, x[mask] of x {format_shape(self.rows.shape)}, dtype={self.dtype})"

    def refuse(self, *_: object, **__: object) -> NoReturn:
        """Raise TraceError: an operation needs its shape, or single rows."""
        raise TraceError(
            f"{user_origin()}: x[mask], made at {self.origin}, has as many rows as the mask has True, which a step being traced does "
            "not know; expected work on each number by itself and then sum, mean, max, min, any or all of it; "
            "keep all rows of x, and choose with where(mask, x, 0); count with mask.sum()"
        )

    # ---- elementwise --------------------------------------------------------------------------------------------

    def over(self, rows: Tensor) -> Tensor:
        """The mask so that it broadcasts over `rows`."""
        return reshape(self.mask, shape=self.mask.shape + (1,) * (rows.ndim - self.mask.ndim))

    def filled(self, fill: float) -> Tensor:
        """All rows, with `fill` in those left out."""
        return where(self.over(self.rows), self.rows, fill)

    def beside(self, other: Any) -> Any:
        """An operand that broadcasts with all rows: a number, a selection by the same mask, or a Tensor over the axes behind
        those of the mask."""
        if isinstance(other, list | tuple | np.ndarray):
            other = operand(other)
        if isinstance(other, MaskedSelection):
            if traced_or_array(other.mask) is not traced_or_array(self.mask) or other.ndim != self.ndim:
                raise TraceError(
                    f"{user_origin()}: x[mask], made at {self.origin}, meets one made at {other.origin} by another mask, or of other "
                    "axes; expected the same mask Tensor for both; write mask = ... once, then x[mask] and y[mask]"
                )
            return other.filled(_one(other))
        if isinstance(other, Value):
            if other.ndim >= self.ndim:
                self.refuse()
            if other.requires_grad:  # its gradient may not come from rows that are left out
                other = cast(other, dtype=result_type(self.rows, other))
                other = where(self.over(self.rows), other, 1)
        return other

    def each(self, name: str, *operands: Any, **options: object) -> MaskedSelection:
        """`Tensor.name`, an elementwise method, on every row."""
        operands = tuple([self.beside(x) for x in operands])
        options = {key: self.beside(x) for key, x in options.items()}
        rows = getattr(Tensor, name)(self.filled(_one(self)), *operands, **options)
        return MaskedSelection(rows, self.mask, self.origin)

    # ---- reductions --------------------------------------------------------------------------------------------------

    def reduced(self, name: str, fill: float, dim: Dims, keepdim: bool) -> Tensor:
        """`Tensor.name` along `dim`, with `fill` in the rows left out. Still a MaskedSelection where axis 0 stays."""
        axes = reduced_axes(self, dim, name)
        first = self.mask.ndim
        inner = [axis - 1 + first for axis in axes if axis]
        if 0 not in axes:
            rows = getattr(Tensor, name)(self.filled(_one(self)), inner, keepdim)
            return MaskedSelection(rows, self.mask, self.origin)
        result = getattr(Tensor, name)(self.filled(fill), [*range(first), *inner])
        if not keepdim:
            return result
        rest = [1 if axis in axes else self.rows.shape[axis - 1 + first] for axis in range(1, self.ndim)]
        return result.reshape(1, *rest)

    def sum(self, dim: Dims = None, keepdim: bool = False, dtype: DTypeLike | None = None) -> Tensor:
        x = self if dtype is None else self.each("to", dtype)
        return x.reduced("sum", _of_kind(x, 0, False), dim, keepdim)

    def mean(self, dim: Dims = None, keepdim: bool = False, dtype: DTypeLike | None = None) -> Tensor:
        if dtype is not None:
            return self.to(dtype).mean(dim, keepdim)
        if self.dtype.kind != "f":
            Tensor.mean(self.rows)  # raises the error
        axes = reduced_axes(self, dim, "mean")
        each = math.prod(self.rows.shape[axis - 1 + self.mask.ndim] for axis in axes if axis)
        total = self.sum(dim, keepdim)
        if 0 not in axes:
            return total / each
        return total / (self.mask.sum() * each).to(self.dtype)

    def any(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        return self.reduced("any", _of_kind(self, 0, False), dim, keepdim)

    def all(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        return self.reduced("all", _one(self), dim, keepdim)

    def amax(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        return self._extreme("amax", 0, dim, keepdim)

    def amin(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        return self._extreme("amin", 1, dim, keepdim)

    def _extreme(self, name: str, end: int, dim: Dims, keepdim: bool) -> Tensor:
        if 0 in reduced_axes(self, dim, name):
            # An empty selection has no maximum: the compiled step stops before it writes, and the eager step raises the error.
            check_index(self.mask.sum(), low=1, high=self.mask.array.size + 1, spare=None, message=f"{name}: {{}} rows")
        return self.reduced(name, _ends(self.dtype)[end], dim, keepdim)

    def max(self, dim: Value | int | None = None, keepdim: bool = False) -> Tensor:  # type: ignore[override]
        return self._largest("max", dim, keepdim)

    def min(self, dim: Value | int | None = None, keepdim: bool = False) -> Tensor:  # type: ignore[override]
        return self._largest("min", dim, keepdim)

    def _largest(self, name: str, dim: Value | int | None, keepdim: bool) -> Tensor:
        if isinstance(dim, Tensor):
            return self.each({"max": "maximum", "min": "minimum"}[name], dim)
        if dim is not None:
            raise TraceError(
                f"{user_origin()}: x[mask].{name}({dim}) gives positions among the rows, which a step being traced does not know; "
                f"expected the values alone; write a{name}({dim})"
            )
        return self.amax() if name == "max" else self.amin()


def _one(x: Tensor) -> float:
    return _of_kind(x, 1, True)


def _of_kind(x: Tensor, number: int, flag: bool) -> float:
    return flag if x.dtype.kind == "b" else number


def _ends(dtype: np.dtype) -> tuple[float, float]:
    """The lowest and the highest number of a dtype."""
    if dtype.kind == "f":
        return -math.inf, math.inf
    return (False, True) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


# Elementwise methods: each is the method of Tensor, on all rows.
EACH = (
    *(f"__{way}{name}__" for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor")
      for way in ("", "r")),
    *(f"__{name}__" for name in ("neg", "pos", "abs", "invert", "lt", "le", "gt", "ge", "eq", "ne")),
    "add", "sub", "mul", "div", "true_divide", "pow", "neg", "abs", "eq", "ne", "lt", "le", "gt", "ge", "remainder",
    "logical_and", "logical_or", "logical_not", "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "square",
    "reciprocal", "sin", "cos", "tan", "tanh", "sigmoid", "relu", "erf", "sign", "floor", "ceil", "trunc", "round",
    "isfinite", "isnan", "isinf", "isclose", "maximum", "minimum", "clamp", "clip", "lerp", "to", "float", "double", "long",
    "int", "byte", "bool", "detach", "clone",
)  # fmt: skip

# Methods that cannot work without the shape or the numbers.
REFUSED = ("register_hook", "retain_grad", "requires_grad_", "detach_", "backward", "set_grad", "add_grad", "has_grad",
           "type", "write", "assign", "rebind", "now", "change", "matmul", "__matmul__", "__rmatmul__", "where",
           "masked_fill", "numel", "nelement", "size", "cpu", "contiguous")  # fmt: skip


def _each(name: str) -> Callable[..., Any]:
    def method(self: MaskedSelection, *operands: object, **options: object) -> MaskedSelection:
        return self.each(name, *operands, **options)

    method.__name__ = name
    return method


for _name in EACH:
    setattr(MaskedSelection, _name, _each(_name))
for _name in ("add", "sub", "mul", "truediv"):  # x[mask] += 1 reads, computes and writes
    setattr(MaskedSelection, f"__i{_name}__", _each(f"__{_name}__"))
for _name in REFUSED:
    setattr(MaskedSelection, _name, MaskedSelection.refuse)
MaskedSelection.__hash__ = Tensor.__hash__  # type: ignore[method-assign]


def _yielding(name: str) -> Callable[..., Any]:
    plain = getattr(Tensor, name)

    def method(self: Tensor, other: object) -> Any:
        return NotImplemented if isinstance(other, MaskedSelection) else plain(self, other)

    return method


# Operators for subclasses of Tensor: they return NotImplemented for a MaskedSelection on the right, so that its own run.
YIELDING = {
    name: _yielding(name)
    for name in ("__add__", "__sub__", "__mul__", "__truediv__", "__floordiv__", "__mod__", "__pow__", "__and__", "__or__",
                 "__xor__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")
}  # fmt: skip


def selected(x: Tensor, mask: Tensor) -> MaskedSelection:
    """x[mask] for a mask over the first axes of x, both while a step is traced."""
    return MaskedSelection(x, new_value(traced_or_array(mask)), user_origin())


def replaced(x: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    """x after x[mask] = value. value: a number, a selection by the same mask, or a Tensor without an axis for the rows."""
    selection = selected(x, mask)
    rest = x.shape[mask.ndim :]
    if isinstance(value, MaskedSelection):
        selection.beside(value)
        return where(selection.over(x), expand(value.rows, shape=x.shape), x)
    if value.ndim == selection.ndim and value.shape[0] == 1:
        value = reshape(value, shape=value.shape[1:])
    if value.ndim >= selection.ndim:
        selection.refuse()
    return where(selection.over(x), expand(value, shape=rest), x)
