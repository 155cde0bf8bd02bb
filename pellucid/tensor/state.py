"""State of a Tensor: how it is made, copied, detached and pickled, and `assign`, the one way in which it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..arguments import array_of, broadcasts, float32, shape_of
from ..core.op import new_value
from ..core.origin import Origin, user_origin
from ..core.sharing import copied, is_view_along, leave, share, write_array
from ..core.state_version import note_change
from ..core.value import Symbol, Value, current_tracer, traced_or_array
from ..errors import DTypeError, GradientError, OptionError, ShapeError, format_shape
from ..ops import movement
from ..ops.loop import forbid_in_scan
from .operands import traced_value

if TYPE_CHECKING:
    from . import Tensor


class device:
    """A place to compute. There is one, "cpu"; the class lets programs that name several run unchanged.

    Raises OptionError for any other name.
    """

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


# What names a device: `device("cpu")` or "cpu".
DeviceLike = str | device


def check_device(name: DeviceLike | None) -> None:
    """Raise OptionError unless `name` is None or "cpu"."""
    if name is not None:
        device(name)


class ConsumedGradient:
    """Stands in `.grad` after a compiled step whose optimizer has used the gradient, which was never stored."""

    def refuse(self) -> Any:
        """Raise GradientError: the numbers are asked for."""
        raise GradientError(
            "grad: the compiled step used this gradient up without storing it; expected zero_grad() before another "
            "backward(), or to be told to keep it; call optimizer.zero_grad() first, or write "
            "pellucid.compile(step, keep_grads=True)"
        )


class TensorState(Value):
    """What a Tensor holds: its array, its place on the tape, and what it shares with views."""

    made_by = ""  # "softmax" on the result of softmax, so that cross-entropy can warn about a second one

    def array_from(self, *data: Any) -> Any:
        """The array that `Tensor(*data)` holds: zeros for sizes, float32 for numbers in a list, an array as it is.

        Raises DTypeError for a bare number.
        """
        if data and isinstance(data[0], Symbol | np.ndarray | np.generic):
            return super().array_from(*data)
        if all(isinstance(size, int) and not isinstance(size, bool) for size in data):
            return np.zeros(shape_of(data), float32)
        if not data or data[0] is None:
            return np.zeros(0, float32)
        first = data[0]
        if len(data) > 1 or isinstance(first, int | float):
            raise DTypeError(f"Tensor{data!r}; expected sizes, or numbers in one list; write tensor({first!r})")
        return traced_or_array(first) if isinstance(first, Value) else array_of(first, float32)

    @property
    def device(self) -> device:
        """Always `device("cpu")`."""
        return device("cpu")

    @property
    def data(self) -> Tensor:
        """The same numbers off the tape; a view, as `detach()` gives."""
        return self.detach()

    @data.setter
    def data(self, value: Any) -> None:
        """Take over the numbers of `value`, of any shape and dtype. Former views of this Tensor keep the old numbers.

        Raises DTypeError unless it is a Tensor, ShapeError in a compiled step where its shape or dtype differs.
        """
        if not isinstance(value, Value):
            raise DTypeError(f"data: {type(value).__name__}; expected a Tensor; write x.data = tensor(...)")
        if is_view_along(value, self, ()):
            return  # `x.data -= y` has already written through the view that it now sets
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
            note_change()  # a compiled step that reads this Tensor has to be recorded again

    def detach(self) -> Tensor:
        """The same numbers, off the tape: a view, which follows what is written and writes through."""
        result = new_value(traced_or_array(self))
        share(result, self)
        return result

    def detach_(self) -> Self:
        """Take this Tensor itself off the tape."""
        self.node, self.requires_grad = None, False
        return self

    def clone(self) -> Tensor:
        """An independent Tensor with the same numbers, still on the tape. Copies nothing until one of the two is written."""
        return movement.reshape(self, shape=self.shape)

    # ---- writing ---------------------------------------------------------------------------------------------------

    def assign(self, value: Any) -> Self:
        """Take over the numbers of `value` (Tensor, array or number), broadcast to this shape and cast to this dtype.

        The old array stays as it was for values that hold it. `version` goes up, so a gradient that still needs the old
        numbers is refused in `backward()` instead of being wrong. What computed `value` does not become part of the tape.
        Raises ShapeError where `value` does not broadcast.
        """
        array = traced_or_array(value) if isinstance(value, Value) else np.asarray(value)
        shape = self.shape
        if array.shape != shape and (array.ndim > len(shape) or not broadcasts(array.shape, shape)):
            raise ShapeError(
                f"assign: {format_shape(array.shape)} into a Tensor {format_shape(shape)}; expected the same shape; reshape it first"
            )
        forbid_in_scan()
        if current_tracer() is not None:
            self.rebind(traced_value(value, shape, self.dtype))
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

    def rebind(self, array: Any, written_at: Origin | None = None) -> None:
        """Put another array, or a Symbol, in place of this one and raise `version`."""
        active = current_tracer()
        if active is not None:
            active.rebind(self, array)
        elif self.cell is not None:
            write_array(self, array, written_at)
        else:
            self.array, self.written_at = array, written_at
            self.version += 1
            if self.storage is not None:
                self.storage.overwritten(self)

    # ---- copying ---------------------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy of a leaf with its gradient; copies made with one `memo` share numbers as their originals do.

        Raises GradientError for a computed Tensor.
        """
        if self.node is not None:
            raise GradientError(
                f"deepcopy: this Tensor was made by {self.node.op.name}; expected a leaf; copy x.detach() instead"
            )
        copy = type(self).__new__(type(self))
        copy.__dict__.update(array=self.array, requires_grad=self.requires_grad)
        if self._grad is not None:
            consumed = self._grad.__class__ is ConsumedGradient
            copy._grad = self._grad if consumed else new_value(traced_or_array(self._grad))
        if self.cell is not None and current_tracer() is None:
            copied(copy, self, memo)
        memo[id(self)] = copy
        return copy

    def __getstate__(self) -> dict[str, Any]:
        """What pickling keeps: the numbers, not the tape. Raises GradientError for a computed Tensor."""
        if self.node is not None:
            raise GradientError(
                f"pickle: this Tensor was made by {self.node.op.name}; expected a leaf; pass x.detach()"
            )
        return {"array": self.array, "requires_grad": self.requires_grad}

    def new_zeros(self, *shape: Any) -> Tensor:
        """Zeros of `shape` in this dtype."""
        return new_value(np.zeros(shape_of(shape), self.dtype))

    def new_ones(self, *shape: Any) -> Tensor:
        """Ones of `shape` in this dtype."""
        return new_value(np.ones(shape_of(shape), self.dtype))
