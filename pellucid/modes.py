"""The tape on and off: `no_grad` and its kin; and `skeleton`, under which networks are made without memory (floor 2)."""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import ContextVar, Token
from typing import Any

from .op import grad_mode


class _GradMode(ContextDecorator):
    mode = True

    def __init__(self) -> None:
        self.tokens: list[Token[bool]] = []

    def __enter__(self) -> None:
        self.tokens.append(grad_mode.set(self.mode))

    def __exit__(self, *error: Any) -> None:
        grad_mode.reset(self.tokens.pop())


class no_grad(_GradMode):
    """Within it, or in a function decorated with it, nothing is put on the tape."""

    mode = False


class enable_grad(_GradMode):
    """Within it, the tape is on again."""

    mode = True


class set_grad_enabled(_GradMode):
    def __init__(self, mode: bool) -> None:
        super().__init__()
        self.mode = mode


inference_mode = no_grad


def is_grad_enabled() -> bool:
    return grad_mode.get()


_skeleton: ContextVar[bool] = ContextVar("skeleton", default=False)


class skeleton(ContextDecorator):
    """Within it, zeros, ones and empty give one number seen through a shape, and initialisers leave it as it is.

    A network made inside has every name and shape and takes no memory, whatever its size: to count its parameters, or to
    load weights that would overwrite what chance drew. Until then its weights are all 0, or 1 where they start so.
    """

    def __init__(self) -> None:
        self.tokens: list[Token[bool]] = []

    def __enter__(self) -> None:
        self.tokens.append(_skeleton.set(True))

    def __exit__(self, *error: Any) -> None:
        _skeleton.reset(self.tokens.pop())


def is_skeleton() -> bool:
    return _skeleton.get()
