"""Value: an array with its place on the tape; Symbol: what stands for an array while a step is recorded (floor 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import TraceError, format_shape
from .origin import Origin, user_origin

if TYPE_CHECKING:
    from .op import Node, Op

grad_mode: ContextVar[bool] = ContextVar("grad_mode", default=True)

default_dtype = np.dtype(np.float32)
DTYPES = {np.dtype(name) for name in ("float32", "float64", "int64", "int32", "uint8", "bool", "uint32")}

# What names a dtype: ours, NumPy's, Python's `float`, or a name such as "float32".
DTypeLike = np.dtype | type | str


class Spec(NamedTuple):
    """The shape and dtype of a value, without its numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


_ndarray = np.ndarray  # saves an attribute look-up for every value that is made


class Value:
    """An array and its place on the tape: what operations take and give. `Tensor` is the only class of values that users meet.

    `array` is never written in place; `assign` in `tensor/state.py` puts another array here and raises `version`.
    """

    # Defaults stand on the class, so making a value sets one attribute only.
    requires_grad: bool = False
    node: Node | None = None
    version: int = 0
    written_at: Origin | None = None
    hooks: list[Callable[[Any], Any]] | None = None
    _grad: Any = None

    # The native memory of a Tensor that a compiled program writes; see `__getattr__`.
    storage: Any = None
    # The Cell of numbers that it shares, the movements that lead from the base to it, and the Tensor that it is a view of on
    # the tape: see `core/sharing.py`.
    cell: Any = None
    path: Any = ()
    base: Any = None
    base_without_grad: Any = None  # a weak reference to it, where the view was made under no_grad()
    # Held by the thread that advances it: the state of a random generator has one.
    lock: Any = None

    def __init__(self, array: Any = None, *sizes: Any) -> None:
        if array.__class__ is not _ndarray:
            array = self.array_from(array, *sizes)
        if tracer_count[0]:
            tracer = active_tracer.get()
            if tracer is not None:
                array = tracer.on_create(self, array)
        self.array: Any = array

    def array_from(self, *data: Any) -> Any:
        """The array of a value that is made of something other than an array; `tensor/state.py` reads numbers and sizes here."""
        return data[0] if data[0].__class__ is Symbol else np.asarray(*data)

    def __getattr__(self, name: str) -> Any:
        # Called only for a missing attribute: `array` is missing after a write through another Tensor or by a program.
        if name == "array":
            if self.cell is not None:
                return self.cell.look(self)
            if self.storage is not None:
                return self.storage.snapshot(self)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return self.array.shape if self.storage is None else self.storage.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the numbers."""
        return self.array.dtype if self.storage is None else self.storage.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


# ---- recording: a step as a graph instead of numbers -------------------------------------------------------------------


class Symbol:
    """What stands for an array while a step is recorded: the operation that will compute it, and no numbers.

    op: the operation, or None for an input of the step and for a constant.
    constant: a constant's numbers, else None.
    Asking it for numbers raises a TraceError that names the user's line.
    """

    __slots__ = ("__weakref__", "attributes", "constant", "dtype", "inputs", "op", "origin", "shape")

    def __init__(
        self, op: Op | None, inputs: tuple[Symbol, ...], attributes: dict[str, Any], shape: tuple[int, ...],
        dtype: np.dtype, origin: Origin, constant: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.op, self.inputs, self.attributes = op, inputs, attributes
        self.shape, self.dtype, self.origin, self.constant = shape, dtype, origin, constant

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers it stands for."""
        return math.prod(self.shape)

    @property
    def op_name(self) -> str:
        """The name of the operation; "" for an input of the step and for a constant."""
        return "" if self.op is None else self.op.name

    def with_inputs(self, inputs: tuple[Symbol, ...]) -> Symbol:
        """The same operation on other inputs."""
        return Symbol(self.op, inputs, self.attributes, self.shape, self.dtype, self.origin)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__array__":
            raise AttributeError(name)
        self.refuse()

    def refuse(self, *_: Any, **__: Any) -> Any:
        """Raise TraceError: a Symbol has no numbers."""
        raise TraceError(
            f"{user_origin()}: the numbers of a Tensor {format_shape(self.shape)} {self.dtype} are asked for while the step is being "
            "traced; expected a step whose course does not depend on them (no item(), no numpy(), no if); "
            "choose with where(), or return the Tensor and look at it after the step"
        )

    def __repr__(self) -> str:
        return f"<{self.op.name if self.op else 'constant' if self.constant is not None else 'input'} {format_shape(self.shape)} {self.dtype}>"


for _name in ("array", "bool", "float", "int", "index", "len", "iter", "getitem", "lt", "le", "gt", "ge", "add", "radd",
              "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "and", "or", "invert", "neg"):  # fmt: skip
    setattr(Symbol, f"__{_name}__", Symbol.refuse)

# The tracer of this context, and how many there are in all contexts: eager work only checks that the count is 0.
active_tracer: ContextVar[Any] = ContextVar("tracer", default=None)
tracer_count = [0]


def current_tracer() -> Any:
    """The tracer of this context, or None. Its interface is that of `compiler/trace/tracer.py`."""
    return active_tracer.get() if tracer_count[0] else None


def outside_tracing(change: Callable[[], None], at_once: bool = False) -> None:
    """Call `change`, which makes or rearranges state, where Tensors hold numbers.

    That is now or, where a step is being traced, after this recording, which is then repeated. at_once: end the recording
    here, since it cannot go on without the change.
    """
    active = current_tracer()
    if active is None:
        change()
    else:
        active.retrace_after(change, at_once)


def traced_or_array(value: Value) -> Any:
    """`value.array`; while a step is recorded, its Symbol, and the tracer notes the read."""
    active = current_tracer()
    return value.array if active is None else active.read(value)


def refuse_array(data: Any) -> None:
    """Raise TraceError where an array would become a constant of a step that is being traced.

    The next call may have another one, such as the next batch of an iterator.
    """
    if tracer_count[0] and isinstance(data, np.ndarray) and data.ndim and active_tracer.get() is not None:
        raise TraceError(
            f"{user_origin()}: a compiled step makes a Tensor of an array {format_shape(data.shape)}, whose numbers it would keep for "
            "ever; expected what changes from call to call as an argument; pass it in, or make the Tensor before the step"
        )
