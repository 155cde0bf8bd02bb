"""The tracer: run a step once on Symbols instead of arrays, and collect its operations as a Graph (floor 4).

State is discovered, not declared. A Tensor from before the step that is read becomes an input. One whose array has changed
at the end has been written. Every Tensor gets its own array back afterwards, whatever happens; other threads see that array
all the time. A Symbol that survives in the user's objects is a leak: an error names the line that made it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...core.op import Attributes, Node, Op
from ...core.origin import user_origin
from ...core.value import Symbol, Value, active_tracer, grad_mode, tracer_count
from ...errors import TraceError
from ...tensor import ConsumedGradient, Tensor
from ..guards import StateMonitor
from ..ir.graph import Graph
from .gradient_slots import GradientSlots
from .leaks import check_leaks
from .masked import replaced, selected
from .outer_tensors import OuterTensors, is_made_inside
from .recording import Recording, TapeUse, current_origin
from .results import collect_results, trace_gradients
from .scan import trace_scan
from .sharing import find_symbol, rebind, refuse_separation
from .traced_scan import ScanCall
from .traced_step import Args, FoundTensors, Function, GradientChanges, Kwargs, Retrace, TracedStep

_one_at_a_time = threading.RLock()  # a Tensor can hold one Symbol beside its array, so only one trace runs at a time


@dataclass(frozen=True)
class TraceOptions:
    """See `trace`."""

    keep_grads: bool
    differentiable: bool
    gives_views: bool


def trace(
    function: Function,
    arguments: tuple[Args, Kwargs],
    names: dict[int, str],
    keep_grads: bool = False,
    differentiable: bool = False,
    source: Function | None = None,
    gives_views: bool = True,
) -> TracedStep:
    """Trace `function(*args, **kwargs)` for `arguments` = (args, kwargs).

    names: names of Tensors for listings, by id. keep_grads: whether gradients stay that an optimizer has used.
    differentiable: also trace the gradients of results that are on the tape at the end. source: the user's function, where
        `function` wraps it. gives_views: whether results that are views of arguments or of earlier Tensors are given as views.
    Raises TraceError where the step cannot be traced.
    """
    options = TraceOptions(keep_grads, differentiable, gives_views)
    while True:
        tracer = Tracer(names)
        monitor = StateMonitor((function, source), is_made_inside)
        try:
            traced = _run(tracer, monitor, function, arguments, options)
        except Retrace:
            assert tracer.pending_change is not None
            monitor.undo()
            tracer.pending_change()
            continue
        with _one_at_a_time:
            cached = check_leaks(tracer.created)
        if tracer.pending_change is None:
            state_changes = monitor.changes() + cached
            return replace(
                traced,
                guards=monitor.guards,
                found_ids=monitor.found_ids,
                state_changes=state_changes,
                undo=monitor.undo,
            )
        monitor.undo()
        tracer.pending_change()


def _run(
    tracer: Tracer, monitor: StateMonitor, function: Function, arguments: tuple[Args, Kwargs], options: TraceOptions
) -> TracedStep:
    """Run the step on Symbols, and restore all Tensors."""
    with _one_at_a_time:
        token = active_tracer.set(tracer)
        tracer_count[0] += 1
        try:
            tracer.tensors.add_arguments(arguments)
            args, kwargs = arguments
            mode = grad_mode.get()
            with monitor:
                result = function(*args, **kwargs)
            _check_mode(mode)
            return _found(tracer, result, options)
        finally:
            tracer_count[0] -= 1
            active_tracer.reset(token)
            try:
                tracer.tensors.restore()
                tracer.gradients.restore()
            finally:
                while tracer.held_locks:
                    tracer.held_locks.pop().release()


def _found(tracer: Tracer, result: object, options: TraceOptions) -> TracedStep:
    """What the step came to, while the tracer is still active."""
    tensors, gradients, tape = tracer.tensors, tracer.gradients, tracer.tape
    results = collect_results(result, tensors, options.gives_views)
    on_tape = any(results.tracked)
    outer = trace_gradients(results.values, tensors, tape.since) if options.differentiable and on_tape else None
    writes = tensors.writes()
    tensors.check_tape()
    tensors.check_overlap(writes)
    slots = gradients.writes([entry.owner for entry, _ in writes], options.keep_grads)
    arguments = [entry for entry in tensors.inputs.values() if entry.kind == "argument"]
    state = [entry for entry in tensors.inputs.values() if entry.kind != "argument"]
    inputs = [*sorted(arguments, key=lambda entry: entry.position), *state, *gradients.inputs.values()]
    present = set(map(id, inputs))
    inputs += [entry for entry, _ in slots.stored if id(entry) not in present] + (outer.cotangents if outer else [])
    outputs = results.outputs + (outer.outputs if outer else [])
    positions, stored = results.positions, [entry.owner for entry, _ in slots.stored]
    return TracedStep(
        Graph(inputs, tracer.recording.outermost, outputs, writes + slots.stored),
        results.structure,
        results.tracked,
        results.new_leaves,
        returned_grads=[(positions[id(x._grad)], x) for x in stored if id(x._grad) in positions],
        found=FoundTensors(
            tensors.requires_grad_checks(writes, tape.read),
            gradients.presence_besides(entry.owner for entry in arguments),
            tensors.views,
        ),
        gradient_changes=GradientChanges(slots.cleared, slots.consumed, tensors.requires_grad_changes()),
        inference=not (tape.written or on_tape or gradients.before),
        leaves=outer.leaves if outer else None,
    )


def _check_mode(before: bool) -> None:
    """Raise TraceError where the step changes the grad mode of its caller, which native code would not do."""
    if grad_mode.get() != before:
        grad_mode.set(before)
        raise TraceError(
            f"compile: the step leaves gradients {'off' if before else 'on'} for its caller; expected them as they were; "
            f"write `with set_grad_enabled({not before}):` around what it is meant for"
        )


class Tracer:
    """What the rooms below ask while a step is traced: `TracerInterface` of `core/value.py`.

    created: the values made by the step, weakly, and their Symbols. pending_change: to be called before the step is traced
    again. held_locks: locks that other threads wait for until the arrays are restored.
    """

    def __init__(self, names: dict[int, str]) -> None:
        self.recording, self.tape = Recording(), TapeUse()
        self.tensors = OuterTensors(names)
        self.gradients = GradientSlots(self.tensors)
        self.created: list[tuple[weakref.ref[Value], Symbol]] = []
        self.pending_change: Callable[[], None] | None = None
        self.held_locks: list[threading.RLock] = []

    # ---- operations ----

    def append(
        self, op: Op, values: Sequence[Tensor], attributes: Attributes, shape: tuple[int, ...], dtype: np.dtype
    ) -> Symbol:
        """Record an operation."""
        if grad_mode.get():
            tape = self.tape
            tape.read.update(map(id, values))
            tape.written = tape.written or any(v.requires_grad for v in values)
        symbol = Symbol(op, tuple([self.read(v) for v in values]), attributes, tuple(shape), dtype, current_origin())
        self.recording.symbols.append(symbol)
        return symbol

    def on_create(self, value: Value, array: Symbol | np.ndarray) -> Symbol:
        """What a value made while tracing holds: its Symbol, or a constant Symbol for an array."""
        symbol = self.recording.constant(array) if isinstance(array, np.ndarray) else array
        self.created.append((weakref.ref(value), symbol))
        return symbol

    def scan(self, body: Function, carry: object, xs: object, length: int, reverse: bool) -> Any:
        """The scan of `ops/loop.py` as one operation."""
        return trace_scan(ScanCall(body, carry, xs, length, reverse), self.recording, self.tensors)

    def selected(self, x: Tensor, mask: Tensor) -> Tensor:
        """x[mask], whose shape is not known while tracing."""
        return selected(x, mask)

    def replaced(self, x: Tensor, mask: Tensor, value: Tensor) -> Tensor:
        """x after x[mask] = value."""
        return replaced(x, mask, value)

    # ---- Tensors ----

    def read(self, value: Value) -> Symbol:
        """The Symbol of `value`. A Tensor from before the step becomes an input."""
        recording = self.recording
        fields = value.__dict__
        saved = fields.get("symbol", fields.get("array"))
        symbol = saved if saved.__class__ is Symbol else find_symbol(value, self.tensors, recording)
        if symbol in recording.hidden:
            recording.refuse_hidden(symbol)
        for reads in recording.reads:
            reads[id(value)] = value
        return symbol

    def is_made_inside(self, value: Value) -> bool:
        """Whether the step made this value, so that it does not exist outside of it."""
        return is_made_inside(value)

    def rebind(self, value: Tensor, symbol: Symbol) -> None:
        """Let `value` be `symbol` from now on, and update every Tensor that shares its memory."""
        rebind(value, symbol, self.tensors)

    def before_data_assignment(self, value: Tensor) -> None:
        """`x.data = y` is about to give `value` memory of its own."""
        refuse_separation(value)

    # ---- gradients ----

    def before_grad_write(self, owner: Tensor) -> None:
        """`owner.grad` is about to be written."""
        self.gradients.before_write(owner)

    def read_grad(self, owner: Tensor) -> Tensor | ConsumedGradient | None:
        """`owner.grad`."""
        return self.gradients.read(owner)

    def has_grad(self, owner: Tensor) -> bool:
        """Whether `owner` has a gradient."""
        return self.gradients.has(owner)

    def refuse_older(self, node: Node) -> None:
        """Raise TraceError where the step walks back into a tape from before it, which another call would not have."""
        if node.sequence < self.tape.since:
            raise TraceError(
                f"{user_origin()}: backward goes on into what was computed outside the step ({node.origin}); expected a tape that "
                "begins inside; compute it inside the step, or pass it as x.detach()"
            )

    # ---- the trace itself ----

    def retrace_after(self, change: Callable[[], None], at_once: bool = False) -> None:
        """Drop this trace, call `change` with no tracer active, and trace again.

        Only the first change that is asked for is made. Another that is still needed is asked for again by the next trace.
        at_once: end the trace here instead of at its end.
        """
        self.pending_change = self.pending_change or change
        if at_once:
            raise Retrace

    def hold_lock(self, lock: threading.RLock) -> None:
        """Hold `lock` until the end of the trace."""
        if lock not in self.held_locks:
            lock.acquire()
            self.held_locks.append(lock)
