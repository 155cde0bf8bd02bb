"""What the tests of layers share: gradients by differences, and training steps that give eager and compiled losses alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import pellucid as P
from pellucid import nn, optim
from pellucid.autograd import gradcheck
from pellucid.tensor import Tensor


def check_gradients(layer: nn.Module, *inputs: Any, call: Callable[..., Any] | None = None) -> bool:
    """The gradients of the inputs and of every Parameter, which stand-ins replace for the finite differences.

    call: what to do with the layer and its inputs, where that is not `layer(*inputs)`.
    """
    names = [name for name, _ in layer.named_parameters()]

    def function(*values: Tensor) -> Any:
        layer._parameters.update(zip(names, values[len(inputs) :], strict=True))
        return (call or layer)(*values[: len(inputs)])

    given = [P.tensor(np.asarray(x, np.float64), requires_grad=True) for x in inputs]
    return gradcheck(function, [*given, *layer.parameters()])


def losses(layer: nn.Module, x: np.ndarray, native: bool, *more: Any, steps: int = 3) -> np.ndarray:
    """The losses of a few steps of Adam, which bring the first output of `layer` towards 1."""
    optimizer = optim.Adam(layer.parameters(), lr=0.05)

    def step(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        y = layer(x, *more)
        loss = ((y[0] if isinstance(y, tuple) else y) - 1).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    run = P.compile(step) if native else step
    return np.array([run(P.tensor(x)).item() for _ in range(steps)])


def same_losses_compiled(build: Callable[[], nn.Module], x: np.ndarray, *more: Any) -> None:
    found = []
    for native in (False, True):
        P.manual_seed(3)
        found.append(losses(build(), x, native, *more))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)
    assert found[0][-1] < found[0][0]
