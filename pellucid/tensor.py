"""Tensor: PyTorch's methods and operators over the operations, each a line or two (floor 3).

Slices, `reshape`, `permute`, `expand` and `detach` give views, as in PyTorch: they follow what is written to the original, and
write through to it (`core/sharing.py`). `assign` is the one way a Tensor changes, and every in-place method (`add_`, `x[i] = v`,
`w -= ...`) means it. Longer recipes (losses, normalisation, convolution) stand in `functional.py`; indexing in
`indexing.py`; chance in `random.py`.

`dim` counts from 0, or from the end when negative. Shapes below: B batch, N any size.
"""

from __future__ import annotations

import html
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import ops
from .arguments import (
    array_of,
    as_dtype,
    axes_of,
    axis_of,
    axis_of_one,
    bool_,
    broadcasts,
    flatten_varargs,
    float32,
    float64,
    int32,
    int64,
    reduced_axes,
    shape_of,
    uint8,
    whole_shape,
)
from .core.op import aside, new_value, use_value_class
from .core.origin import user_origin
from .core.promotion import as_number
from .core.sharing import (
    copied,
    follow,
    in_row_order,
    is_view_along,
    leave,
    refuse_without_grad,
    share,
    viewed,
    write_array,
    write_on_tape,
    write_part,
)
from .core.state_version import note_change
from .core.tape import backward_pass
from .core.value import Symbol, Value, current_tracer, default_dtype, grad_mode, refuse_array, traced_or_array
from .errors import DTypeError, GradientError, OptionError, ShapeError, format_shape
from .indexing import index, path_to, with_index
from .ops import contraction, elementwise, movement, reduce
from .ops.loop import forbid_in_scan


class MinMax(NamedTuple):
    """What `max(dim)`, `sort` and `topk` give: the values, and the int64 positions they came from."""

    values: Any
    indices: Any


class device:
    """A place to compute. There is one, "cpu"; the class exists so that programs written for several run unchanged."""

    def __init__(self, name: str | device = "cpu") -> None:
        self.type = str(name).split(":")[0]
        if self.type != "cpu":
            raise OptionError(
                f'device: {str(name)!r}; expected "cpu"; choose it with device("cuda" if cuda.is_available() else "cpu")'
            )
        self.index = None

    def __repr__(self) -> str:
        return f"device(type={self.type!r})"

    def __str__(self) -> str:
        return self.type

    def __eq__(self, other: object) -> bool:
        return str(other) == self.type

    def __hash__(self) -> int:
        return hash(self.type)


_Device = device  # under the name that `Tensor.to(device=...)` does not hide


def check_device(device: Any) -> None:
    """Raise OptionError for a `device=` that is not the one there is."""
    if device is not None:
        _Device(device)


class UsedUp:
    """Stands in `.grad` after a compiled step whose optimizer has used the gradient, which was never stored."""

    def refuse(self) -> Any:
        raise GradientError(
            "grad: the compiled step used this gradient up without storing it; expected zero_grad() before another "
            "backward(), or to be told to keep it; call optimizer.zero_grad() first, or write "
            "pellucid.compile(step, keep_grads=True)"
        )


class Tensor(Value):
    """A multi-dimensional array that remembers how it was made. Make one with `pellucid.tensor(...)`.

    `Tensor(2, 3)` has those sizes and is filled with zeros; `Tensor([1, 2])` holds the numbers as float32. An array keeps
    its dtype.
    """

    __array_priority__ = 1000  # a NumPy array on the left gives way to our operators
    # Given by `random.py`, which stands above this file.
    uniform_: Callable[..., Tensor]
    normal_: Callable[..., Tensor]
    made_by = ""  # "softmax" on its result, so that cross-entropy can warn about a second one

    def array_from(self, *data: Any) -> Any:
        """What `Tensor(...)` holds that is called as PyTorch's is: with sizes, or with numbers in a list."""
        if data and isinstance(data[0], Symbol | np.ndarray | np.generic):
            return super().array_from(*data)
        if all(isinstance(size, int) and not isinstance(size, bool) for size in data):
            return np.zeros(shape_of(data), float32)
        if not data or data[0] is None:
            return np.zeros(0, float32)
        given = data[0]
        if len(data) > 1 or isinstance(given, int | float):
            raise DTypeError(f"Tensor{data!r}; expected sizes, or numbers in one list; write tensor({given!r})")
        return traced_or_array(given) if isinstance(given, Value) else array_of(given, float32)

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def grad(self) -> Any:
        """dL/d(this), summed over every `backward()` since it was last cleared; None before the first."""
        active = current_tracer()
        grad = self._grad if active is None else active.read_grad(self)
        return grad if grad.__class__ is not UsedUp else grad.refuse()

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None and (not isinstance(value, Tensor) or value.shape != self.shape):
            came = format_shape(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError(
                f"grad: {came}; expected a Tensor of shape {format_shape(self.shape)}, or None; reshape it first"
            )
        self.set_grad(value)

    def has_grad(self) -> bool:
        """Whether there is a gradient, also where a compiled step has used up its numbers."""
        active = current_tracer()
        return self._grad is not None if active is None else active.has_grad(self)

    def set_grad(self, value: Any) -> None:
        active = current_tracer()
        if active is not None:
            active.before_grad_write(self)
        self._grad = value

    def add_grad(self, value: Any) -> None:
        """What `backward` brings, added to what is there."""
        known = self.grad
        if known is None:
            self.set_grad(aside(value))  # its own: `value` may be on its way to others
            return
        total = known + value
        if total.requires_grad or known.requires_grad or total.dtype != known.dtype:
            self.set_grad(total)
        else:
            known.rebind(
                traced_or_array(total), user_origin()
            )  # the same Tensor as before, for who holds it, or a view of it

    def fill_grad_with_zeros(self) -> None:
        """Fill the gradient, where there is one, with zeros: in place, for who holds it or a view of it."""
        if not self.has_grad():
            return
        if self._grad.__class__ is UsedUp:
            self.set_grad(new_value(np.zeros(self.shape, self.dtype)))
        else:
            grad = self.grad.detach_()
            grad.rebind(traced_or_array(new_value(np.zeros(grad.shape, grad.dtype))), user_origin())

    @property
    def device(self) -> device:
        return device("cpu")

    @property
    def is_leaf(self) -> bool:
        return self.node is None

    @property
    def grad_fn(self) -> Any:
        return self.node

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Any) -> None:
        """Take over the numbers of `value`. What shared numbers with this Tensor before keeps those of now, as in PyTorch."""
        if not isinstance(value, Tensor):
            raise DTypeError(f"data: {type(value).__name__}; expected a Tensor; write x.data = tensor(...)")
        if is_view_along(value, self, ()):
            return  # `x.data -= y` has written there, and sets what it has written
        active = current_tracer()
        if active is not None:
            if (value.shape, value.dtype) != (self.shape, self.dtype):
                raise ShapeError(
                    f"{user_origin()}: x.data = y in a compiled step: y is {format_shape(value.shape)} {value.dtype}, x is {format_shape(self.shape)} "
                    f"{self.dtype}; expected the same; convert y, or do this outside of the step"
                )
            active.before_data_assignment(self)
            self.assign(value)
            return
        leave(self)
        if (value.shape, value.dtype) == (self.shape, self.dtype):
            self.assign(value)
        else:
            self.rebind(value.array, user_origin())
            note_change()  # compiled steps that read it are others now

    @property
    def T(self) -> Tensor:
        return viewed(movement.permute, self, axes=tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> Tensor:
        return self.transpose(-1, -2)

    def dim(self) -> int:
        return self.ndim

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[axis_of(self, dim, "size")]

    def numel(self) -> int:
        return self.array.size

    nelement = numel

    def element_size(self) -> int:
        return self.dtype.itemsize

    def is_floating_point(self) -> bool:
        return self.dtype.kind == "f"

    def is_contiguous(self) -> bool:
        return True

    # ---- out to Python and NumPy ----------------------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """A read-only snapshot as a NumPy array; `.copy()` it to write."""
        if self.requires_grad and grad_mode.get():
            raise GradientError(
                f"numpy(): this Tensor {format_shape(self.shape)} is on the tape, NumPy is not; "
                "expected a detached one; write x.detach().numpy()"
            )
        return self.snapshot()

    def snapshot(self) -> np.ndarray:
        view = traced_or_array(self).view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return (
            np.array(self.snapshot(), dtype=dtype, copy=copy)
            if copy or dtype not in (None, self.dtype)
            else self.snapshot()
        )

    def item(self) -> Any:
        if self.array.size != 1:
            raise ShapeError(
                f"item: shape {format_shape(self.shape)}; expected a single number; use tolist(), or reduce it first"
            )
        return traced_or_array(self).item()

    def tolist(self) -> Any:
        return traced_or_array(self).tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise DTypeError(f"index: {self.dtype}; expected an integer Tensor; convert with .long()")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise ShapeError(
                f"bool: shape {format_shape(self.shape)} is neither true nor false; expected one number; use .any() or .all()"
            )
        return bool(self.item())

    def __len__(self) -> int:
        if not self.ndim:
            raise ShapeError("len: a 0-d Tensor has no first axis; expected at least one axis; use item()")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any().item())

    def __repr__(self) -> str:
        if current_tracer() is not None:
            return f"tensor(being traced, shape={format_shape(self.shape)}, dtype={self.dtype})"
        shown = self.array if self.ndim else self.array.reshape(1)
        whole = shown.dtype.kind != "f" or bool(np.all(shown == np.trunc(shown)))  # 1. and not 1.0000
        mode: Any = "maxprec_equal" if whole else "fixed"
        body = np.array2string(shown, separator=", ", prefix="tensor(", precision=4, floatmode=mode)
        body = body if self.ndim else body[1:-1].strip()
        notes = "" if self.dtype in (float32, int64, bool_) else f", dtype={self.dtype}"
        if self.node is not None:
            notes += f", made by {self.node.op.name}"
        elif self.requires_grad:
            notes += ", requires_grad=True"
        return f"tensor({body}{notes})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.array.size == 1 else repr(self)

    def _repr_html_(self) -> str:
        about = f"Tensor {format_shape(self.shape)} {self.dtype}" + (
            f", made by {self.node.op.name}" if self.node else ""
        )
        numbers = np.array2string(self.array, separator=", ", precision=4, threshold=200)
        return f"<div><small>{html.escape(about)}</small><pre>{html.escape(numbers)}</pre></div>"

    def __hash__(self) -> int:
        return id(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self.node is not None:
            raise GradientError(
                f"deepcopy: this Tensor was made by {self.node.op.name}; expected a leaf; copy x.detach() instead"
            )
        copy = type(self).__new__(type(self))
        copy.__dict__.update(array=self.array, requires_grad=self.requires_grad)
        if self._grad is not None:
            copy._grad = self._grad if self._grad.__class__ is UsedUp else new_value(traced_or_array(self._grad))
        if self.cell is not None and current_tracer() is None:
            copied(copy, self, memo)
        memo[id(self)] = copy
        return copy

    def __getstate__(self) -> dict[str, Any]:
        """What copying to another process keeps: the numbers, not the tape."""
        if self.node is not None:
            raise GradientError(
                f"pickle: this Tensor was made by {self.node.op.name}; expected a leaf; pass x.detach()"
            )
        return {"array": self.array, "requires_grad": self.requires_grad}

    # ---- gradients -------------------------------------------------------------------------------------------------

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        if not isinstance(requires_grad, int | np.bool_):
            raise OptionError(
                f"requires_grad_: {requires_grad!r}; expected True or False; write requires_grad_(False) to freeze"
            )
        if requires_grad and self.dtype.kind != "f":
            raise DTypeError(f"requires_grad_: {self.dtype}; expected floating-point numbers; convert with .float()")
        if self.node is not None and not requires_grad:
            raise GradientError("requires_grad_(False): this Tensor was computed; expected a leaf; use x.detach()")
        self.requires_grad = requires_grad
        return self

    def backward(
        self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
    ) -> None:  # fmt: skip
        """Add dL/dleaf to `.grad` of every leaf that this Tensor was computed from.

        gradient: dL/d(this), same shape; may be left out for a single number, where it is 1. inputs: a Tensor or several;
        only these get their gradient, and nothing is computed for others.
        """
        self.check_on_tape("backward")
        inputs = [inputs] if isinstance(inputs, Tensor) else None if inputs is None else list(inputs)
        if inputs is not None and not (inputs and all(isinstance(x, Tensor) and x.requires_grad for x in inputs)):
            raise GradientError("backward: inputs holds nothing, or what requires no gradient; expected Tensors that do; "
                                "leave it out for every leaf, or set requires_grad=True on them before the forward")  # fmt: skip
        g = self.output_gradient(gradient)
        keep = create_graph if retain_graph is None else retain_graph
        found = backward_pass([self], [g], keep=keep, create_graph=create_graph, wanted=inputs).values()
        for leaf, _ in found:
            if leaf._grad.__class__ is UsedUp:
                leaf._grad.refuse()  # before any leaf has its gradient
        for leaf, grad in found:
            leaf.add_grad(grad)

    def check_on_tape(self, what: str) -> None:
        if not self.requires_grad:
            raise GradientError(
                f"{what}: this Tensor {format_shape(self.shape)} does not depend on anything that requires a gradient; "
                "expected "
                "one computed from parameters; set requires_grad=True on a leaf, and compute it outside no_grad()"
            )

    def output_gradient(self, gradient: Any) -> Any:
        """`gradient` checked against this output, or 1 where it is a single number and none is given."""
        if gradient is None:
            if self.array.size != 1:
                raise GradientError(f"backward: shape {format_shape(self.shape)}; expected a single number, such as a loss; "
                                    "reduce it with .mean() or .sum(), or pass gradient=")  # fmt: skip
            return new_value(np.ones(self.shape, self.dtype))
        gradient = as_value_of(gradient, self.dtype)
        if gradient.shape != self.shape:
            raise ShapeError(
                f"backward: gradient {format_shape(gradient.shape)}; expected {format_shape(self.shape)}; reshape it"
            )
        return gradient

    def retain_grad(self) -> None:
        """Keep `.grad` of a computed Tensor too."""
        if self.node is None:
            return
        ref = weakref.ref(self)

        def keep(g: Any) -> None:
            tensor = ref()
            if tensor is not None:
                tensor.add_grad(g)

        self.register_hook(keep)

    def register_hook(self, hook: Callable[[Any], Any]) -> RemovableHook:
        """Call `hook(grad)` when this Tensor's gradient is known; what it returns, unless None, takes its place."""
        self.check_on_tape("register_hook")
        owner: Any = self if self.node is None else self.node
        if owner.hooks is None:
            owner.hooks = []
        owner.hooks.append(hook)
        if owner is self:
            note_change()  # compiled steps that train it look again
        return RemovableHook(owner.hooks, hook)

    def detach(self) -> Tensor:
        """The same numbers, off the tape: a view, which follows what is written and writes through."""
        result = new_value(traced_or_array(self))
        share(result, self)
        return result

    def detach_(self) -> Tensor:
        self.node, self.requires_grad = None, False
        return self

    def clone(self) -> Tensor:
        """An own Tensor with the same numbers, still on the tape (nothing is copied until one of the two is written)."""
        return movement.reshape(self, shape=self.shape)

    # ---- the one way to change -------------------------------------------------------------------------------------

    def assign(self, value: Any) -> Tensor:
        """Take over the numbers of `value` (Tensor, array or number, broadcast to this shape, cast to this dtype).

        The old array is left as it was for whoever holds it. `version` goes up, so a gradient that still needs the old
        numbers is refused in `backward()` instead of being wrong. What was computed before is not part of the tape.
        """
        array = traced_or_array(value) if isinstance(value, Value) else np.asarray(value)
        shape = self.shape
        if array.shape != shape and (array.ndim > len(shape) or not broadcasts(array.shape, shape)):
            raise ShapeError(
                f"assign: {format_shape(array.shape)} into a Tensor {format_shape(shape)}; expected the same shape; reshape it first"
            )
        forbid_in_scan()
        if current_tracer() is not None:
            self.rebind(recorded_as(value, shape, self.dtype))
        else:
            if array.shape != shape:
                array = np.broadcast_to(array, shape).copy()
            if array.dtype != self.dtype:
                array = array.astype(self.dtype)
            elif not isinstance(value, Value):
                array = array.copy()  # the caller may go on writing into it
            self.rebind(array, user_origin())
            return self
        self.written_at = user_origin()
        return self

    def rebind(self, array: Any, place: Any = None) -> None:
        """Put another array in place of this one; who remembers the old one can see it by `version`."""
        active = current_tracer()
        if active is not None:
            active.rebind(self, array)
        elif self.cell is not None:
            write_array(self, array, place)
        else:
            self.array, self.written_at = array, place
            self.version += 1
            if self.storage is not None:
                self.storage.overwritten(self)

    def write(self, value: Tensor) -> Tensor:
        """In-place methods end here: `assign` under no_grad or on plain data; on the tape, become the computed value."""
        if self.base_without_grad is not None and grad_mode.get():
            refuse_without_grad(self, value)
        if not grad_mode.get() or not (self.requires_grad or value.requires_grad):
            return self.assign(value)
        if self.node is None and self.requires_grad:
            raise GradientError(
                f"in-place write into a leaf {format_shape(self.shape)} that requires a gradient; "
                "expected the tape to be off for an "
                "update; wrap it in `with no_grad():`"
            )
        value = movement.reshape(self.cast_like(value), shape=self.shape)
        if self.base is not None:
            write_on_tape(self, value)
            return self
        self.assign(value)
        self.node, self.requires_grad = value.node, value.requires_grad
        follow(self)
        return self

    def cast_like(self, value: Any) -> Any:
        return value if value.dtype == self.dtype else elementwise.cast(value, dtype=self.dtype)

    def add_(self, other: Any, *, alpha: float = 1) -> Tensor:
        return self.change(lambda mine, other: mine.add(other, alpha=alpha), other)

    def sub_(self, other: Any, *, alpha: float = 1) -> Tensor:
        return self.change(lambda mine, other: mine.sub(other, alpha=alpha), other)

    def mul_(self, other: Any) -> Tensor:
        return self.change(lambda mine, other: mine * other, other)

    def div_(self, other: Any) -> Tensor:
        return self.change(lambda mine, other: mine / other, other)

    def change(self, compute: Callable[..., Tensor], other: Any) -> Tensor:
        """Write `compute(self, other)`; raises DTypeError where this dtype would cut off what came out."""
        mine = self.now()
        result = compute(mine, mine if other is self else other)
        del mine  # it holds the numbers that the write may go over
        lost = {"b": "iuf", "u": "f", "i": "f", "f": ""}[self.dtype.kind]
        if result.dtype.kind in lost:
            raise DTypeError(
                f"in-place arithmetic: the result is {result.dtype}, this Tensor {format_shape(self.shape)} {self.dtype}; expected one "
                "that holds it; write x = x + y, or convert x first"
            )
        return self.write(result)

    def now(self) -> Tensor:
        """This Tensor as it is now: what an in-place method reads while it writes, so that the tape keeps the old numbers."""
        return aside(self) if grad_mode.get() else self

    def __iadd__(self, other: Any) -> Tensor:
        return self.add_(other)

    def __isub__(self, other: Any) -> Tensor:
        return self.sub_(other)

    def __imul__(self, other: Any) -> Tensor:
        return self.mul_(other)

    def __itruediv__(self, other: Any) -> Tensor:
        return self.div_(other)

    def zero_(self) -> Tensor:
        return self.fill_(0)

    def fill_(self, number: Any) -> Tensor:
        return self.write(reduce.expand(self.in_own_dtype(number), shape=self.shape))

    def copy_(self, other: Any) -> Tensor:
        other = as_value_of(self.now() if other is self else other, self.dtype)
        return self.write(reduce.expand(other, shape=self.shape))

    def clamp_(self, min: Any = None, max: Any = None) -> Tensor:
        return self.write(self.now().clamp(min, max))

    def masked_fill_(self, mask: Tensor, value: Any) -> Tensor:
        return self.write(self.now().masked_fill(mask, value))

    def relu_(self) -> Tensor:
        return self.write(elementwise.relu(self.now()))

    def __setitem__(self, key: Any, value: Any) -> None:
        value = aside(self) if value is self else self.in_own_dtype(value)
        if self.base_without_grad is not None and grad_mode.get():
            refuse_without_grad(self, value)
        path = path_to(self, key, value)
        if path is not None and is_view_along(value, self, path):
            return  # `x[i] += v` has written there, and sets what it has written
        if (
            path is None
            or current_tracer() is not None
            or (grad_mode.get() and (self.requires_grad or value.requires_grad))
        ):
            self.write(with_index(aside(self), key, value))
        else:
            write_part(self, path, value.array, user_origin())

    def in_own_dtype(self, value: Any) -> Tensor:
        """`value`, a number or what a Tensor can be made of, in this Tensor's dtype."""
        if isinstance(value, int | float):
            return new_value(as_number(value, self.dtype))
        return as_value_of(value, self.dtype)

    # ---- dtype and device ------------------------------------------------------------------------------------------

    def to(
        self, *where: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False, copy: bool = False
    ) -> Tensor:
        """Another dtype (`x.to(float64)`, `x.to(other)`); a device is accepted where it is "cpu".

        non_blocking, copy: PyTorch's, without effect: there is one device, and Tensors are values.
        """
        for argument in (*where, device):
            if isinstance(argument, Tensor):
                dtype = argument.dtype
            elif isinstance(argument, str | _Device):
                _Device(argument)
            elif argument is not None and not isinstance(argument, bool):
                dtype = argument
        if dtype is None or as_dtype(dtype) == self.dtype:
            return self
        return elementwise.cast(self, dtype=as_dtype(dtype))

    def type(self, dtype: Any = None) -> Any:
        return str(self.dtype) if dtype is None else self.to(dtype)

    def cpu(self) -> Tensor:
        return self

    def contiguous(self) -> Tensor:
        """Itself where its numbers stand in row order in what it shares, else its own, as in PyTorch."""
        return self if in_row_order(self) else self.clone()

    def float(self) -> Tensor:
        return self.to(float32)

    def double(self) -> Tensor:
        return self.to(float64)

    def long(self) -> Tensor:
        return self.to(int64)

    def int(self) -> Tensor:
        return self.to(int32)

    def byte(self) -> Tensor:
        return self.to(uint8)

    def bool(self) -> Tensor:
        return self != 0

    def type_as(self, other: Tensor) -> Tensor:
        return self.to(other.dtype)

    # ---- arithmetic ------------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return elementwise.add(self, operand(other))

    def __radd__(self, other: Any) -> Tensor:
        return elementwise.add(operand(other), self)

    def __sub__(self, other: Any) -> Tensor:
        return elementwise.subtract(self, operand(other))

    def __rsub__(self, other: Any) -> Tensor:
        return elementwise.subtract(operand(other), self)

    def __mul__(self, other: Any) -> Tensor:
        return elementwise.multiply(self, operand(other))

    def __rmul__(self, other: Any) -> Tensor:
        return elementwise.multiply(operand(other), self)

    def __truediv__(self, other: Any) -> Tensor:
        return elementwise.divide(self, operand(other))

    def __rtruediv__(self, other: Any) -> Tensor:
        return elementwise.divide(operand(other), self)

    def __floordiv__(self, other: Any) -> Tensor:
        return elementwise.floor_divide(self, operand(other))

    def __rfloordiv__(self, other: Any) -> Tensor:
        return elementwise.floor_divide(operand(other), self)

    def __mod__(self, other: Any) -> Tensor:
        return elementwise.remainder(self, operand(other))

    def __rmod__(self, other: Any) -> Tensor:
        return elementwise.remainder(operand(other), self)

    def __pow__(self, exponent: Any) -> Tensor:
        if isinstance(exponent, int | float) and (self.dtype.kind == "f" or exponent.__class__ is int):
            if exponent < 0 and self.dtype.kind != "f":
                raise DTypeError(f"power: {self.dtype} to the {exponent}; expected floating-point numbers for a negative "
                                 "exponent; convert with .float()")  # fmt: skip
            if exponent == 2 and self.dtype.kind != "b":
                return elementwise.multiply(self, self)  # a third of the time of the general power
            if exponent == 0.5:
                return elementwise.sqrt(self)
        return elementwise.power(self, operand(exponent))

    def __rpow__(self, base: Any) -> Tensor:
        return elementwise.power(operand(base), self)

    def __neg__(self) -> Tensor:
        return elementwise.negative(self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return elementwise.absolute(self)

    def __matmul__(self, other: Any) -> Tensor:
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return matmul(operand(other), self)

    def __and__(self, other: Any) -> Tensor:
        return elementwise.bitwise_and(self, operand(other))

    def __or__(self, other: Any) -> Tensor:
        return elementwise.bitwise_or(self, operand(other))

    def __xor__(self, other: Any) -> Tensor:
        return elementwise.bitwise_xor(self, operand(other))

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self) -> Tensor:
        return elementwise.bitwise_not(self)

    def __eq__(self, other: Any) -> Any:
        return False if other is None else elementwise.equal(self, operand(other))

    def __ne__(self, other: Any) -> Any:
        return True if other is None else elementwise.not_equal(self, operand(other))

    def __lt__(self, other: Any) -> Tensor:
        return elementwise.less(self, operand(other))

    def __le__(self, other: Any) -> Tensor:
        return elementwise.less_equal(self, operand(other))

    def __gt__(self, other: Any) -> Tensor:
        return elementwise.greater(self, operand(other))

    def __ge__(self, other: Any) -> Tensor:
        return elementwise.greater_equal(self, operand(other))

    def add(self, other: Any, *, alpha: Any = 1) -> Tensor:
        return self + (other if alpha == 1 else other * alpha)

    def sub(self, other: Any, *, alpha: Any = 1) -> Tensor:
        return self - (other if alpha == 1 else other * alpha)

    mul = __mul__
    div = true_divide = __truediv__
    pow = __pow__
    neg = __neg__
    abs = __abs__
    eq = __eq__
    ne = __ne__
    lt = __lt__
    le = __le__
    gt = __gt__
    ge = __ge__
    remainder = __mod__
    logical_and = lambda self, other: self.bool() & operand_tensor(other, "logical_and").bool()
    logical_or = lambda self, other: self.bool() | operand_tensor(other, "logical_or").bool()
    logical_not = lambda self: self == 0

    def matmul(self, other: Any) -> Tensor:
        return matmul(self, other)

    def dot(self, other: Tensor) -> Tensor:
        """x (N,), y (N,) -> (): the sum of the products."""
        return matmul(operand_tensor(self, "dot", 1), operand_tensor(other, "dot", 1))

    def mv(self, other: Tensor) -> Tensor:
        """x (M, N), y (N,) -> (M,)."""
        return matmul(operand_tensor(self, "mv", 2), operand_tensor(other, "mv", 1))

    def mm(self, other: Tensor) -> Tensor:
        """x (M, N), y (N, K) -> (M, K)."""
        return matmul(operand_tensor(self, "mm", 2), operand_tensor(other, "mm", 2))

    def bmm(self, other: Tensor) -> Tensor:
        """x (B, M, N), y (B, N, K) -> (B, M, K); the batches are equal, they do not broadcast."""
        x, y = operand_tensor(self, "bmm", 3), operand_tensor(other, "bmm", 3)
        if x.shape[0] != y.shape[0]:
            raise ShapeError(
                f"bmm: {format_shape(x.shape)}, {format_shape(y.shape)}; expected equal batches; use matmul to broadcast"
            )
        return matmul(x, y)

    def outer(self, other: Tensor) -> Tensor:
        """x (M,), y (N,) -> (M, N): every product."""
        self, other = operand_tensor(self, "outer", 1), operand_tensor(other, "outer", 1)
        return self.unsqueeze(1) * other.unsqueeze(0)

    # ---- functions of each number ----------------------------------------------------------------------------------

    def exp(self) -> Tensor:
        return elementwise.exp(self)

    def expm1(self) -> Tensor:
        return elementwise.expm1(self)

    def log(self) -> Tensor:
        return elementwise.log(self)

    def log1p(self) -> Tensor:
        return elementwise.log1p(self)

    def log2(self) -> Tensor:
        return elementwise.log(self) * (1 / math.log(2))

    def log10(self) -> Tensor:
        return elementwise.log(self) * (1 / math.log(10))

    def sqrt(self) -> Tensor:
        return elementwise.sqrt(self)

    def rsqrt(self) -> Tensor:
        return 1 / elementwise.sqrt(self)

    def square(self) -> Tensor:
        return self**2

    def reciprocal(self) -> Tensor:
        return 1 / self

    def sin(self) -> Tensor:
        return elementwise.sin(self)

    def cos(self) -> Tensor:
        return elementwise.cos(self)

    def tan(self) -> Tensor:
        return elementwise.sin(self) / elementwise.cos(self)

    def tanh(self) -> Tensor:
        return elementwise.tanh(self)

    def sigmoid(self) -> Tensor:
        return elementwise.sigmoid(self)

    def relu(self) -> Tensor:
        return elementwise.relu(self)

    def erf(self) -> Tensor:
        return elementwise.erf(self)

    def sign(self) -> Tensor:
        return elementwise.sign(self)

    def floor(self) -> Tensor:
        return elementwise.floor(self)

    def ceil(self) -> Tensor:
        return elementwise.ceil(self)

    def trunc(self) -> Tensor:
        return elementwise.trunc(self)

    def round(self) -> Tensor:
        return elementwise.round(self)

    def isfinite(self) -> Tensor:
        return elementwise.is_finite(self)

    def isnan(self) -> Tensor:
        return elementwise.not_equal(self, self)

    def isinf(self) -> Tensor:
        return elementwise.equal(elementwise.absolute(self), math.inf)

    def isclose(self, other: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: Any = False) -> Tensor:
        """Whether |x - other| <= atol + rtol |other|; infinities are close to themselves alone, NaN with `equal_nan`."""
        other = operand(other)
        away = abs(self - other)
        close = (self == other) | (away.isfinite() & (away <= abs(other) * rtol + atol))
        return close | (self.isnan() & (other != other)) if equal_nan else close

    def maximum(self, other: Any) -> Tensor:
        return elementwise.maximum(self, operand(other))

    def minimum(self, other: Any) -> Tensor:
        return elementwise.minimum(self, operand(other))

    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        """Numbers below `min` become `min`, above `max` become `max`; NaN stays. The gradient is 1 from min to max."""
        if min is None and max is None:
            raise OptionError("clamp: neither min nor max; expected one of them or both; pass min=0, say")
        if any(isinstance(bound, float) and math.isnan(bound) for bound in (min, max)):
            raise OptionError("clamp: a bound is NaN; expected a number; leave it out for none")
        x = self
        if min is not None:
            x = elementwise.where(x < min, min, x)
        return x if max is None else elementwise.where(x > max, max, x)

    clip = clamp

    def masked_fill(self, mask: Tensor, value: Any) -> Tensor:
        """`value`, in this dtype, where the mask holds."""
        if isinstance(value, Value) and value.ndim:
            raise ShapeError(
                f"masked_fill: value {format_shape(value.shape)}; expected a single number; use where(mask, value, x)"
            )
        return elementwise.where(mask, self.in_own_dtype(value), self)

    def where(self, condition: Tensor, other: Any) -> Tensor:
        return elementwise.where(condition, self, operand(other))

    def lerp(self, end: Any, weight: Any) -> Tensor:
        x = self.as_floating()
        return x + (end - x) * weight

    # ---- reductions ------------------------------------------------------------------------------------------------

    def sum(self, dim: Any = None, keepdim: Any = False, dtype: Any = None) -> Tensor:
        x = self if dtype is None else self.to(dtype)
        total = reduce.sum(x, axes=reduced_axes(self, dim, "sum"), keepdims=keepdim)
        return total if dtype is None else total.to(dtype)

    def mean(self, dim: Any = None, keepdim: Any = False, dtype: Any = None) -> Tensor:
        x = self if dtype is None else self.to(dtype)
        x.check_floating("mean")
        axes = reduced_axes(x, dim, "mean")
        return reduce.sum(x, axes=axes, keepdims=keepdim) / count(x, axes)

    def check_floating(self, what: str) -> None:
        """Raise DTypeError for whole numbers, with which `what` would count wrong."""
        if self.dtype.kind != "f":
            raise DTypeError(f"{what}: {self.dtype}; expected floating-point numbers; convert with .float()")

    def var(self, dim: Any = None, unbiased: Any = True, keepdim: Any = False, *, correction: Any = None) -> Tensor:
        """The variance; divided by n - 1, or by n with `correction=0` (`unbiased=False`, alone or first in line too)."""
        if isinstance(dim, bool | np.bool_):
            dim, unbiased = None, dim
        axes = reduced_axes(self, dim, "var")
        correction = (1 if unbiased else 0) if correction is None else correction
        away = self - self.mean(axes, keepdim=True)
        return reduce.sum(away * away, axes=axes, keepdims=keepdim) / max(count(self, axes) - correction, 0)

    def std(self, dim: Any = None, unbiased: Any = True, keepdim: Any = False, *, correction: Any = None) -> Tensor:
        return elementwise.length(self.var(dim, unbiased, keepdim, correction=correction))

    def norm(self, p: Any = 2, dim: Any = None, keepdim: Any = False) -> Tensor:
        """(sum of |x|**p)**(1/p) along `dim`; the largest |x| for p infinite. "fro" is 2. The slope at length 0 is 0."""
        self.check_floating("norm")
        axes = reduced_axes(self, dim, "norm")
        p = 2 if p == "fro" or p is None else p
        if not isinstance(p, int | float):
            raise OptionError(f'norm: p = {p!r}; expected a number, or "fro" for 2; write math.inf for the largest')
        if p == math.inf:
            return reduce.amax(abs(self), axes=axes, keepdims=keepdim)
        if p == 1:
            return reduce.sum(abs(self), axes=axes, keepdims=keepdim)
        if isinstance(p, str) or not p > 0:
            raise OptionError(
                f'norm: p = {p!r}; expected a number above 0, infinity or "fro"; count numbers with (x != 0).sum()'
            )
        if p != 2:
            return _root(reduce.sum(_power_of(abs(self), p), axes=axes, keepdims=keepdim), 1 / p)
        return elementwise.length(reduce.sum(self * self, axes=axes, keepdims=keepdim))

    def amax(self, dim: Any = None, keepdim: Any = False) -> Tensor:
        return reduce.amax(self, axes=reduced_axes(self, dim, "amax"), keepdims=keepdim)

    def amin(self, dim: Any = None, keepdim: Any = False) -> Tensor:
        return reduce.amin(self, axes=reduced_axes(self, dim, "amin"), keepdims=keepdim)

    def max(self, dim: Any = None, keepdim: Any = False) -> Any:
        """The largest number; along `dim`, values and positions; of two Tensors, the larger number by number."""
        if isinstance(dim, Tensor):
            return self.maximum(dim)
        if dim is None:
            self._check_keepdim("max", keepdim)
            return self.amax()
        return self._picked(self.argmax(dim, keepdim=True), dim, keepdim)

    def min(self, dim: Any = None, keepdim: Any = False) -> Any:
        if isinstance(dim, Tensor):
            return self.minimum(dim)
        if dim is None:
            self._check_keepdim("min", keepdim)
            return self.amin()
        return self._picked(self.argmin(dim, keepdim=True), dim, keepdim)

    def _check_keepdim(self, what: str, keepdim: Any) -> None:
        if keepdim:
            raise OptionError(f"{what}: keepdim without dim; expected both; write a{what}(keepdim=True)")

    def _picked(self, positions: Tensor, dim: Any, keepdim: Any) -> MinMax:
        values = self.gather(dim, positions) if self.ndim else self
        return MinMax(values, positions) if keepdim else MinMax(values.squeeze(dim), positions.squeeze(dim))

    def argmax(self, dim: Any = None, keepdim: Any = False) -> Tensor:
        return self._position(reduce.argmax, dim, keepdim)

    def argmin(self, dim: Any = None, keepdim: Any = False) -> Tensor:
        return self._position(reduce.argmin, dim, keepdim)

    def _position(self, op: Any, dim: Any, keepdim: Any) -> Tensor:
        if not self.ndim and dim is not None:
            axis_of_one(dim, op.name)
        if dim is None or not self.ndim:  # of all numbers in row-major order
            place = op(self.reshape(-1), axis=0, keepdims=False)
            return place.reshape((1,) * self.ndim) if keepdim else place
        return op(self, axis=axis_of(self, dim, op.name), keepdims=keepdim)

    def any(self, dim: Any = None, keepdim: Any = False) -> Tensor:
        return self._truth(reduce.any_(self, axes=axes_of(self, dim, "any"), keepdims=keepdim))

    def all(self, dim: Any = None, keepdim: Any = False) -> Tensor:
        return self._truth(reduce.all_(self, axes=axes_of(self, dim, "all"), keepdims=keepdim))

    def _truth(self, found: Tensor) -> Tensor:
        return found.to(uint8) if self.dtype == uint8 else found  # uint8 was PyTorch's bool once

    def prod(self, dim: Any = None, keepdim: Any = False, dtype: Any = None) -> Tensor:
        """The product, by halves: half of the numbers times the other half, so that a zero has its right gradient."""
        if dim is None or not self.ndim:
            product = self.reshape(-1).prod(0, dtype=dtype)
            return product.reshape((1,) * self.ndim) if keepdim else product
        dim = axis_of(self, dim, "prod")
        x = self.to(dtype) if dtype is not None else self if self.dtype.kind == "f" else self.long()
        if not self.shape[dim]:
            x = new_value(np.ones([1 if i == dim else size for i, size in enumerate(self.shape)], x.dtype))
        while x.shape[dim] > 1:
            half = x.shape[dim] // 2
            product = x.narrow(dim, 0, half) * x.narrow(dim, half, half)
            x = concatenate([product, x.narrow(dim, 2 * half, 1)], dim) if x.shape[dim] % 2 else product
        return x if keepdim else x.squeeze(dim)

    def cumsum(self, dim: Any, dtype: Any = None) -> Tensor:
        if not self.ndim:
            return self.sum(dim, dtype=dtype)
        x = self if dtype is None else self.to(dtype)
        total = reduce.cumulative_sum(x, axis=axis_of(self, dim, "cumsum"), reverse=False)
        return total if dtype is None else total.to(dtype)

    def logsumexp(self, dim: Any, keepdim: Any = False) -> Tensor:
        """log(sum(exp(x))) without overflow: the largest number is taken out first."""
        x = self.as_floating()
        axes = axes_of(x, dim, "logsumexp")
        top = reduce.amax(x.detach(), axes=axes, keepdims=True)
        top = elementwise.where(top.isfinite(), top, 0)
        total = reduce.sum((x - top).exp(), axes=axes, keepdims=True).log() + top
        return total if keepdim else total.squeeze(axes)

    def softmax(self, dim: Any) -> Tensor:
        """exp(x) / sum(exp(x)) along `dim`, computed from x minus its largest, so that nothing overflows."""
        x, axes = self.as_floating(), self._along(dim, "softmax")
        e = (x - reduce.amax(x.detach(), axes=axes, keepdims=True)).exp()
        result = e / reduce.sum(e, axes=axes, keepdims=True)
        result.made_by = "softmax"
        return result

    def log_softmax(self, dim: Any) -> Tensor:
        x, axes = self.as_floating(), self._along(dim, "log_softmax")
        x = x - reduce.amax(x.detach(), axes=axes, keepdims=True)
        return x - reduce.sum(x.exp(), axes=axes, keepdims=True).log()

    def _along(self, dim: Any, what: str) -> tuple[Any, ...]:
        """The one axis `dim`; none of a 0-d Tensor."""
        return (axis_of(self, dim, what),) if self.ndim else axes_of(self, dim, what)

    def as_floating(self) -> Tensor:
        """Itself; whole numbers as float32: a difference of them may not fit into their dtype."""
        return self if self.dtype.kind == "f" else self.to(default_dtype)

    # ---- shape -----------------------------------------------------------------------------------------------------

    def reshape(self, *shape: Any) -> Tensor:
        return viewed(movement.reshape, self, shape=whole_shape(self, shape))

    view = reshape

    def view_as(self, other: Tensor) -> Tensor:
        return viewed(movement.reshape, self, shape=other.shape)

    reshape_as = view_as

    def flatten(self, start_dim: Any = 0, end_dim: Any = -1) -> Tensor:
        if not self.ndim:
            return self.reshape(1)
        start, end = axis_of(self, start_dim, "flatten"), axis_of(self, end_dim, "flatten")
        if start > end:
            raise ShapeError(
                f"flatten: dims {start_dim} to {end_dim} of {format_shape(self.shape)}; expected the first before the last; exchange them"
            )
        return self.reshape(*self.shape[:start], math.prod(self.shape[start : end + 1]), *self.shape[end + 1 :])

    def unflatten(self, dim: Any, sizes: Sequence[Any]) -> Tensor:
        dim = axis_of(self, dim, "unflatten")
        rest = -1 if -1 not in sizes else self.shape[dim] // max(-math.prod(sizes), 1)
        filled = [rest if size == -1 else size for size in sizes]
        return self.reshape(*self.shape[:dim], *filled, *self.shape[dim + 1 :])

    def squeeze(self, dim: Any = None) -> Tensor:
        """Without the axes of size 1 (all of them, or those in `dim`)."""
        axes = set(axes_of(self, dim, "squeeze"))
        return self.reshape(tuple(size for i, size in enumerate(self.shape) if size != 1 or i not in axes))

    def unsqueeze(self, dim: Any) -> Tensor:
        dim = dim + self.ndim + 1 if dim < 0 else dim
        if not 0 <= dim <= self.ndim:
            raise ShapeError(
                f"unsqueeze: dim {dim} of shape {format_shape(self.shape)}; expected {-self.ndim - 1} to {self.ndim}; "
                "count the axes"
            )
        return self.reshape(*self.shape[:dim], 1, *self.shape[dim:])

    def permute(self, *dims: Any) -> Tensor:
        dims = flatten_varargs(dims)
        return viewed(movement.permute, self, axes=tuple(axis_of(self, dim, "permute") for dim in dims))

    def transpose(self, dim0: Any, dim1: Any) -> Tensor:
        axes = list(range(self.ndim))
        i, j = axis_of(self, dim0, "transpose"), axis_of(self, dim1, "transpose")
        axes[i], axes[j] = axes[j], axes[i]
        return viewed(movement.permute, self, axes=tuple(axes))

    swapaxes = transpose

    def t(self) -> Tensor:
        if self.ndim > 2:
            raise ShapeError(
                f"t: shape {format_shape(self.shape)}; expected two axes at most; use mT or transpose(dim0, dim1)"
            )
        return self.T

    def movedim(self, source: Any, destination: Any) -> Tensor:
        axes = [i for i in range(self.ndim) if i != axis_of(self, source, "movedim")]
        axes.insert(axis_of(self, destination, "movedim"), axis_of(self, source, "movedim"))
        return viewed(movement.permute, self, axes=tuple(axes))

    def expand(self, *shape: Any) -> Tensor:
        """Axes of size 1 repeated to `shape`; -1 leaves a size as it is."""
        sizes = flatten_varargs(shape)
        new = len(sizes) - self.ndim
        whole = tuple(self.shape[i - new] if size == -1 and i >= new else size for i, size in enumerate(sizes))
        return viewed(reduce.expand, self, shape=whole)

    def expand_as(self, other: Tensor) -> Tensor:
        return self.expand(other.shape)

    broadcast_to = expand

    def repeat(self, *times: Any) -> Tensor:
        """The whole Tensor laid out `times` along each axis."""
        times = flatten_varargs(times)
        if len(times) < self.ndim or min(times, default=0) < 0:
            raise ShapeError(
                f"repeat: {times} of shape {format_shape(self.shape)}; expected a number from 0 for each axis; name them all"
            )
        x = self.reshape(*(1,) * (len(times) - self.ndim), *self.shape)
        for dim, n in enumerate(times):
            x = concatenate([x] * n, dim) if n > 1 else x.narrow(dim, 0, n * x.shape[dim])
        return x.clone() if x.cell is not None else x

    def repeat_interleave(self, repeats: Any, dim: Any = None) -> Tensor:
        """Each element `repeats` times in a row along `dim` (flattened without one)."""
        if dim is None:
            return self.reshape(-1).repeat_interleave(repeats, 0)
        dim = axis_of(self, dim, "repeat_interleave")
        if isinstance(repeats, Value) and repeats.ndim:
            if repeats.shape != (self.shape[dim],) or repeats.dtype.kind not in "iu":
                raise ShapeError(f"repeat_interleave: repeats {format_shape(repeats.shape)} {repeats.dtype}; expected integers "
                                 f"({self.shape[dim]},), one for each place of axis {dim}; or pass one number")  # fmt: skip
            places = np.repeat(np.arange(self.shape[dim]), traced_or_array(repeats))
            return self.index_select(dim, new_value(places))
        repeats = int(repeats)
        if repeats < 0:
            raise OptionError(f"repeat_interleave: {repeats} times; expected 0 or more; check the number")
        x = self.unsqueeze(dim + 1).expand(*self.shape[: dim + 1], repeats, *self.shape[dim + 1 :])
        return x.flatten(dim, dim + 1)

    def narrow(self, dim: Any, start: Any, length: Any) -> Tensor:
        dim = axis_of(self, dim, "narrow")
        size, start = self.shape[dim], int(start)
        start = start + size if start < 0 else start
        if not 0 <= start <= start + length <= size:
            raise ShapeError(
                f"narrow: {length} from {start} on axis {dim} of {format_shape(self.shape)}; expected places up to {size}; check both"
            )
        slices = [(0, size, 1) for size in self.shape]
        slices[dim] = (start, length, 1)
        return viewed(movement.slice_, self, slices=tuple(slices))

    def split(self, split_size: Any, dim: Any = 0) -> tuple[Tensor, ...]:
        """Pieces of `split_size` along `dim`, or of the sizes in a list."""
        dim = axis_of(self, dim, "split")
        total = self.shape[dim]
        if isinstance(split_size, int):
            if split_size < 1:
                raise OptionError(
                    f"split: pieces of {split_size} on axis {dim} of {format_shape(self.shape)}; expected 1 or more; pass another"
                )
            sizes = [min(split_size, total - i) for i in range(0, max(total, 1), split_size)]
        else:
            sizes = list(split_size)
        if sum(sizes) != total:
            raise ShapeError(
                f"split: sizes {sizes} add up to {sum(sizes)}; "
                f"expected {total}, axis {dim} of {format_shape(self.shape)}; adjust them"
            )
        starts = np.cumsum([0, *sizes[:-1]]).tolist()
        return tuple(self.narrow(dim, start, length) for start, length in zip(starts, sizes, strict=True))

    def chunk(self, chunks: Any, dim: Any = 0) -> tuple[Tensor, ...]:
        if chunks < 1:
            raise OptionError(f"chunk: {chunks} pieces of {format_shape(self.shape)}; expected 1 or more; pass another")
        if not self.shape[axis_of(self, dim, "chunk")]:
            return (self,) * chunks
        return self.split(max(-(-self.shape[axis_of(self, dim, "chunk")] // chunks), 1), dim)

    def unbind(self, dim: Any = 0) -> tuple[Tensor, ...]:
        return tuple(self.select(dim, i) for i in range(self.shape[axis_of(self, dim, "unbind")]))

    def select(self, dim: Any, index: Any) -> Tensor:
        dim = axis_of(self, dim, "select")
        return self[(slice(None),) * dim + (index,)]

    def flip(self, *dim: Any, dims: Any = ()) -> Tensor:
        axes = {axis_of(self, d, "flip") for d in (*flatten_varargs(dim), *dims)}
        slices = [(size - 1, size, -1) if i in axes else (0, size, 1) for i, size in enumerate(self.shape)]
        return movement.slice_(self, slices=tuple(slices))

    def roll(self, shifts: Any, dims: Any = None) -> Tensor:
        """Moved on by `shifts` along `dims`, around the end (flattened without one)."""
        if dims is None:
            return self.reshape(-1).roll(shifts, 0).reshape(self.shape)
        if isinstance(dims, tuple | list):
            x = self
            for shift, dim in zip(shifts, dims, strict=True):
                x = x.roll(shift, dim)
            return x
        size = self.shape[axis_of(self, dims, "roll")]
        cut = (-shifts) % size if size else 0
        return concatenate([self.narrow(dims, cut, size - cut), self.narrow(dims, 0, cut)], dims)

    def tril(self, diagonal: Any = 0) -> Tensor:
        """The lower triangle of the last two axes, zeros elsewhere."""
        return elementwise.where(_triangle(self, diagonal, lower=True), self, self.in_own_dtype(0))

    def triu(self, diagonal: Any = 0) -> Tensor:
        return elementwise.where(_triangle(self, diagonal, lower=False), self, self.in_own_dtype(0))

    # ---- picking by position ---------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Tensor:
        return index(self, key)

    def gather(self, dim: Any, index: Tensor) -> Tensor:
        return ops.index.gather(self, index, axis=axis_of(self, dim, "gather"))

    def scatter_add(self, dim: Any, index: Tensor, src: Tensor) -> Tensor:
        return ops.index.scatter_add(self, index, self.cast_like(src), axis=axis_of(self, dim, "scatter_add"))

    def index_select(self, dim: Any, index: Tensor) -> Tensor:
        dim = axis_of(self, dim, "index_select")
        index = (
            operand_tensor(index, "index_select").reshape(-1)
            if index.ndim == 0
            else operand_tensor(index, "index_select", 1)
        )
        return ops.index.take(self.movedim(dim, 0), index).movedim(0, dim)

    def masked_select(self, mask: Tensor) -> Tensor:
        """The numbers where the mask holds, in row-major order, after both have been broadcast: (K,)."""
        if mask.dtype != bool_:
            raise DTypeError(f"masked_select: mask is {mask.dtype}; expected bool; compare first, such as x > 0")
        shape = elementwise.where.broadcast([self.shape, mask.shape])
        x, chosen = (t if t.shape == shape else t.expand(shape) for t in (self, mask))
        return x[chosen]

    def nonzero(self) -> Tensor:
        return new_value(np.argwhere(self.array))

    def unique(self) -> Tensor:
        return new_value(np.unique(self.array))

    def argsort(self, dim: Any = -1, descending: Any = False, stable: Any = True) -> Tensor:
        if not self.ndim:
            axis_of_one(dim, "argsort")
            return new_value(np.zeros((), np.int64))
        return ops.index.argsort(self, axis=axis_of(self, dim, "argsort"), descending=descending)

    def sort(self, dim: Any = -1, descending: Any = False, stable: Any = True) -> MinMax:
        positions = self.argsort(dim, descending)
        return MinMax(self.gather(dim, positions) if self.ndim else self, positions)

    def topk(self, k: Any, dim: Any = -1, largest: Any = True, sorted: Any = True) -> MinMax:
        size = self.shape[axis_of(self, dim, "topk")]
        if not 0 <= k <= size:
            raise OptionError(
                f"topk: k = {k}; expected 0 to {size}, the size of axis {dim} of {format_shape(self.shape)}; ask for fewer"
            )
        positions = self.argsort(dim, descending=largest).narrow(dim, 0, k)
        return MinMax(self.gather(dim, positions), positions)

    def allclose(self, other: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: Any = False) -> Any:
        return self.isclose(other, rtol, atol, equal_nan).all().item()

    def equal(self, other: Any) -> Any:
        return bool(np.array_equal(self.array, np.asarray(other)))

    # ---- new ones like this ----------------------------------------------------------------------------------------

    def new_zeros(self, *shape: Any) -> Tensor:
        return new_value(np.zeros(shape_of(shape), self.dtype))

    def new_ones(self, *shape: Any) -> Tensor:
        return new_value(np.ones(shape_of(shape), self.dtype))

    def new_tensor(self, data: Any) -> Tensor:
        return as_value_of(data, self.dtype).detach()


use_value_class(Tensor)


class Parameter(Tensor):
    """A Tensor that a Module trains: it registers itself when set as an attribute."""

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        source = data if isinstance(data, Tensor) else new_value(np.array(array_of(data)))
        if requires_grad and source.dtype.kind != "f":
            raise DTypeError(f"Parameter: {source.dtype}; expected floating-point numbers; convert with .float()")
        super().__init__(source.array)
        self.requires_grad = requires_grad

    @property
    def requires_grad(self) -> bool:
        """Whether it is trained; a change is one of structure, which compiled steps look at again."""
        return self.__dict__.get("requires_grad", False)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.__dict__.get("requires_grad", False) != value:
            note_change()
        self.__dict__["requires_grad"] = value

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class RemovableHook:
    """What registering a hook gives: `remove()` takes it out again; as a context manager, at the end."""

    def __init__(self, hooks: list[Any], hook: Any) -> None:
        self.hooks, self.hook = hooks, hook

    def remove(self) -> None:
        if self.hook in self.hooks:
            self.hooks.remove(self.hook)
            note_change()

    def __enter__(self) -> RemovableHook:
        return self

    def __exit__(self, *error: Any) -> None:
        self.remove()


# ---- what the methods share -------------------------------------------------------------------------------------------


def operand_tensor(value: Any, what: str, axes: Any = None) -> Tensor:
    """`value`; raises DTypeError unless it is a Tensor, ShapeError unless it has so many axes."""
    if not isinstance(value, Tensor):
        raise DTypeError(
            f"{what}: {value!r:.60} ({type(value).__name__}); expected a Tensor; make one with tensor(...)"
        )
    if axes is not None and value.ndim != axes:
        raise ShapeError(f"{what}: shape {format_shape(value.shape)}; expected {axes} axes; use matmul, or reshape it")
    return value


def operand(value: Any) -> Any:
    """What stands beside a Tensor in an expression: a Tensor, a number, or data to make a Tensor of."""
    refuse_array(value)
    return new_value(np.array(array_of(value))) if isinstance(value, (np.ndarray, list, tuple)) else value


def as_value_of(data: Any, dtype: np.dtype) -> Any:
    """`data` as a Tensor of `dtype`."""
    refuse_array(data)
    value = data if isinstance(data, Tensor) else new_value(np.array(array_of(data)))  # a copy: the caller may write on
    return value if value.dtype == dtype else elementwise.cast(value, dtype=dtype)


def recorded_as(value: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """The Symbol of `value` in another shape and dtype, as `assign` writes it into a recorded step."""
    refuse_array(value)
    value = value if isinstance(value, Value) else new_value(np.asarray(value, dtype))
    if value.dtype != dtype:
        value = elementwise.cast(value, dtype=dtype)
    return traced_or_array(value if value.shape == shape else reduce.expand(value, shape=shape))


def count(x: Any, axes: Sequence[int]) -> int:
    return math.prod(x.shape[axis] for axis in axes)


def concatenate(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The Tensors one after another along `dim`."""
    if not len(tensors):
        raise OptionError("cat: no Tensors; expected at least one; check the list")
    return movement.concatenate(*tensors, axis=axis_of(tensors[0], dim, "cat"))


def matmul(a: Any, b: Any) -> Tensor:
    """a @ b with PyTorch's rules: vectors are promoted to matrices and their axis taken out again."""
    a, b = operand(a), operand(b)
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(
            f"matmul: {format_shape(a.shape)} @ {format_shape(b.shape)}; expected at least one axis on each side; use * for numbers"
        )
    left = a.unsqueeze(0) if a.ndim == 1 else a
    right = b.unsqueeze(1) if b.ndim == 1 else b
    result = contraction.matmul(left, right)
    if b.ndim == 1:
        result = result.squeeze(-1)
    return result.squeeze(-2 if b.ndim > 1 else -1) if a.ndim == 1 else result


def _power_of(size: Tensor, p: Any) -> Tensor:
    """size ** p for a norm: of a number that is 0 the slope is 0, also for p below 1, where it would be infinite."""
    return size**p if p > 1 else elementwise.where(size == 0, 0, elementwise.where(size == 0, 1, size) ** p)


def _root(total: Tensor, exponent: float) -> Tensor:
    """total ** exponent, with slope 0 at 0, as `length` has it."""
    return elementwise.where(total == 0, 0, elementwise.where(total == 0, 1, total) ** exponent)


def _triangle(x: Tensor, diagonal: int, lower: bool) -> Tensor:
    if x.ndim < 2:
        raise ShapeError(f"triangle of {format_shape(x.shape)}; expected two axes or more; unsqueeze it first")
    rows, columns = new_value(np.arange(x.shape[-2])).unsqueeze(1), new_value(np.arange(x.shape[-1]))
    return columns <= rows + diagonal if lower else columns >= rows + diagonal
