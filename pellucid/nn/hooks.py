"""Backward hooks of a Module: they see, and may replace, the gradients of its inputs (floor 4).

Each input and output of a hooked call passes through a separate Node (a `clone`), so that the gradients there belong to this
call alone. `module.py` decides when a call is hooked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..core.op import Node
from ..core.value import Value, grad_mode
from ..errors import GradientError, ShapeError, format_shape
from ..tensor import Tensor

if TYPE_CHECKING:
    from .module import Module

# The gradients of the inputs, or of the outputs, of a Module; None where there is none.
Gradients = tuple[Tensor | None, ...]
# hook(module, grad_input, grad_output): what it returns, unless None, replaces grad_input.
BackwardFunction = Callable[["Module", Gradients, Gradients], Tensor | Gradients | None]


def map_tensors(values: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """`values` (a Tensor, or tuples, lists and dicts of them) with `function` applied to every Tensor on the tape."""
    if isinstance(values, Tensor):
        return function(values) if values.requires_grad else values
    if isinstance(values, dict):
        return type(values)((name, map_tensors(value, function)) for name, value in values.items())
    if isinstance(values, tuple) and hasattr(values, "_fields"):
        return type(values)(*(map_tensors(value, function) for value in values))
    if isinstance(values, tuple | list):
        return type(values)(map_tensors(value, function) for value in values)
    return values


class BackwardHook:
    """The backward hooks of one call of a Module.

    The backward pass reaches the Nodes of the outputs first and those of the inputs last, so all gradients are there when the
    last input has its own.
    """

    def __init__(self, module: Module, hooks: list[BackwardFunction]) -> None:
        self.module, self.hooks = module, hooks
        self.inputs: dict[int, int] = {}  # the sequence number of an input's own Node -> its position
        self.outputs = 0
        self.used: set[int] = set()  # positions of the inputs that the outputs depend on
        self.positions = 0
        self._reset()

    def _reset(self) -> None:
        self.grad_input: dict[int, Tensor] = {}
        self.grad_output: dict[int, Tensor] = {}

    def enter(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs as the forward should read them."""
        self.positions = len(inputs)
        if not grad_mode.get():
            return inputs
        return tuple(
            self._enter(i, x) if isinstance(x, Tensor) and x.requires_grad else x for i, x in enumerate(inputs)
        )

    def _enter(self, position: int, x: Tensor) -> Tensor:
        passed = x.clone()
        passed.register_hook(lambda g: self._input_arrived(position, g))
        assert passed.node is not None
        self.inputs[passed.node.sequence] = position
        return passed

    def leave(self, output: Any) -> Any:
        """The output as the caller should read it."""
        if not grad_mode.get():
            return output
        nodes: list[Value | Node | None] = []

        def through_clone(y: Tensor) -> Tensor:
            nodes.append(y.node)
            position, passed = len(nodes) - 1, y.clone()
            passed.register_hook(lambda g: self._output_arrived(position, g))
            return passed

        output = map_tensors(output, through_clone)
        self.outputs = len(nodes)
        self.used = self._used(nodes)
        return output

    def _used(self, waiting: list[Value | Node | None]) -> set[int]:
        """The positions of the inputs that the outputs depend on; Nodes older than the inputs are skipped."""
        first = min(self.inputs, default=0)
        visited: set[int] = set()
        while self.inputs and waiting:
            node = waiting.pop()
            if isinstance(node, Node) and node.sequence >= first and node.sequence not in visited:
                visited.add(node.sequence)
                waiting.extend(node.parents)
        return {position for sequence, position in self.inputs.items() if sequence in visited}

    def _output_arrived(self, position: int, g: Tensor) -> None:
        self.grad_output[position] = g
        if not self.used and len(self.grad_output) == self.outputs:  # no input needs a gradient: nothing else will come
            self._call()

    def _input_arrived(self, position: int, g: Tensor) -> Tensor | None:
        self.grad_input[position] = g
        if len(self.grad_input) < len(self.used):
            return None
        replaced = self._call()
        return None if replaced is None else replaced[position]

    def _call(self) -> Gradients | None:
        grad_input = tuple(self.grad_input.get(i) for i in range(self.positions))
        grad_output = tuple(self.grad_output.get(i) for i in range(self.outputs))
        self._reset()  # there may be another backward pass
        result = None
        for hook in list(self.hooks):
            changed = hook(self.module, grad_input, grad_output)
            if changed is not None:
                result = grad_input = self._checked(changed, grad_input)
        return result

    def _checked(self, changed: Tensor | Gradients, grad_input: Gradients) -> Gradients:
        changed = changed if isinstance(changed, tuple) else (changed,)
        if len(self.used) > 1:
            raise GradientError(
                f"backward hook of {type(self.module).__name__} replaces the gradients of {len(self.used)} inputs; "
                "expected one such input at most; use register_hook on the input Tensors instead"
            )
        for new, old in zip(changed, grad_input, strict=False):
            if old is not None and (not isinstance(new, Tensor) or new.shape != old.shape):
                came = format_shape(new.shape) if isinstance(new, Tensor) else repr(new)
                raise ShapeError(
                    f"backward hook of {type(self.module).__name__} gave {came} for an input's gradient; expected a "
                    f"Tensor {format_shape(old.shape)}; return a tuple like grad_input, or None to leave it"
                )
        return (*changed, *grad_input[len(changed) :])
