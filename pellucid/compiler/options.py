"""The options of a compiled step (floor 4)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepOptions:
    """What `compile` was asked for, and what follows from it.

    keep_grads, disabled_passes: see `compile`.
    gives_views: whether a result may be a view of an argument or of a Tensor from before the call.
    backward_outside: whether `backward()` may be called on a result, outside the step.
    many_shapes: whether one program for each shape is expected, so that no warning is due.
    """

    keep_grads: bool = False
    disabled_passes: frozenset[str] = frozenset()
    gives_views: bool = True
    backward_outside: bool = True
    many_shapes: bool = False
