"""Executables: what traces of one canonical form share, which is graph, plan and native code without Tensors (floor 4).

A process keeps the executables that it used last, so that the next fold of a cross-validation, or a step with another
dropout rate, costs its trace and no compilation. They hold no Tensors: a Program binds one to those of its trace.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from ...ir.graph import Graph, Input
from ...passes.canonical_form import CanonicalForm
from . import thread_pool
from .layout import Layout
from .llvm import Code
from .lower import LoweredProgram, lower
from .memory_plan import MemoryPlan, plan_memory
from .object_cache import object_code
from .schedule import schedule
from .target import host

MAX_IDLE = 64  # executables that are cached, whether a program uses them or not


@dataclass(eq=False)
class Executable:
    """graph: its inputs have no owners. Those of a trace of this form have the same order."""

    graph: Graph
    layout: Layout
    plan: MemoryPlan
    lowered: LoweredProgram
    code: Code

    @functools.cached_property
    def entry_points(self) -> list[int]:
        return [self.code.address(name) for name in _names(self.lowered)]


_cached: OrderedDict[Hashable, Executable] = OrderedDict()  # the last used at the end
_codes: weakref.WeakValueDictionary[str, Code] = weakref.WeakValueDictionary()  # by the key of what was lowered
_lock = threading.Lock()


def get_executable(form: CanonicalForm, disabled: frozenset[str] = frozenset(), by_row: bool = False) -> Executable:
    """The executable for a form, compiled now where none is cached. disabled, by_row: see `scheduled`."""
    key = (form.key, disabled, by_row)
    with _lock:
        result = _cached.get(key)
    if result is None:
        result = _compile(form.graph, disabled, by_row)
    with _lock:
        result = _cached.setdefault(key, result)  # another thread may have compiled it meanwhile
        _cached.move_to_end(key)
        while len(_cached) > MAX_IDLE:
            _cached.popitem(last=False)
    return result


def _compile(traced: Graph, disabled: frozenset[str], by_row: bool) -> Executable:
    graph, kernels, layout = schedule(_without_owners(traced), host(), disabled, by_row)
    plan = plan_memory(graph, kernels, layout, "reuse" not in disabled)
    program = lower(plan, host())
    code = _codes.get(program.key)
    if code is None:
        code = thread_pool.shielded_from_interrupt(
            lambda: Code(object_code(program.key, program.object_code), _names(program))
        )
        _codes[program.key] = code
    return Executable(graph, layout, plan, program, code)


def _names(program: LoweredProgram) -> list[str]:
    return [f"program{i}" for i in range(len(program.segments))]


def _without_owners(graph: Graph) -> Graph:
    return bind(graph, [Input(entry.kind, None, entry.symbol, entry.position) for entry in graph.inputs])


def bind(graph: Graph, inputs: list[Input]) -> Graph:
    """`graph` with other inputs, in the same order."""
    replaced = {id(old): new for old, new in zip(graph.inputs, inputs, strict=True)}
    return Graph(
        inputs, graph.symbols, graph.outputs, [(replaced[id(entry)], symbol) for entry, symbol in graph.writes]
    )
