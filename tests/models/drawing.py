"""What the tests of the families that draw share: digits, and a whole step of a network with several turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import pellucid as P
from pellucid import optim
from pellucid.autograd import grad
from pellucid.models.network import Network
from pellucid.tensor import Tensor

SPECS: dict[str, dict[str, Any]] = {
    "digits": {"image": [8, 8]},
    "mnist": {"image": [28, 28]},
    "pictures": {"image": [3, 32, 32], "mean": [0.5] * 3, "std": [0.25] * 3},
    "odd": {"image": [3, 13, 9], "mean": [0.5] * 3, "std": [0.25] * 3},
}


def batch(spec: dict[str, Any], size: int = 6, classes: int = 3) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(0)
    image = random.random((size, *spec["image"])).astype(np.float32) * (255 if "mean" in spec else 3)
    if "mean" in spec:
        image = image.astype(np.uint8)
    return P.tensor(image), P.tensor(np.arange(size) % classes)


def digits() -> tuple[Tensor, Tensor]:
    """1,797 images of 8x8, float32 from 0 to 3, and their classes."""
    data = load_digits()
    return P.tensor((data.images * (3 / 16)).astype(np.float32)), P.tensor(data.target.astype(np.int64))


def whole_step(network: Network, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.99)) -> tuple[Callable, list]:
    """A step that takes each turn and averages the weights; and the Tensors it changes."""
    turns = [(turn, list(turn.module.parameters())) for turn in network.turns()]
    optimizers = [optim.Adam(parameters, lr=lr, betas=betas) for _, parameters in turns]
    average = optim.ExponentialMovingAverage(network, 0.9)

    def step(*batch: Tensor) -> dict[str, Tensor]:
        shown = {}
        for (turn, parameters), optimizer in zip(turns, optimizers, strict=True):
            values = turn.values(*batch)
            for parameter, gradient in zip(parameters, grad(values["loss"], parameters), strict=True):
                parameter.grad = gradient
            optimizer.step()
            optimizer.zero_grad()
            shown |= {f"{turn.name}_{name}": value.detach() for name, value in values.items()}
        average.update()
        return shown

    return step, [*network.state_dict().values(), *average.averages.values()]


def check_compiled_step(build: Callable[[], Network], *batch: Tensor) -> None:
    """Three steps give the same numbers eagerly and compiled: values, parameters, buffers and averages."""
    found = []
    for prepare in (lambda step: step, P.compile):
        P.manual_seed(5)
        network = build()
        step, _ = whole_step(network)
        run = prepare(step)
        shown = [{name: value.numpy() for name, value in run(*batch).items()} for _ in range(3)]
        state = {name: t.detach().numpy() for name, t in network.state_dict().items()}
        found.append((shown, state))
    (shown, state), (compiled_shown, compiled_state) = found
    for eager, native in zip(shown, compiled_shown, strict=True):
        assert eager.keys() == native.keys()
        for name, value in eager.items():
            np.testing.assert_allclose(native[name], value, rtol=2e-3, atol=2e-4, err_msg=name)
    for name, value in state.items():
        np.testing.assert_allclose(compiled_state[name], value, rtol=1e-2, atol=2e-3, err_msg=name)
