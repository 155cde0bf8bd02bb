"""Every primitive operation, once: shape rule, forward, gradient and samples (floor 2). `core.op.REGISTRY` lists them."""

from . import attention, contraction, elementwise, index, loop, movement, random, reduce, update

__all__ = ["attention", "contraction", "elementwise", "index", "loop", "movement", "random", "reduce", "update"]
