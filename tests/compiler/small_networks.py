"""Small networks and their training steps, which the tests of compiled steps share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import pellucid as P
from pellucid import nn
from pellucid.nn.functional import cross_entropy
from pellucid.tensor import Tensor

Step = Callable[..., Any]


def batch(size: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(seed)
    return P.tensor(random.normal(size=(size, 5)).astype(np.float32)), P.tensor(random.integers(0, 3, size))


def mlp(*between: nn.Module) -> nn.Sequential:
    P.manual_seed(4)
    return nn.Sequential(nn.Linear(5, 7), *(between or (nn.ReLU(),)), nn.Linear(7, 3))


def train_step(model: Any, optimizer: Any, criterion: Callable[..., Tensor] = cross_entropy) -> Step:
    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def state_of(*owners: Any) -> list[np.ndarray]:
    found: list[Tensor] = []
    for owner in owners:
        if hasattr(owner, "state_dict") and isinstance(owner, nn.Module):
            found += list(owner.state_dict().values())
        elif hasattr(owner, "param_groups"):
            found += [t for kept in owner.state.values() for t in kept.values()]
        else:
            found += list(owner.averages.values())
    return [np.array(t.detach().numpy()) for t in found]
