"""Functional autograd: `grad`, and `gradcheck` against finite differences (floor 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .core.op import Node, aside
from .core.tape import backward_pass
from .core.value import TensorLike
from .errors import GradientError, format_shape
from .grad_mode import enable_grad, no_grad
from .tensor import Tensor

# What `gradcheck` checks: Tensors to a Tensor.
Function = Callable[..., Tensor]


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: TensorLike | Sequence[TensorLike | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """d(sum of outputs)/dinput for every input, as a tuple; `.grad` is left alone.

    create_graph: the result can be differentiated again. Raises GradientError where an output does not depend on an
    input, unless `allow_unused`, which gives None for it.
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    given = grad_outputs if isinstance(grad_outputs, list | tuple) else [grad_outputs] * len(outputs)
    for output in outputs:
        output.check_on_tape("grad")
    starts = [output.output_gradient(g) for output, g in zip(outputs, given, strict=True)]
    keep = create_graph if retain_graph is None else retain_graph
    gradients = backward_pass(outputs, starts, keep=keep, create_graph=create_graph, inputs=inputs)
    results = tuple(aside(gradients[id(value)][1]) if id(value) in gradients else None for value in inputs)
    for position, (value, result) in enumerate(zip(inputs, results, strict=True)):
        if result is None and not allow_unused:
            raise GradientError(
                f"grad: the outputs do not depend on input {position} {format_shape(value.shape)}; "
                "expected every input to be used; "
                "pass allow_unused=True to get None for it"
            )
    return results


@dataclass(frozen=True)
class TapeStep:
    """One operation of a backward pass.

    node: what was done forward: `node.op.name`, `node.origin` (the layer's path and the line), `node.inputs`.
    arriving: dL/dy of its result.      leaving: dL/dx of each input, None where none is needed.
    """

    node: Node
    arriving: Tensor
    leaving: tuple[Tensor | None, ...]


def walk(output: Tensor) -> list[TapeStep]:
    """The backward pass from `output`, one number (), an operation at a time, the last one first.

    Nothing is written: each `.grad` stays, and so does the tape, which may be walked again. Raises GradientError for an
    `output` that is not on the tape, or not one number.
    """
    output.check_on_tape("walk")
    steps: list[TapeStep] = []

    def visit(node: Node, arriving: Any, leaving: Sequence[Any]) -> None:
        steps.append(TapeStep(node, aside(arriving), tuple(None if g is None else aside(g) for g in leaving)))

    backward_pass([output], [output.output_gradient(None)], keep=True, visit=visit)
    return steps


def gradcheck(
    function: Function, inputs: Sequence[Tensor], *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
    order: int = 1,
) -> bool:  # fmt: skip
    """Compare the gradient of `function(*inputs)` with central differences, in float64; raise GradientError on a miss.

    Checks (f(x + eps e) - f(x - eps e)) / 2 eps against the tape for every number of every float64 input that requires
    a gradient, through a fixed random projection of the output; `order=2` checks the gradient's gradient as well.
    """
    checked = [x for x in inputs if x.requires_grad]
    for x in checked:
        if x.dtype != np.float64:
            raise GradientError(
                f"gradcheck: an input is {x.dtype}; expected float64, finite differences need it; use .double()"
            )

    def projected(*values: Tensor) -> Tensor:
        y = function(*values)
        weights = np.random.default_rng(0).uniform(0.5, 1.5, y.shape)  # the same at every call
        return (y * Tensor(weights)).sum()

    _compare(projected, inputs, checked, eps, atol, rtol)
    if order > 1:

        def first_order(*values: Tensor) -> Tensor:
            with enable_grad():
                targets = [v for v in values if v.requires_grad]
                grads = grad(projected(*values), targets, create_graph=True, allow_unused=True)
                sums = [(g * (0.7 + 0.1 * i)).sum() for i, g in enumerate(grads) if g is not None]
                return sum(sums[1:], sums[0])

        _compare(first_order, inputs, checked, eps, atol, rtol)
    return True


def _compare(
    function: Function, inputs: Sequence[Tensor], checked: Sequence[Tensor], eps: float, atol: float, rtol: float
) -> None:
    """Raise GradientError where the tape's gradient of `function` differs from finite differences."""
    output = function(*inputs)
    if output.requires_grad:
        analytic = grad(output, checked, allow_unused=True)
    else:
        analytic = tuple(None for _ in checked)
    for position, (x, g) in enumerate(zip(checked, analytic, strict=True)):
        analytic_g = np.zeros(x.shape) if g is None else g.array
        expected = _differences(function, inputs, x, eps)
        if not np.allclose(analytic_g, expected, atol=atol, rtol=rtol):
            worst = np.unravel_index(np.argmax(abs(analytic_g - expected)), x.shape) if x.ndim else ()
            raise GradientError(
                f"gradcheck: input {position} {format_shape(x.shape)} at {tuple(int(i) for i in worst)}: the rule gives {analytic_g[worst]:.6g}, "
                f"finite differences {expected[worst]:.6g}; expected them equal to {atol:g}; check the gradient rule"
            )


def _differences(function: Function, inputs: Sequence[Tensor], x: Tensor, eps: float) -> np.ndarray:
    """dL/dx by central differences, one number of x at a time."""
    result, original = np.zeros(x.shape), x.array
    try:
        for index in np.ndindex(x.shape):
            sides = []
            for step in (eps, -eps):
                shifted = original.copy()
                shifted[index] += step
                x.rebind(shifted)  # in place, so that a function that closes over x reads it too
                with no_grad():
                    sides.append(function(*inputs).item())
            result[index] = (sides[0] - sides[1]) / (2 * eps)
    finally:
        x.rebind(original)
    return result
