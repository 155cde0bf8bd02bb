"""Gradient mode (`no_grad`, `enable_grad`, ...) and `init_empty_weights`, which makes networks without memory (floor 2).

A mode sets one context variable while a block or a decorated function runs. Each thread and asyncio task has its own
variables, so one mode object can be used by any number of them at once, and nested.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from .core.value import grad_mode
from .errors import OptionError

# The blocks that this context is inside of: each mode, and the value of its variable before.
_entered: ContextVar[tuple[tuple[Mode, Any], ...]] = ContextVar("entered", default=())


class Mode:
    """`with mode:` and `@mode`: `variable` is `value` inside.

    A decorated generator function has its mode on only while it runs, not while its caller does. Raises OptionError where
    a class or an asynchronous generator function is decorated.
    """

    variable: ContextVar[Any]
    value: Any = True

    def again(self) -> Mode:
        """The same mode as another object."""
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
            self._leave_before_others(list(entered))

    def _leave_before_others(self, entered: list[tuple[Mode, Any]]) -> None:
        mine = [i for i, (mode, _) in enumerate(entered) if mode is self]
        if not mine:  # begun in another context, such as a generator that is closed elsewhere: nothing to restore here
            return
        _, before = entered.pop(mine[-1])
        later = [i for i in range(mine[-1], len(entered)) if entered[i][0].variable is self.variable]
        if later:  # a block that began later is still open, and will restore the value from before both
            entered[later[0]] = (entered[later[0]][0], before)
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
            return _around_generator(self.again, function)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with self.again():
                    return await function(*args, **kwargs)

            return awaited

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with self.again():
                return function(*args, **kwargs)

        return called


def _around_generator(mode: Callable[[], Mode], function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` whose generators have the mode on from each `next`, `send`, `throw` or `close` to the next yield."""

    @functools.wraps(function)
    def generated(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)
        step, sent = generator.send, None
        while True:
            try:
                with mode():
                    given = step(sent)
            except StopIteration as end:
                return end.value
            try:
                step, sent = generator.send, (yield given)
            except GeneratorExit:
                with mode():
                    generator.close()
                raise
            except BaseException as error:
                step, sent = generator.throw, error

    return generated


class PlainMode(Mode):
    """A mode without arguments: as a decorator, `@kind` is `@kind()`."""

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)


class no_grad(PlainMode):
    """A block, or a decorator, in which nothing is put on the tape."""

    variable, value = grad_mode, False


class enable_grad(PlainMode):
    """A block, or a decorator, in which the tape is on."""

    variable = grad_mode


class inference_mode(Mode):
    """As `no_grad`; with `mode=False`, as `enable_grad`."""

    variable = grad_mode

    def __new__(cls, mode: Any = True) -> Any:
        return cls()(mode) if callable(mode) else super().__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        self.value = not _checked("inference_mode", mode)

    def again(self) -> inference_mode:
        """Another object of the same mode."""
        return inference_mode(not self.value)


# The `set_grad_enabled` that this context called last and has not used as a block, and the mode before the call.
_called: ContextVar[tuple[set_grad_enabled, bool] | None] = ContextVar("called", default=None)


class set_grad_enabled(Mode):
    """The tape on or off from this call on; as a block, or as a decorator, inside only. `mode`: a bool."""

    variable = grad_mode

    def __init__(self, mode: bool) -> None:
        self.value = _checked("set_grad_enabled", mode)
        _called.set((self, grad_mode.get()))
        grad_mode.set(self.value)

    def _before(self) -> bool:
        """The mode before the call that made this object, if that was the last one; else the present mode."""
        called = _called.get()
        if called is None or called[0] is not self:
            return grad_mode.get()
        _called.set(None)
        return called[1]

    def __enter__(self) -> None:
        self.enter(self._before())

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        grad_mode.set(self._before())
        return super().__call__(function)

    def again(self) -> Mode:
        """A block of the same mode, without its effect at the call."""
        return enable_grad() if self.value else no_grad()


def _checked(name: str, mode: object) -> bool:
    if not isinstance(mode, bool):
        raise OptionError(f"{name}: {mode!r}; expected True or False; write {name}(False)")
    return mode


def is_grad_enabled() -> bool:
    """Whether operations are put on the tape here."""
    return grad_mode.get()


_empty_weights: ContextVar[bool] = ContextVar("init_empty_weights", default=False)


class init_empty_weights(PlainMode):
    """A block, or a decorator, in which zeros, ones and empty allocate one number for any shape, and initialisers do nothing.

    A network made inside has every name and shape and takes no memory: to count its parameters, or to load weights, which
    makes random initial ones a waste. Until then its weights are all 0, or 1 where they start so.
    """

    variable = _empty_weights


def has_empty_weights() -> bool:
    """Whether this is inside `init_empty_weights`."""
    return _empty_weights.get()
