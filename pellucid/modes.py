"""The tape on and off: `no_grad` and its kin (floor 2)."""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import Token
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
