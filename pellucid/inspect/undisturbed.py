"""Looking without touching: what a view may change of a network, it puts back (floor 6)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..grad_mode import enable_grad, no_grad
from ..nn import Module
from ..random import fork_rng


@contextmanager
def undisturbed(model: Module, grad: bool = False) -> Iterator[None]:
    """Eval mode, off the tape, or with `grad` on it; at the end each layer's mode and the random numbers are what they were."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with enable_grad() if grad else no_grad(), fork_rng():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def restored(model: Module, grad: bool = False) -> Iterator[None]:
    """`undisturbed`, for what writes weights or buffers: at the end those that were written have their old numbers again."""
    state = [(value, value.version, value.detach().numpy()) for value in (*model.parameters(), *model.buffers())]
    with undisturbed(model, grad):
        try:
            yield
        finally:
            for value, version, numbers in state:
                if value.version != version:
                    value.assign(numbers)
