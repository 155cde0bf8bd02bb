"""What a value is, what an operation is, and `apply`, the one door through which every operation runs (floor 1).

    apply(op, *inputs)  ->  1 shape rule (a clear error)   2 forward (NumPy)   3 a Node on the tape if a gradient is needed

The operations themselves stand in `ops/`, the walk back along the tape in `tape.py`, the class with PyTorch's methods in
`tensor.py`. A gradient rule receives that class, so it reads as mathematics (`g * y`) and is itself differentiable.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from types import CodeType
from typing import Any, NamedTuple

import numpy as np

from .errors import DTypeError, PellucidError, ShapeError, TraceError, words

# NaN and infinities travel through the arithmetic as values; the training loop stops at the first of them and names its
# layer. NumPy's warning about the same event would only be noise, so it is silenced for these modules and nobody else's.
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"pellucid\.(op|ops|optim|compiler)\b")

# Bumped by whatever may change what a network computes: an attribute set on a Module, an option of an Optimizer. Who
# remembers the two numbers, as a compiled step does, knows when to look again. The first counts changes. The second
# is the exclusive or of a token for each Module in training mode, so it returns when `eval()` is followed by `train()`.
structure = [0, 0]
_structure_lock = threading.Lock()  # a change that another thread's overwrites would leave old programs in use


def note_change() -> None:
    """Something was set that may change what some network computes."""
    with _structure_lock:
        structure[0] += 1


def note_switch(token: int) -> None:
    """A Module, of that token, has gone from training to evaluation or back."""
    with _structure_lock:
        structure[1] ^= token


grad_mode: ContextVar[bool] = ContextVar("grad_mode", default=True)
module_path: ContextVar[str] = ContextVar("module_path", default="")
# Set while the tape is walked, so that nodes made by a gradient rule inherit the place of the node they come from.
origin: ContextVar[Origin | None] = ContextVar("origin", default=None)

default_dtype = np.dtype(np.float32)
DTYPES = {np.dtype(name) for name in ("float32", "float64", "int64", "int32", "uint8", "bool", "uint32")}


class Spec(NamedTuple):
    """The shape and dtype of a value, without its numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Origin(NamedTuple):
    """Where an operation was asked for: the layer's dotted path, and a place in the user's code."""

    path: str
    code: CodeType | None
    instruction: int

    @property
    def file(self) -> str:
        return self.code.co_filename if self.code else "?"

    @property
    def line(self) -> int:
        """The line number, looked up only when somebody reads it (it costs more than the operation)."""
        if self.code is None:
            return 0
        positions = list(self.code.co_positions())
        return positions[self.instruction // 2][0] or 0

    def __str__(self) -> str:
        place = f"{os.path.basename(self.file)}:{self.line}" if self.code else "?"
        return f"{self.path} at {place}" if self.path else place


_ndarray = np.ndarray  # one look-up less for every value that is made


class Value:
    """An array and its place on the tape: the bare value that operations take and give.

    `array` is never written in place; `assign` in `tensor.py` puts another array here and bumps `version`.
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
    # What it shares its numbers with, the movements that lead from the base there to it, and the Tensor that it is a view of
    # on the tape: see `sharing.py`.
    cell: Any = None
    path: Any = ()
    base: Any = None
    base_without_grad: Any = None  # a weak reference to it, where the view was made under no_grad()
    # Held while it is moved on, where several threads may do so: by the state of a random generator.
    lock: Any = None

    def __init__(self, array: Any = None, *sizes: Any) -> None:
        if array.__class__ is not _ndarray:
            array = self.array_from(array, *sizes)
        if _recorders:
            recorder = active_recorder.get()
            if recorder is not None:
                array = recorder.born(self, array)
        self.array: Any = array

    def array_from(self, *data: Any) -> Any:
        """The array of a value that is made of anything else; `tensor.py` reads numbers and sizes here."""
        return data[0] if data[0].__class__ is Symbol else np.asarray(*data)

    def __getattr__(self, name: str) -> Any:
        # Only an attribute that is missing comes here: `array`, after somebody else has written this value's numbers.
        if name == "array":
            if self.cell is not None:
                return self.cell.look(self)
            if self.storage is not None:
                return self.storage.snapshot(self)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape if self.storage is None else self.storage.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype if self.storage is None else self.storage.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)


# ---- recording: a step as a graph, instead of numbers ------------------------------------------------------------------


class Symbol:
    """What stands for an array while a step is recorded: the operation that will compute it, and no numbers.

    op: the operation, or None for an input of the step and for a constant.
    constant: a constant's numbers, else None.
    Whatever asks for numbers gets a TraceError that names the user's line.
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
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__array__":
            raise AttributeError(name)
        self.refuse()

    def refuse(self, *_: Any, **__: Any) -> Any:
        """Raise TraceError: numbers were asked for."""
        raise TraceError(
            f"{here()}: the numbers of a Tensor {words(self.shape)} {self.dtype} are asked for while the step is being "
            "recorded; expected a step whose course does not depend on them (no item(), no numpy(), no if); "
            "choose with where(), or return the Tensor and look at it after the step"
        )

    def __repr__(self) -> str:
        return f"<{self.op.name if self.op else 'constant' if self.constant is not None else 'input'} {words(self.shape)} {self.dtype}>"


for _name in ("array", "bool", "float", "int", "index", "len", "iter", "getitem", "lt", "le", "gt", "ge", "add", "radd",
              "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "and", "or", "invert", "neg"):  # fmt: skip
    setattr(Symbol, f"__{_name}__", Symbol.refuse)

# The recorder of this context, and how many there are in all: eager work pays for one look at a number.
active_recorder: ContextVar[Any] = ContextVar("recorder", default=None)
_recorders = 0


def count_recorders(change: int) -> None:
    global _recorders
    _recorders += change


def recorder() -> Any:
    """The recorder at work in this context, or None. Its interface is that of `compiler/trace.py`."""
    return active_recorder.get() if _recorders else None


def outside_recording(change: Callable[[], None], at_once: bool = False) -> None:
    """Call `change`, which makes or rearranges state, where Tensors hold numbers: now or, where a step is being recorded,
    after this recording, which is then made anew. at_once: the recording cannot go on without it, and ends here."""
    active = recorder()
    if active is None:
        change()
    else:
        active.again_after(change, at_once)


def content(value: Value) -> Any:
    """`value.array`; while a step is recorded its Symbol, so that the recorder knows that it was read."""
    active = recorder()
    return value.array if active is None else active.read(value)


def refuse_array(data: Any) -> None:
    """Raise TraceError where an array would become a constant of a step that is being recorded: it may be another one in
    the next call, the next batch of an iterator say."""
    if _recorders and isinstance(data, np.ndarray) and data.ndim and active_recorder.get() is not None:
        raise TraceError(
            f"{here()}: a compiled step makes a Tensor of an array {words(data.shape)}, whose numbers it would keep for "
            "ever; expected what changes from call to call as an argument; pass it in, or make the Tensor before the step"
        )


_value_class: type[Value] = Value


def use_value_class(cls: type[Value]) -> None:
    """Let operations give `cls` (called once, by `tensor.py`)."""
    global _value_class
    _value_class = cls


def new_value(array: np.ndarray) -> Any:
    """A value of the registered class around `array`, outside the tape."""
    return _value_class(array)


def bare_value(array: Any) -> Any:
    """As `new_value`, but nothing that a step makes while it is recorded: it stands for what was there before."""
    value = _value_class.__new__(_value_class)
    value.array = array
    return value


def aside(value: Value) -> Any:
    """`value` as it is now, under another identity: the same numbers and place on the tape, its own version and `.grad`."""
    other = _value_class(content(value))
    if value.requires_grad:
        other.node, other.requires_grad = value.node, True
    return other


class Node:
    """One operation on the tape: what it read, what it gave, and where in the user's code it was asked for.

    parents: for each input the Node that made it, or the leaf itself, or None where no gradient flows.
    inputs: the values the gradient rule will read; only their `Spec` where the rule needs no more than shapes.
    array: the output's numbers, kept only where the rule reads them. A Node never holds its output value itself: the
        cycle would keep a step's memory until the garbage collector happens to run.
    """

    __slots__ = (
        "array", "attributes", "dtype", "hooks", "inputs", "op", "origin", "parents", "sequence", "shape", "versions",
    )  # fmt: skip
    counter = itertools.count()

    def __init__(self, op: Op, inputs: Sequence[Value], attributes: dict[str, Any], array: np.ndarray) -> None:
        self.op = op
        self.attributes = attributes
        self.parents = tuple([v.node or (v if v.requires_grad else None) for v in inputs])
        self.inputs: tuple[Any, ...] = (
            tuple(inputs) if op.reads_inputs else tuple([Spec(v.array.shape, v.array.dtype) for v in inputs])
        )
        self.versions = tuple([v.version for v in inputs]) if op.reads_inputs else ()
        self.array = array if op.reads_output else None
        self.shape = array.shape
        self.dtype = array.dtype
        self.hooks: list[Callable[[Any], Any]] | None = None
        self.origin = origin.get() or here()
        self.sequence = next(Node.counter)

    def output(self) -> Any:
        """The output as a value with this Node behind it, made anew for a gradient rule."""
        value = new_value(self.array)  # type: ignore[arg-type]
        value.node, value.requires_grad = self, True
        return value

    def __repr__(self) -> str:
        return f"<{self.op.name} -> {words(self.shape)}, {self.origin}>"


_ENGINE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_NUMPY = os.path.dirname(os.path.abspath(np.__file__)) + os.sep
_engine_files: dict[str, bool] = {}
# Rooms that count as "the user" when looking for the user's line: in a run from the command line they are where a network's
# arithmetic is written down. The frames of everything else here are skipped.
_USER_ROOMS = tuple(room + os.sep for room in ("models", "training", "inspect", "data", "cli"))


def _is_engine(file: str) -> bool:
    known = _engine_files.get(file)
    if known is None:
        path = os.path.abspath(file)
        ours = path.startswith(_ENGINE) and not path[len(_ENGINE) :].startswith(_USER_ROOMS)
        known = ours or path.startswith(_NUMPY)
        _engine_files[file] = known
    return known


def here() -> Origin:
    """The innermost place outside the engine that led to this call, with the active layer's path."""
    frame: Any = sys._getframe(1)
    while frame is not None and _is_engine(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return Origin(module_path.get(), None, 0)
    return Origin(module_path.get(), frame.f_code, frame.f_lasti)


REGISTRY: dict[str, Op] = {}


class Op:
    """A primitive: its shape rule, forward, gradient and samples, in one place.

    A kind (elementwise, reduction, ...) is a subclass that says how shapes combine; an operation is one instance, called
    like a function. To add one, write one entry in a file of `ops/`: the registry feeds the gradient checks.

    gradients: one rule per input, `rule(g, y, *inputs, **attributes) -> dL/dinput`, None where no gradient flows; `g` is
        dL/dy. A rule runs only when its input needs a gradient, and uses differentiable operations only.
    reads_inputs, reads_output: what the rules read besides shapes; the tape keeps no more than that alive.
    same_dtype: inputs are promoted to one dtype by PyTorch's table before the forward.
    floating: integers are read as float32 (exp, true division, ...).
    samples: `(arrays, attributes)` pairs for the tests, drawn from a NumPy generator.
    """

    # infer(*values, **attributes): the output's shape and dtype; raises ShapeError or DTypeError where inputs do not fit.
    infer: Callable[..., tuple[tuple[int, ...], np.dtype]]
    # forward(*arrays, **attributes): the numbers, by NumPy. Inputs have passed `infer`; they are never written.
    forward: Callable[..., Any]

    kind = "operation"
    reads_inputs = True
    reads_output = True
    same_dtype = True
    floating = False

    def __init__(self, name: str, gradients: Sequence[Callable[..., Any] | None] = ()) -> None:
        self.name = name
        self.gradients = tuple(gradients)
        if name in REGISTRY:
            raise ValueError(f"operation {name!r} is registered twice")
        REGISTRY[name] = self

    def samples(self, random: np.random.Generator) -> Iterator[tuple[list[np.ndarray], dict[str, Any]]]:
        raise NotImplementedError

    def backward(self, node: Node, g: Any) -> list[Any]:
        """dL/dinput for every input, None where none is needed."""
        y = node.output() if self.reads_output else None
        grads: list[Any] = []
        for parent, rule in zip(node.parents, self.rules(node), strict=True):
            needed = parent is not None and rule is not None
            grads.append(rule(g, y, *node.inputs, **node.attributes) if needed else None)  # type: ignore[misc]
        return grads

    def rules(self, node: Node) -> Sequence[Callable[..., Any] | None]:
        """One rule per input of `node`; operations with any number of inputs build them here."""
        return self.gradients

    def fail(self, what: str, expected: str, fix: str) -> ShapeError:
        """A ShapeError in the house's order: what came, what was expected, what to do next."""
        return ShapeError(f"{self.name}: {what}; {expected}; {fix}")

    def __call__(self, *inputs: Any, **attributes: Any) -> Any:
        return apply(self, *inputs, **attributes)

    def __repr__(self) -> str:
        return f"<op {self.name} ({self.kind})>"


def apply(op: Op, *inputs: Any, **attributes: Any) -> Any:
    """Run `op`: check shapes, compute, and put a Node on the tape if any input needs a gradient."""
    values = align(op, inputs) if op.same_dtype else inputs
    shape, dtype = op.infer(*values, **attributes)
    active = active_recorder.get() if _recorders else None
    try:
        if active is None:
            array = op.forward(*[v.array for v in values], **attributes)
        else:
            if op.kind == "elementwise" and dtype.kind != "f":  # which whole numbers it is defined on, NumPy knows
                op.forward(*[np.empty(0, v.dtype) for v in values], **attributes)
            array = active.append(op, values, attributes, shape, dtype)
    except PellucidError:
        raise
    except (TypeError, ValueError):  # shapes have passed `infer`: what is left is an operation without this dtype
        dtypes = " and ".join(str(v.dtype) for v in values)
        raise DTypeError(
            f"{op.name}: not defined on these {dtypes} values; expected floating-point numbers; "
            "convert with .to(pellucid.float32)"
        ) from None
    if active is None and (array.__class__ is not np.ndarray or array.dtype != dtype):  # a scalar for 0-d results
        array = np.asarray(array, dtype)
    result = _value_class(array)
    if op.gradients and grad_mode.get() and dtype.kind == "f":
        for value in values:
            if value.requires_grad:
                result.node = Node(op, values, attributes, array)
                result.requires_grad = True
                break
    return result


Op.__call__ = apply  # type: ignore[assignment]  # one Python call less on the way of every operation


# ---- type promotion: one table, PyTorch's ----------------------------------------------------------------------------


def align(op: Op, inputs: Sequence[Any]) -> Sequence[Any]:
    """The inputs as values of one dtype: Python numbers adapt to the Tensors, Tensors follow `result_type`."""
    dtype, numbers = None, False
    for v in inputs:  # the usual case first: Tensors of one floating dtype, with or without plain numbers
        if isinstance(v, Value):
            if dtype is None:
                dtype = v.array.dtype
            elif v.array.dtype != dtype:
                break
        elif isinstance(v, (float, int)):
            numbers = True
        else:
            break
    else:
        if dtype is not None and dtype.kind == "f":
            return [as_value(v, dtype) for v in inputs] if numbers else inputs
        if not numbers and not op.floating:
            return inputs
    dtype = result_type(*inputs)
    if op.floating and dtype.kind != "f":
        dtype = default_dtype
    return [as_value(v, dtype) for v in inputs]


def as_value(operand: Any, dtype: np.dtype) -> Any:
    """`operand` as a value of `dtype`, a Tensor by the differentiable `cast`."""
    if not isinstance(operand, Value):
        return _value_class(as_number(operand, dtype))
    return operand if operand.array.dtype == dtype else REGISTRY["cast"](operand, dtype=dtype)


def as_number(number: Any, dtype: np.dtype) -> np.ndarray:
    """A plain number as a 0-d array of `dtype`: a fraction is cut off for integers, -1 is the largest of uint8 (as in PyTorch).

    Raises DTypeError where the dtype does not reach so far.
    """
    try:
        return np.asarray(number, dtype)
    except (OverflowError, ValueError):  # NumPy's words for integers out of range, and for NaN among integers
        if dtype.kind == "u" and -np.iinfo(dtype).max <= number < 0:
            return np.asarray(int(number) % (np.iinfo(dtype).max + 1), dtype)
        raise DTypeError(
            f"number {number!r} as {dtype}; expected one that {dtype} holds; convert the Tensor first, with .long() or .float()"
        ) from None


_KIND_RANK = {"b": 0, "u": 1, "i": 1, "f": 2}
_NUMBER_DTYPE = {bool: np.dtype(bool), int: np.dtype(np.int64), float: default_dtype}


def result_type(*operands: Any) -> np.dtype:
    """The dtype an operation on `operands` computes in, as PyTorch decides it.

    The category comes first (bool < integer < float), whoever brings it. Within the highest category, a Tensor with
    dimensions decides before a 0-d Tensor, and that before a Python number; equals meet by NumPy's lattice.
    """
    best: np.dtype | None = None
    best_rank = (-1, -1)
    for operand in operands:
        dtype, weight = _dtype_and_weight(operand)
        rank = (_KIND_RANK[dtype.kind], weight)
        if best is None or rank > best_rank:
            best, best_rank = dtype, rank
        elif rank == best_rank:
            best = np.promote_types(best, dtype)
    assert best is not None
    return best


def _dtype_and_weight(operand: Any) -> tuple[np.dtype, int]:
    if isinstance(operand, Value):
        return operand.dtype, 2 if operand.ndim else 1
    kind = bool if isinstance(operand, bool | np.bool_) else int if isinstance(operand, int | np.integer) else float
    if kind is float and not isinstance(operand, float | np.floating):
        raise DTypeError(f"an operand is {operand!r} ({type(operand).__name__}); expected a Tensor or a number; "
                         "make it one with pellucid.tensor(...)")  # fmt: skip
    return _NUMBER_DTYPE[kind], 0
