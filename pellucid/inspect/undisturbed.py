"""Looking without touching: what a view may change of a network, it puts back (floor 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from ..grad_mode import enable_grad, no_grad
from ..nn import Module
from ..random import fork_rng
from ..tensor import Tensor


@contextmanager
def undisturbed(model: Module, grad: bool = False) -> Iterator[None]:
    """Eval mode, off the tape, or with `grad` on it; at the end each layer's mode and the random numbers are what they were.

    So are buffers, which a network of the user's own may write in any mode.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(value, value.version, value.detach().numpy()) for value in model.buffers()]
    try:
        model.eval()
        with enable_grad() if grad else no_grad(), fork_rng():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        _put_back(buffers)


@contextmanager
def restored(model: Module, grad: bool = False) -> Iterator[None]:
    """`undisturbed`, for what writes weights or buffers: at the end those that were written have their old numbers again."""
    state = [(value, value.version, value.detach().numpy()) for value in (*model.parameters(), *model.buffers())]
    with undisturbed(model, grad):
        try:
            yield
        finally:
            _put_back(state)


def _put_back(state: Sequence[tuple[Tensor, int, np.ndarray]]) -> None:
    with no_grad():
        for value, version, numbers in state:
            if value.version != version:
                value.assign(numbers)
