"""Gradient mode (`no_grad`, `enable_grad`, ...), and `init_empty_weights`, which makes networks without allocating their weights (floor 2).

A mode is a context manager and a decorator. It sets one context variable while the block or the decorated function runs.
Every thread and asyncio task has its own value of a context variable. So one mode object can be used by several of them at
once, and can be nested in itself.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from .core.value import grad_mode
from .errors import OptionError

# The `with` blocks that are open in this context, outermost first: the mode of each, and the value that its end restores.
_entered: ContextVar[tuple[tuple[Mode, Any], ...]] = ContextVar("entered", default=())


class Mode:
    """Base of the modes: `variable` has the value `value` inside `with mode:`, or inside a function decorated with `@mode`.

    In a decorated generator function, the mode holds while the generator runs, and not while it waits at a `yield`. A class
    or an asynchronous generator function cannot be decorated: OptionError.
    """

    variable: ContextVar[Any]
    value: Any = True

    def copy(self) -> Mode:
        """Another object of the same mode; each call of a decorated function enters one."""
        return type(self)()

    def __enter__(self) -> None:
        self.enter(self.variable.get())

    def enter(self, before: Any) -> None:
        """Begin the block; `before` is the value that its end restores."""
        _entered.set((*_entered.get(), (self, before)))
        self.variable.set(self.value)

    def __exit__(self, *error: object) -> None:
        entered = _entered.get()
        if entered and entered[-1][0] is self:
            self.variable.set(entered[-1][1])
            _entered.set(entered[:-1])
        else:
            self._exit_out_of_order(list(entered))

    def _exit_out_of_order(self, entered: list[tuple[Mode, Any]]) -> None:
        """End a block that is not the innermost one, as happens where a generator is suspended inside a block."""
        own = [i for i, (mode, _) in enumerate(entered) if mode is self]
        if not own:  # entered in another context, such as a generator that is closed elsewhere: nothing to restore here
            return
        _, before = entered.pop(own[-1])
        inner = [i for i in range(own[-1], len(entered)) if entered[i][0].variable is self.variable]
        if inner:  # an inner block is still open: the variable keeps its value, and its end restores ours
            entered[inner[0]] = (entered[inner[0]][0], before)
        else:
            self.variable.set(before)
        _entered.set(tuple(entered))

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        name = getattr(function, "__name__", repr(function))
        if inspect.isclass(function) or not callable(function):
            raise OptionError(
                f"{type(self).__name__}: decorates {name}; expected a function; decorate its methods one by one"
            )
        if inspect.isasyncgenfunction(function):
            raise OptionError(f"{type(self).__name__}: decorates {name}, an asynchronous generator function; expected another kind of "
                              "function; write the `with` inside it, around what is between two yields")  # fmt: skip
        if inspect.isgeneratorfunction(function):
            return _decorate_generator(self.copy, function)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with self.copy():
                    return await function(*args, **kwargs)

            return awaited

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with self.copy():
                return function(*args, **kwargs)

        return called


def _decorate_generator(make_mode: Callable[[], Mode], function: Callable[..., Any]) -> Callable[..., Any]:
    """The generator function `function`, decorated with a mode.

    The mode is entered whenever the generator continues (`next`, `send`, `throw` or `close`), and left when it yields.
    """

    @functools.wraps(function)
    def generated(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)
        resume, argument = generator.send, None
        while True:
            try:
                with make_mode():
                    value = resume(argument)
            except StopIteration as end:
                return end.value
            try:
                resume, argument = generator.send, (yield value)
            except GeneratorExit:
                with make_mode():
                    generator.close()
                raise
            except BaseException as error:
                resume, argument = generator.throw, error

    return generated


class PlainMode(Mode):
    """Base of modes without arguments. As a decorator one may be written without a call: `@no_grad` is `@no_grad()`."""

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)


class no_grad(PlainMode):
    """Inside, operations are not recorded for gradients: their results have `requires_grad=False`."""

    variable, value = grad_mode, False


class enable_grad(PlainMode):
    """Inside, operations are recorded for gradients, as they are by default. Used inside a `no_grad` block."""

    variable = grad_mode


class inference_mode(Mode):
    """The same as `no_grad`; with `mode=False`, the same as `enable_grad`."""

    variable = grad_mode

    def __new__(cls, mode: Any = True) -> Any:
        return cls()(mode) if callable(mode) else super().__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        self.value = not _checked("inference_mode", mode)

    def copy(self) -> inference_mode:
        """Another object of the same mode."""
        return inference_mode(not self.value)


# The latest `set_grad_enabled(...)` of this context that is not yet used as a block or as a decorator, and the gradient mode
# before that call.
_called: ContextVar[tuple[set_grad_enabled, bool] | None] = ContextVar("called", default=None)


class set_grad_enabled(Mode):
    """Switch recording for gradients on (`mode=True`) or off. It may be used in three ways:

    a call              `set_grad_enabled(False)` holds from there on
    a block             `with set_grad_enabled(False):` holds inside
    a decorator         `@set_grad_enabled(False)` holds inside the function
    """

    variable = grad_mode

    def __init__(self, mode: bool) -> None:
        self.value = _checked("set_grad_enabled", mode)
        _called.set((self, grad_mode.get()))
        grad_mode.set(self.value)

    def _mode_to_restore(self) -> bool:
        """The gradient mode before this object was made, if it is the latest one and not used yet; else the mode now."""
        called = _called.get()
        if called is None or called[0] is not self:
            return grad_mode.get()
        _called.set(None)
        return called[1]

    def __enter__(self) -> None:
        self.enter(self._mode_to_restore())

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        grad_mode.set(self._mode_to_restore())
        return super().__call__(function)

    def copy(self) -> Mode:
        """A mode with the same effect inside a block. A second `set_grad_enabled` would change the mode at once."""
        return enable_grad() if self.value else no_grad()


def _checked(name: str, mode: object) -> bool:
    if not isinstance(mode, bool):
        raise OptionError(f"{name}: {mode!r}; expected True or False; write {name}(False)")
    return mode


def is_grad_enabled() -> bool:
    """Whether operations are recorded for gradients here."""
    return grad_mode.get()


_empty_weights: ContextVar[bool] = ContextVar("init_empty_weights", default=False)


class init_empty_weights(PlainMode):
    """Inside, new networks take no memory: `zeros`, `ones` and `empty` store one number for a whole array, and the functions of
    `nn.init` do nothing.

    Such a network has all its names and shapes. It is of use to count parameters, or to load saved weights without computing
    random ones first. Until weights are loaded, every weight is 0, or 1 if the layer makes it with `ones`.
    """

    variable = _empty_weights


def has_empty_weights() -> bool:
    """Whether this code runs inside `init_empty_weights`."""
    return _empty_weights.get()
