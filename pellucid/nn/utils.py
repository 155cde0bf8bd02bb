"""Clipping gradients, parameters as one vector, and spectral normalisation (floor 4)."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..creation import cat, tensor
from ..errors import NonFiniteError, OptionError, ShapeError, format_shape
from ..grad_mode import no_grad
from ..tensor import Tensor
from .spectral_norm import spectral_norm


def _grads(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    several = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p for p in several if p.grad is not None]


@no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scale all gradients together so that their common norm is at most `max_norm` (Pascanu et al. 2013).

    Gives the norm before clipping, a 0-d Tensor; raises NonFiniteError for a NaN or infinite one where asked to.
    """
    if not max_norm >= 0:
        raise OptionError(f"clip_grad_norm_: max_norm={max_norm}; expected a number from 0; 1.0 is usual")
    if not isinstance(norm_type, int | float) or not norm_type > 0:
        raise OptionError(
            f"clip_grad_norm_: norm_type={norm_type!r}; expected a number above 0; 2 is usual, math.inf the largest"
        )
    owners = _grads(parameters)
    if not owners:
        return tensor(0.0)
    norms = cat([p.grad.norm(norm_type).reshape(1) for p in owners])
    total = norms.norm(norm_type)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise NonFiniteError(
            f"clip_grad_norm_: the norm of the gradients is {total.item()}; expected a finite one; "
            "lower the learning rate"
        )
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for p in owners:
        p.grad.copy_(p.grad * factor)  # in place, for who holds it or a view of it
    return total


@no_grad()
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Hold every number of every gradient within +-clip_value."""
    if not clip_value >= 0:
        raise OptionError(f"clip_grad_value_: clip_value={clip_value}; expected a number from 0; 0.5 is usual")
    for p in _grads(parameters):
        p.grad.clamp_(-clip_value, clip_value)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters one after another, (total,)."""
    return cat([p.reshape(-1) for p in parameters])


@no_grad()
def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """The numbers of `vec` (total,) put back into the parameters; raises ShapeError where the count differs."""
    targets = list(parameters)
    total = sum(p.numel() for p in targets)
    if vec.shape != (total,):
        raise ShapeError(
            f"vector_to_parameters: vector {format_shape(vec.shape)}; expected ({total},); pass parameters_to_vector's result"
        )
    start = 0
    for p in targets:
        p.assign(vec.narrow(0, start, p.numel()).reshape(p.shape))
        start += p.numel()


__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "parameters_to_vector",
    "spectral_norm",
    "vector_to_parameters",
]
