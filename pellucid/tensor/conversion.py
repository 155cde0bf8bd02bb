"""Conversion of a Tensor: to other dtypes, to NumPy, to Python numbers, and to text (floor 3)."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from ..arguments import as_dtype, bool_, float32, float64, int32, int64, uint8
from ..core.op import new_value
from ..core.promotion import as_number
from ..core.sharing import in_row_order
from ..core.value import DTypeLike, TensorLike, Value, current_tracer, default_dtype, grad_mode, traced_or_array
from ..errors import DTypeError, GradientError, ShapeError, format_shape
from ..ops import elementwise
from .operands import as_value_of
from .state import DeviceLike, TensorState
from .state import device as Device

if TYPE_CHECKING:
    from . import Tensor


class Conversion(TensorState):
    """The numbers of a Tensor in another form. Casts are on the tape; what leaves the library is not."""

    # ---- to NumPy and Python ---------------------------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """A read-only snapshot as a NumPy array; `.copy()` it to write.

        Raises GradientError for a Tensor on the tape, TraceError while a step is recorded.
        """
        if self.requires_grad and grad_mode.get():
            raise GradientError(
                f"numpy(): this Tensor {format_shape(self.shape)} is on the tape, NumPy is not; "
                "expected a detached one; write x.detach().numpy()"
            )
        return self.snapshot()

    def snapshot(self) -> np.ndarray:
        """The numbers as a read-only array that no later write changes, on the tape or not."""
        view = traced_or_array(self).view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """What `np.asarray(x)` gives: the snapshot, converted or copied where asked."""
        return (
            np.array(self.snapshot(), dtype=dtype, copy=copy)
            if copy or dtype not in (None, self.dtype)
            else self.snapshot()
        )

    def item(self) -> Any:
        """The only number, as a Python float, int or bool. Raises ShapeError for another count than one."""
        if self.array.size != 1:
            raise ShapeError(
                f"item: shape {format_shape(self.shape)}; expected a single number; use tolist(), or reduce it first"
            )
        return traced_or_array(self).item()

    def tolist(self) -> Any:
        """The numbers as nested lists; a plain number for a 0-d Tensor."""
        return traced_or_array(self).tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        """The number as an index of Python lists and ranges. Raises DTypeError for floats and bools."""
        if self.dtype.kind not in "iu":
            raise DTypeError(f"index: {self.dtype}; expected an integer Tensor; convert with .long()")
        return int(self.item())

    def __bool__(self) -> bool:
        """Whether the only number is not 0. Raises ShapeError for another count than one."""
        if self.array.size != 1:
            raise ShapeError(
                f"bool: shape {format_shape(self.shape)} is neither true nor false; expected one number; use .any() or .all()"
            )
        return bool(self.item())

    # ---- to text ---------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        if current_tracer() is not None:
            return f"tensor(being traced, shape={format_shape(self.shape)}, dtype={self.dtype})"
        numbers = self.array if self.ndim else self.array.reshape(1)
        whole = numbers.dtype.kind != "f" or bool(np.all(numbers == np.trunc(numbers)))  # 1. and not 1.0000
        mode: Any = "maxprec_equal" if whole else "fixed"
        body = np.array2string(numbers, separator=", ", prefix="tensor(", precision=4, floatmode=mode)
        body = body if self.ndim else body[1:-1].strip()
        notes = "" if self.dtype in (float32, int64, bool_) else f", dtype={self.dtype}"
        if self.node is not None:
            notes += f", made by {self.node.op.name}"
        elif self.requires_grad:
            notes += ", requires_grad=True"
        return f"tensor({body}{notes})"

    def __format__(self, spec: str) -> str:
        """The only number by `spec`, as in f"{loss:.3f}"; the whole Tensor where there are several."""
        return format(self.item(), spec) if spec and self.array.size == 1 else repr(self)

    def _repr_html_(self) -> str:
        """The Tensor in a notebook."""
        about = f"Tensor {format_shape(self.shape)} {self.dtype}" + (
            f", made by {self.node.op.name}" if self.node else ""
        )
        numbers = np.array2string(self.array, separator=", ", precision=4, threshold=200)
        return f"<div><small>{html.escape(about)}</small><pre>{html.escape(numbers)}</pre></div>"

    # ---- what other methods share ----------------------------------------------------------------------------------

    def check_floating(self, function: str) -> None:
        """Raise DTypeError for integers and bools, on which `function` is not defined."""
        if self.dtype.kind != "f":
            raise DTypeError(f"{function}: {self.dtype}; expected floating-point numbers; convert with .float()")

    def as_floating(self) -> Self | Tensor:
        """Itself; integers and bools as float32, since a difference of integers may not fit into their dtype."""
        return self if self.dtype.kind == "f" else self.to(default_dtype)

    def cast_like(self, value: Tensor) -> Tensor:
        """`value`, a Tensor, in this dtype."""
        return value if value.dtype == self.dtype else elementwise.cast(value, dtype=self.dtype)

    def in_own_dtype(self, value: TensorLike) -> Tensor:
        """`value`, a number or what a Tensor can be made of, in this dtype."""
        if isinstance(value, int | float):
            return new_value(as_number(value, self.dtype))
        return as_value_of(value, self.dtype)

    def new_tensor(self, data: TensorLike) -> Tensor:
        """A Tensor of `data` in this dtype, off the tape."""
        return as_value_of(data, self.dtype).detach()

    # ---- to another dtype; last, since `float`, `int`, `bool` and `type` mean the methods from here on -------------

    def to(
        self,
        *where: Value | DTypeLike | DeviceLike | None,
        dtype: DTypeLike | None = None,
        device: DeviceLike | None = None,
        non_blocking: bool = False,
        copy: bool = False,
    ) -> Self | Tensor:
        """This Tensor in another dtype: `x.to(float64)`, `x.to(other)`; itself where nothing changes.

        A device is accepted where it is "cpu". non_blocking, copy: PyTorch's, without effect: there is one device, and
        Tensors are values. Raises DTypeError for an unknown dtype, OptionError for another device.
        """
        for argument in (*where, device):
            if isinstance(argument, Value):
                dtype = argument.dtype
            elif isinstance(argument, str | Device):
                Device(argument)
            elif argument is not None and not isinstance(argument, bool):
                dtype = argument
        if dtype is None or as_dtype(dtype) == self.dtype:
            return self
        return elementwise.cast(self, dtype=as_dtype(dtype))

    def type_as(self, other: Tensor) -> Self | Tensor:
        """This Tensor in the dtype of `other`."""
        return self.to(other.dtype)

    def cpu(self) -> Self:
        """Itself: there is no other device."""
        return self

    def contiguous(self) -> Self | Tensor:
        """Itself where its numbers lie in row-major order in what it shares, else a clone, as in PyTorch."""
        return self if in_row_order(self) else self.clone()

    @overload
    def type(self, dtype: None = None) -> str: ...
    @overload
    def type(self, dtype: DTypeLike) -> Self | Tensor: ...
    def type(self, dtype: DTypeLike | None = None) -> str | Self | Tensor:
        """The name of the dtype; with `dtype`, `to(dtype)`."""
        return str(self.dtype) if dtype is None else self.to(dtype)

    def double(self) -> Self | Tensor:
        """As float64."""
        return self.to(float64)

    def long(self) -> Self | Tensor:
        """As int64; fractions are cut off."""
        return self.to(int64)

    def byte(self) -> Self | Tensor:
        """As uint8; fractions are cut off."""
        return self.to(uint8)

    def float(self) -> Self | Tensor:
        """As float32."""
        return self.to(float32)

    def int(self) -> Self | Tensor:
        """As int32; fractions are cut off."""
        return self.to(int32)

    def bool(self) -> Tensor:
        """Where the numbers are not 0, as bool."""
        return elementwise.not_equal(self, 0)
