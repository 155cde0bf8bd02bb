"""Op, Node and `apply`: what a primitive operation is, and how every operation runs and is recorded (floor 1).

    apply(op, *inputs)  ->  1 shape rule (a clear error)   2 forward (NumPy)   3 a Node on the tape if a gradient is needed

The operations themselves stand in `ops/`, the backward pass in `core/tape.py`, the class with PyTorch's methods in `tensor/`.
A gradient rule receives Tensors, so it reads as mathematics (`g * y`) and is itself differentiable.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, PellucidError, ShapeError, format_shape
from .origin import origin, user_origin
from .promotion import as_number, result_type
from .value import Operand, Spec, Value, active_tracer, default_dtype, grad_mode, traced_or_array, tracer_count

# NaN and infinities propagate as values; the training loop stops at the first of them and names its layer. NumPy's warning
# about the same event would be noise, so it is silenced for these modules alone.
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"pellucid\.(core|ops|optim|compiler)\b")

_value_class: type[Value] = Value


def use_value_class(cls: type[Value]) -> None:
    """Let operations give `cls` (called once, by `tensor/`)."""
    global _value_class
    _value_class = cls


def new_value(array: np.ndarray) -> Any:
    """A value of the registered class around `array`, outside the tape."""
    return _value_class(array)


def bare_value(array: Any) -> Any:
    """As `new_value`, but hidden from a tracer: it stands for a value from before the recorded step."""
    value = _value_class.__new__(_value_class)
    value.array = array
    return value


def aside(value: Value) -> Any:
    """A separate value with the numbers and the Node that `value` has now, but its own version and `.grad`."""
    other = _value_class(traced_or_array(value))
    if value.requires_grad:
        other.node, other.requires_grad = value.node, True
    return other


# Gets a gradient and may give another in its place; None keeps it.
Hook = Callable[[Any], Any]
# The keyword arguments of an operation, such as `axes`, by name.
Attributes = dict[str, Any]
# A gradient rule: rule(g, y, *inputs, **attributes) -> dL/dinput.
Rule = Callable[..., Any]
# Arrays and attributes to test an operation with.
Sample = tuple[list[np.ndarray], Attributes]
SampleInputs = Iterator[Sample]


class Node:
    """One operation on the tape: its inputs, its output, and the user's line that called it.

    parents: for each input the Node that made it, or the leaf itself, or None where no gradient flows.
    inputs: the values that the gradient rules read; only their `Spec` where the rules need no more than shapes.
    versions: those of the inputs when they were read, so that a later write is noticed.
    array: the output's numbers, kept only where a rule reads them. A Node never holds its output value itself: the cycle
        would keep a step's memory until the garbage collector runs.
    sequence: its number in the order of recording, across all tapes.
    """

    __slots__ = (
        "array", "attributes", "dtype", "hooks", "inputs", "op", "origin", "parents", "sequence", "shape", "versions",
    )  # fmt: skip
    counter = itertools.count()

    def __init__(self, op: Op, inputs: Sequence[Value], attributes: Attributes, array: np.ndarray) -> None:
        self.op = op
        self.attributes = attributes
        self.parents = tuple([v.node or (v if v.requires_grad else None) for v in inputs])
        self.inputs: tuple[Any, ...] = (
            tuple(inputs) if op.saves_inputs else tuple([Spec(v.array.shape, v.array.dtype) for v in inputs])
        )
        self.versions = tuple([v.version for v in inputs]) if op.saves_inputs else ()
        self.array = array if op.saves_output else None
        self.shape = array.shape
        self.dtype = array.dtype
        self.hooks: list[Hook] | None = None
        self.origin = origin.get() or user_origin()
        self.sequence = next(Node.counter)

    def output(self) -> Any:
        """The output as a value with this Node behind it, made anew for a gradient rule."""
        value = new_value(self.array)  # type: ignore[arg-type]
        value.node, value.requires_grad = self, True
        return value

    def __repr__(self) -> str:
        return f"<{self.op.name} -> {format_shape(self.shape)}, {self.origin}>"


# Every primitive by its name.
REGISTRY: dict[str, Op] = {}


class Op:
    """A primitive operation: its shape rule, forward, gradient and sample inputs, in one place.

    A kind (elementwise, reduction, ...) is a subclass that says how shapes combine; an operation is one instance, called
    like a function. To add one, write one entry in a file of `ops/`: the registry feeds the gradient checks.

    gradients: one rule per input, `rule(g, y, *inputs, **attributes) -> dL/dinput`, None where no gradient flows; `g` is
        dL/dy. A rule runs only when its input needs a gradient, and uses differentiable operations only.
    saves_inputs, saves_output: what the rules read besides shapes; the tape keeps only that alive.
    same_dtype: inputs are promoted to one dtype by PyTorch's table before the forward.
    floating: integers are read as float32 (exp, true division, ...).
    sample_inputs: `(arrays, attributes)` pairs for the tests, drawn from a NumPy generator.

    Compiler passes read these traits; the defaults promise nothing. traits: the names of those that hold.
    is_view: the result holds the input's numbers at other indices, each an affine function of the result's.
    linear: op(a) + op(b) = op(a + b), where all inputs are added.
    cheap: to compute it again costs less than to write the result and to read it.
    """

    # infer(*values, **attributes) -> the output's shape and dtype; raises ShapeError or DTypeError where inputs do not fit.
    infer: Callable[..., tuple[tuple[int, ...], np.dtype]]
    # forward(*arrays, **attributes) -> the numbers, by NumPy. Inputs have passed `infer`; they are never written.
    forward: Callable[..., Any]

    kind = "operation"
    saves_inputs = True
    saves_output = True
    same_dtype = True
    floating = False
    is_view = False
    linear = False
    cheap = False

    def __init__(self, name: str, gradients: Sequence[Rule | None] = (), traits: str = "") -> None:
        self.name = name
        for trait in traits.split():
            setattr(self, trait, True)
        self.gradients = tuple(gradients)
        if name in REGISTRY:
            raise ValueError(f"operation {name!r} is registered twice")
        REGISTRY[name] = self

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        """Inputs to test the operation with."""
        raise NotImplementedError

    def backward(self, node: Node, g: Any) -> Sequence[Any]:
        """dL/dinput for every input, None where none is needed. g: dL/doutput, a value; of several outputs, their Cotangents."""
        y = node.output() if self.saves_output else None
        grads: list[Value | None] = []
        for parent, rule in zip(node.parents, self.rules(node), strict=True):
            needed = parent is not None and rule is not None
            grads.append(rule(g, y, *node.inputs, **node.attributes) if needed else None)  # type: ignore[misc]
        return grads

    def batched(self, attributes: Attributes, size: int) -> Attributes | None:
        """The attributes with which the operation works alike on inputs that have one more axis, of `size`, in front.

        None where it has no such form.
        """
        return None

    def rules(self, node: Node) -> Sequence[Rule | None]:
        """One rule per input of `node`; operations with any number of inputs build them here."""
        return self.gradients

    def fail(self, what: str, expected: str, fix: str) -> ShapeError:
        """A ShapeError with the operation, what came, what was expected, and what to do next."""
        return ShapeError(f"{self.name}: {what}; {expected}; {fix}")

    def __call__(self, *inputs: Operand, **attributes: Any) -> Any:
        return apply(self, *inputs, **attributes)

    def __repr__(self) -> str:
        return f"<op {self.name} ({self.kind})>"


def apply(op: Op, *inputs: Any, **attributes: Any) -> Any:
    """Run `op`: check shapes, compute, and put a Node on the tape if any input needs a gradient."""
    values = promote_inputs(op, inputs) if op.same_dtype else inputs
    try:
        shape, dtype = op.infer(*values, **attributes)
    except AttributeError:
        refuse_plain(op, inputs)
        raise
    active = active_tracer.get() if tracer_count[0] else None
    try:
        if active is None:
            array = op.forward(*[v.array for v in values], **attributes)
        else:
            if op.kind == "elementwise" and dtype.kind != "f":  # NumPy knows on which integers it is defined
                op.forward(*[np.empty(0, v.dtype) for v in values], **attributes)
            array = active.append(op, values, attributes, shape, dtype)
    except PellucidError:
        raise
    except (TypeError, ValueError):  # shapes have passed `infer`, so the dtype is at fault
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


Op.__call__ = apply  # type: ignore[assignment]  # saves one Python call for every operation


def refuse_plain(op: Op, inputs: Sequence[Any]) -> None:
    """Raise DTypeError for an input that is no value; operations whose inputs share a dtype refuse it while promoting."""
    for position, x in enumerate(inputs):
        if not isinstance(x, Value):
            raise DTypeError(
                f"{op.name}: input {position} is {x!r:.60} ({type(x).__name__}); expected a Tensor; make it one with pellucid.tensor(...)"
            )


def promote_inputs(op: Op, inputs: Sequence[Any]) -> Sequence[Value]:
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


def as_value(operand: Operand, dtype: np.dtype) -> Value:
    """`operand` as a value of `dtype`, a Tensor by the differentiable `cast`."""
    if not isinstance(operand, Value):
        return _value_class(as_number(operand, dtype))
    return operand if operand.array.dtype == dtype else REGISTRY["cast"](operand, dtype=dtype)
