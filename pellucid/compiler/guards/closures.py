"""Closures: the cells behind the free variables of a frame that was there before the step (floor 4)."""

from __future__ import annotations

import gc
import types
from collections.abc import Iterable

from .locations import MISSING, cell_content, in_class
from .reader import Reader

Cells = dict[str, list[types.CellType]]  # by the name of a free variable, the cells that it may have


def cells_behind(frame: types.FrameType, reader: Reader, around: dict[types.CodeType, Cells]) -> Cells:
    """The foreign cells behind the free variables of a frame, by name; of all closures that may be this one."""
    code = frame.f_code
    if not code.co_freevars:
        return {}
    called = reader.calling
    if called is not None and called.__code__ is code:
        reader.calling = None
        functions = [called] if id(called) in reader.objects.foreign else []
    else:
        functions = _matching(frame, reader.objects.functions.get(code, ()))
    if functions:
        return _by_name(code, functions)
    if code in around:  # made by the step: what it has around it is, but for what that has from outside
        return {name: around[code].get(name, []) for name in code.co_freevars}
    method = _method_of(frame)
    functions = [method] if method else _matching(frame, gc.get_referrers(code))  # slow; known from now on
    return _by_name(code, [reader.objects.note(function) for function in functions])


def _by_name(code: types.CodeType, functions: list[types.FunctionType]) -> Cells:
    closures = [function.__closure__ or () for function in functions]
    return {name: [c[i] for c in closures] for i, name in enumerate(code.co_freevars)}


def _matching(frame: types.FrameType, functions: Iterable[object]) -> list[types.FunctionType]:
    """The functions whose cells hold the free variables of the frame."""
    names, local = frame.f_code.co_freevars, frame.f_locals
    holds = lambda f: all(
        cell_content(cell) is local.get(name, MISSING) for name, cell in zip(names, f.__closure__ or (), strict=True)
    )
    mine = [f for f in functions if isinstance(f, types.FunctionType) and f.__code__ is frame.f_code]
    return [f for f in mine if holds(f)]


def _method_of(frame: types.FrameType) -> types.FunctionType | None:
    code = frame.f_code
    owner = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    found = in_class(type(owner), code.co_name)
    function = getattr(found, "fget", getattr(found, "__func__", found))
    return function if getattr(function, "__code__", None) is code else None
