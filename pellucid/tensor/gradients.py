"""Autograd methods of a Tensor: `grad`, `backward`, `requires_grad_` and hooks on gradients (floor 3)."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..core.op import Hook, Node, aside, new_value
from ..core.origin import user_origin
from ..core.state_version import note_change
from ..core.tape import backward_pass
from ..core.value import TensorLike, Value, current_tracer, traced_or_array
from ..errors import DTypeError, GradientError, OptionError, ShapeError, format_shape
from .operands import as_value_of
from .state import ConsumedGradient, TensorState

if TYPE_CHECKING:
    from . import Tensor


class RemovableHook:
    """Handle of a registered hook: `remove()` takes it out again, and so does the end of a `with` block."""

    def __init__(self, hooks: list[Any], hook: Callable[..., Any]) -> None:
        self.hooks, self.hook = hooks, hook

    def remove(self) -> None:
        """Stop calling the hook; nothing happens the second time."""
        if self.hook in self.hooks:
            self.hooks.remove(self.hook)
            note_change()

    def __enter__(self) -> RemovableHook:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class Gradients(TensorState):
    """The gradient of a Tensor, and the reverse pass that fills it."""

    @property
    def grad(self) -> Any:
        """dL/d(this), this shape, summed over every `backward()` since it was last cleared; None before the first.

        Raises GradientError where a compiled step has used the gradient without storing it.
        """
        active = current_tracer()
        grad = self._grad if active is None else active.read_grad(self)
        return grad if grad.__class__ is not ConsumedGradient else grad.refuse()

    @grad.setter
    def grad(self, value: Any) -> None:
        """Set the gradient; raises ShapeError unless it is None or a Tensor of this shape."""
        if value is not None and (not isinstance(value, Value) or value.shape != self.shape):
            came = format_shape(value.shape) if isinstance(value, Value) else type(value).__name__
            raise ShapeError(
                f"grad: {came}; expected a Tensor of shape {format_shape(self.shape)}, or None; reshape it first"
            )
        self.set_grad(value)

    def has_grad(self) -> bool:
        """Whether there is a gradient, also where a compiled step has consumed its numbers."""
        active = current_tracer()
        return self._grad is not None if active is None else active.has_grad(self)

    def set_grad(self, value: Value | None) -> None:
        """Set `.grad` without a check, and tell the tracer about the write."""
        active = current_tracer()
        if active is not None:
            active.before_grad_write(self)
        self._grad = value

    def add_grad(self, value: Value) -> None:
        """Add `value` to `.grad`: in place where nothing speaks against it, so that views of the gradient follow."""
        grad = self.grad
        if grad is None:
            self.set_grad(aside(value))  # not `value` itself, which may be the gradient of other Tensors too
            return
        total = grad + value
        if total.requires_grad or grad.requires_grad or total.dtype != grad.dtype:
            self.set_grad(total)
        else:
            grad.rebind(traced_or_array(total), user_origin())

    def fill_grad_with_zeros(self) -> None:
        """Fill the gradient, where there is one, with zeros in place, so that views of it follow."""
        if not self.has_grad():
            return
        if self._grad.__class__ is ConsumedGradient:
            self.set_grad(new_value(np.zeros(self.shape, self.dtype)))
        else:
            grad = self.grad.detach_()
            grad.rebind(traced_or_array(new_value(np.zeros(grad.shape, grad.dtype))), user_origin())

    @property
    def is_leaf(self) -> bool:
        """Whether no operation on the tape made this Tensor."""
        return self.node is None

    @property
    def grad_fn(self) -> Node | None:
        """The Node of the operation that made this Tensor; None for a leaf."""
        return self.node

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether gradients reach this Tensor.

        Raises DTypeError for integers and bools, GradientError where a computed Tensor is switched off.
        """
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
        self,
        gradient: TensorLike | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        """Add dL/dleaf to `.grad` of every leaf that this Tensor was computed from.

        gradient: dL/d(this), same shape; may be left out for a single number, where it is 1.
        retain_graph: keep the tape for another `backward()`; as `create_graph` where it is left out.
        create_graph: record the pass itself, so that gradients can be differentiated again.
        inputs: a Tensor or several; only these get their gradient, and nothing is computed for others.
        Raises GradientError where nothing here requires a gradient, where the tape was released by an earlier pass, and
        where a Tensor that a gradient needs has been overwritten; ShapeError for a `gradient` of another shape.
        """
        self.check_on_tape("backward")
        wanted = None if inputs is None else [inputs] if isinstance(inputs, Value) else list(inputs)
        if wanted is not None and not (wanted and all(isinstance(x, Value) and x.requires_grad for x in wanted)):
            raise GradientError("backward: inputs holds nothing, or what requires no gradient; expected Tensors that do; "
                                "leave it out for every leaf, or set requires_grad=True on them before the forward")  # fmt: skip
        g = self.output_gradient(gradient)
        keep = create_graph if retain_graph is None else retain_graph
        gradients = backward_pass([self], [g], keep=keep, create_graph=create_graph, inputs=wanted).values()
        for leaf, _ in gradients:
            if leaf._grad.__class__ is ConsumedGradient:
                leaf._grad.refuse()  # before any leaf has its gradient
        for leaf, grad in gradients:
            leaf.add_grad(grad)

    def check_on_tape(self, function: str) -> None:
        """Raise GradientError unless this Tensor depends on something that requires a gradient."""
        if not self.requires_grad:
            raise GradientError(
                f"{function}: this Tensor {format_shape(self.shape)} does not depend on anything that requires a gradient; "
                "expected "
                "one computed from parameters; set requires_grad=True on a leaf, and compute it outside no_grad()"
            )

    def output_gradient(self, gradient: TensorLike | None) -> Tensor:
        """`gradient` in this dtype, or 1 for a single number where it is None.

        Raises GradientError where it is missing for several numbers, ShapeError for another shape than this.
        """
        if gradient is None:
            if self.array.size != 1:
                raise GradientError(f"backward: shape {format_shape(self.shape)}; expected a single number, such as a loss; "
                                    "reduce it with .mean() or .sum(), or pass gradient=")  # fmt: skip
            return new_value(np.ones(self.shape, self.dtype))
        given = as_value_of(gradient, self.dtype)
        if given.shape != self.shape:
            raise ShapeError(
                f"backward: gradient {format_shape(given.shape)}; expected {format_shape(self.shape)}; reshape it"
            )
        return given

    def retain_grad(self) -> None:
        """Let `backward()` fill `.grad` of this computed Tensor too; a leaf has it anyway."""
        if self.node is None:
            return
        reference = weakref.ref(self)  # the hook is held by the Node, which must not keep the Tensor alive

        def keep(g: Tensor) -> None:
            tensor = reference()
            if tensor is not None:
                tensor.add_grad(g)

        self.register_hook(keep)

    def register_hook(self, hook: Hook) -> RemovableHook:
        """Call `hook(grad)` when this Tensor's gradient is complete; a result other than None replaces the gradient.

        Raises GradientError where nothing here requires a gradient.
        """
        self.check_on_tape("register_hook")
        owner: Value | Node = self if self.node is None else self.node
        if owner.hooks is None:
            owner.hooks = []
        owner.hooks.append(hook)
        if owner is self:
            note_change()  # a compiled step that trains this leaf has to be recorded again
        return RemovableHook(owner.hooks, hook)
