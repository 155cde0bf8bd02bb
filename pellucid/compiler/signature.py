"""Call signatures: what a compiled program depends on, as a key to find it by, and why a step is traced again (floor 4)."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from ..core.sharing import Cell, strides_of
from ..core.state_version import state_version
from ..core.value import Value, grad_mode
from ..errors import OptionError
from ..ops.loop import tree_map
from ..random import stream
from ..tensor import Tensor
from .guards import Guard, failing
from .trace.traced_step import Args, Function, Kwargs, TracedStep, ViewRef

PLAIN = (int, float, bool, str, type(None))


def is_current(traced: TracedStep) -> bool:
    """Whether the Tensors that a traced step found are as they were: `requires_grad`, whether `.grad` is there, and views."""
    found = traced.found
    for tensor, required in found.requires_grad:
        if tensor.requires_grad is not required:
            return False
    for view, cell, base in found.views:
        if view.cell is not cell or cell.tensors[0]() is not base:
            return False
    return all((tensor._grad is not None) == there for tensor, there in found.grad_presence)  # of arguments: in the key


# The key of a call: `state_version`, the modes, then one entry for each argument.
Signature = tuple[Any, ...]


def signature_of(args: Args, kwargs: Kwargs, state: set[int]) -> tuple[list[Tensor], Signature]:
    """The Tensors of a call, and a key of everything else about it that a program depends on.

    state: ids of the Tensors that the function finds by itself, and of the memory that they share.
    """
    tensors: list[Tensor] = []
    parts: list[Hashable] = [tuple(state_version), (grad_mode.get(), stream())]
    for x in args:
        parts.append(argument_key(x, tensors))
    if kwargs:
        parts.append(argument_key(kwargs, tensors))
    shared = [id(x) if x.cell is None else id(x.cell) for x in tensors]
    if len(set(shared)) < len(shared):  # which arguments are one Tensor, and which share memory
        ids = list(map(id, tensors))
        parts.append((tuple(map(ids.index, ids)), tuple(map(shared.index, shared))))
    # The strides of a view decide which of its reshapes copy.
    parts += [strides_of(x) for x in tensors if x.path and not x.array.flags.c_contiguous]
    # An argument that the function also finds by itself is its state: the key then holds this very Tensor.
    parts += [x for x in tensors if id(x) in state or (x.cell is not None and _shares(x.cell, state))]
    return tensors, tuple(parts)


def _shares(cell: Cell, state: set[int]) -> bool:
    """Whether an argument shares memory with a Tensor that the function finds by itself."""
    return id(cell) in state or id(cell.tensors[0]()) in state


def argument_key(x: object, tensors: list[Tensor]) -> Hashable:
    """A hashable key of a nest of arguments. Its Tensors are appended to `tensors`."""
    if isinstance(x, Value):
        tensors.append(x)  # type: ignore[arg-type]
        return (x.shape, x.dtype, x.requires_grad and (True, x._grad is None))
    if isinstance(x, dict):
        return ("dict", *((k, argument_key(v, tensors)) for k, v in x.items()))
    if isinstance(x, tuple | list):
        return (type(x).__name__, *(argument_key(v, tensors) for v in x))
    if isinstance(x, PLAIN):
        return _exact(x)
    raise OptionError(
        f"a compiled step was given a {type(x).__name__}; expected Tensors, plain numbers, and lists, tuples and dicts of "
        "them; make an array a Tensor with pellucid.tensor(...)"
    )


def _exact(x: object) -> Hashable:
    """A plain value as part of a signature: 2, 2.0 and True differ, so do 0.0 and -0.0, and NaN equals itself."""
    return (x.__class__, str(x)) if x == 0 or x != x else (x.__class__, x)


def _is_state(x: object) -> bool:
    stateful = has(x, "named_parameters") or has(x, "param_groups")
    return isinstance(x, (*PLAIN, Value)) or (stateful and not isinstance(x, type))  # a class has no Tensors


def has(x: object, name: str) -> bool:
    """hasattr(x, name) without calling the user's `__getattr__`, which may raise anything."""
    return hasattr(type(x), name) or name in getattr(x, "__dict__", ())


def captured_variables(function: Function) -> list[tuple[str, Any]]:
    """What a function can read by name: itself, the object it is a method of, its closure, its module's variables."""
    inner = inspect.unwrap(getattr(function, "__func__", function))  # the function inside a decorator
    variables: list[tuple[str, Any]] = [("", function), ("", getattr(function, "__self__", None))]
    code = getattr(inner, "__code__", None)
    for name, cell in zip(getattr(code, "co_freevars", ()), getattr(inner, "__closure__", None) or (), strict=False):
        with contextlib.suppress(ValueError):  # not filled yet
            variables.append((name, cell.cell_contents))
    space = getattr(inner, "__globals__", {})
    return variables + [(name, space[name]) for name in getattr(code, "co_names", ()) if name in space]


def tensor_names(function: Function) -> dict[int, str]:
    """Names of the Tensors that a step finds by itself, by id: of a variable its name, of a parameter its path."""
    names: dict[int, str] = {}
    for name, owner in captured_variables(function):
        if isinstance(owner, Tensor):
            names[id(owner)] = name
        _name_state(owner, names)
    return names


def name_arguments(names: dict[int, str], args: Args, kwargs: Kwargs) -> None:
    for i, x in enumerate(args):
        tree_map(lambda leaf, i=i: names.setdefault(id(leaf), f"argument {i}"), x)
    for key, x in kwargs.items():
        tree_map(lambda leaf, key=key: names.setdefault(id(leaf), key), x)


def _name_state(owner: Any, names: dict[int, str]) -> None:
    if not _is_state(owner):
        return
    if has(owner, "named_parameters"):
        names |= {id(p): name for name, p in owner.named_parameters()}
        names |= {id(b): name for name, b in owner.named_buffers()}
    if not has(owner, "param_groups"):
        return
    for group in owner.param_groups:
        names |= {id(t): name for name, t in getattr(group, "scalars", {}).items()}
    for parameter, state in getattr(owner, "state", {}).items():
        names |= {id(t): f"{names.get(id(parameter), 'parameter')}.{name}" for name, t in state.items()}


def fingerprint(traced: TracedStep) -> Hashable:
    """A key that is equal for traces which one program can run: form, numbers, Tensors and the structure of the result."""
    graph, form = traced.graph, traced.form
    positions = {id(entry.owner): entry.position for entry in graph.inputs if entry.kind == "argument"}

    def identity(x: object) -> Hashable:
        if isinstance(x, ViewRef):
            return identity(x.base), repr(x.path), x.tracked
        return ("argument", positions[id(x)]) if id(x) in positions else id(x) if isinstance(x, Value) else x

    entries = tuple(
        (entry.kind, identity(entry.owner), entry.in_place) for entry in graph.inputs if entry.kind != "length"
    )
    changes, found = traced.gradient_changes, traced.found
    after = (
        tuple(map(identity, changes.cleared)),
        tuple(map(identity, changes.consumed)),
        tuple(traced.tracked),
    )
    outside = (
        tuple((identity(t), trained) for t, trained in changes.requires_grad),
        tuple(map(identity, traced.leaves or ())),
    )
    checks = tuple((identity(t), there) for t, there in (*found.requires_grad, *found.grad_presence))
    result = repr((tree_map(identity, traced.result), traced.new_leaves, traced.inference))
    length = traced.padding and (traced.padding.lengths.true, tuple(traced.padding.arguments.items()))
    return form.key, form.values, entries, after, outside, checks, result, length


def retrace_reason(programs: Mapping[Signature, Sequence[tuple[object, object, list[Guard]]]], key: Signature) -> str:
    """What differs between a new signature and the last one cached."""
    last = list(programs)[-1]
    changed = failing(programs[last][0][2])
    before, key = _comparable(last), _comparable(key)
    if before == key and changed is not None:
        return f"{changed} has changed"
    if before == key:
        return "a .grad that the step looks at was there in one call and not in the next"
    if before[0] != key[0] and before[1:] == key[1:]:
        return "an attribute of a Module or an option of an Optimizer was set"
    for i, (a, b) in enumerate(zip(before[2:], key[2:], strict=False)):
        if a != b:
            return f"argument {i} was {a}, now it is {b}"
    return "gradients were switched" if before[1][0] != key[1][0] else "another random generator is in use"


def _comparable(x: object) -> Any:
    """Part of a signature with ids in place of Tensors, whose == would compare their numbers."""
    if isinstance(x, Value):
        return id(x)
    return tuple(map(_comparable, x)) if isinstance(x, tuple) else x
