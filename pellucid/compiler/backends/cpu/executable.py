"""What equal recordings share: the graph after all passes, the plan and the native code, without any Tensor (floor 4).

A process keeps the executables that it used last, so that the next fold of a cross-validation, or a step with another
dropout rate, costs its recording and no compilation. They hold no Tensors: a Program binds one to those of its recording.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from ...ir.graph import Graph, Input
from ...passes.canonical_form import CanonicalForm
from . import thread_pool as runtime
from .layout import Layout
from .llvm import Code
from .lower import LoweredProgram, lower
from .memory_plan import MemoryPlan, plan_memory
from .object_cache import object_code
from .schedule import scheduled
from .target import host

MAX_IDLE = 64  # executables without a program


@dataclass(eq=False)
class Executable:
    """graph: its slots have no owners; those of a recording of this form stand in the same order."""

    graph: Graph
    layout: Layout
    plan: MemoryPlan
    lowered: LoweredProgram
    code: Code

    @property
    def entry_points(self) -> list[int]:
        return [self.code.address(name) for name in _names(self.lowered)]


_cached: OrderedDict[Hashable, Executable] = OrderedDict()  # the last used at the end
_codes: weakref.WeakValueDictionary[str, Code] = weakref.WeakValueDictionary()  # by the key of what was lowered
_lock = threading.Lock()


def get_executable(form: CanonicalForm, disabled: frozenset[str] = frozenset(), by_row: bool = False) -> Executable:
    """The executable for a form, made now where there is none. leave_out, by_row: see `scheduled`."""
    key = (form.key, disabled, by_row)
    with _lock:
        found = _cached.get(key)
    if found is None:
        found = _compile(form.graph, disabled, by_row)
    with _lock:
        found = _cached.setdefault(key, found)  # another thread may have been quicker
        _cached.move_to_end(key)
        while len(_cached) > MAX_IDLE:
            _cached.popitem(last=False)
    return found


def _compile(recorded: Graph, disabled: frozenset[str], by_row: bool) -> Executable:
    graph, kernels, layout = scheduled(_ownerless(recorded), host(), disabled, by_row)
    plan = plan_memory(graph, kernels, layout, "reuse" not in disabled)
    low = lower(plan, host())
    code = _codes.get(low.key)
    if code is None:
        code = runtime.shielded_from_interrupt(lambda: Code(object_code(low.key, low.object_code), _names(low)))
        _codes[low.key] = code
    return Executable(graph, layout, plan, low, code)


def _names(low: LoweredProgram) -> list[str]:
    return [f"program{i}" for i in range(len(low.segments))]


def _ownerless(graph: Graph) -> Graph:
    return bind(graph, [Input(entry.kind, None, entry.symbol, entry.position) for entry in graph.inputs])


def bind(graph: Graph, entries: list[Input]) -> Graph:
    """`graph` with `slots` in place of its own, which stand in the same order."""
    own = {id(old): new for old, new in zip(graph.inputs, entries, strict=True)}
    return Graph(entries, graph.symbols, graph.outputs, [(own[id(entry)], symbol) for entry, symbol in graph.writes])
