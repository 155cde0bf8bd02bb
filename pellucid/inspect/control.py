"""The control beside a claim about a network: the same network with weights that mean nothing (floor 6)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..nn import Module
from .undisturbed import restored


@contextmanager
def shuffled_weights(network: Module, seed: int = 0) -> Iterator[None]:
    """A block in which the numbers of each parameter stand in random order: as large as before, and without meaning."""
    with restored(network):
        chance = np.random.default_rng(seed)
        for parameter in network.parameters():
            numbers = parameter.detach().numpy()
            parameter.assign(chance.permutation(numbers.reshape(-1)).reshape(numbers.shape))
        yield
