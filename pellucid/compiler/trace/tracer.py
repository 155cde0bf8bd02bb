"""The tracer: run a step once on Symbols instead of arrays, and collect its operations as a Graph (floor 4).

State is discovered, not declared. A Tensor from before the step that is read becomes an input. One whose array has changed
at the end has been written. Every Tensor gets its own array back afterwards, whatever happens; other threads see that array
all the time. A Symbol that survives in the user's objects is a leak: an error names the line that made it.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core.op import Attributes, Node, Op, apply, tracer_count
from ...core.origin import Origin, origin, user_origin
from ...core.sharing import Cell, Path, put, strides_of
from ...core.tape import backward_pass, reachable
from ...core.value import Symbol, Value, active_tracer, grad_mode
from ...errors import TraceError, format_shape
from ...ops.loop import tree_map
from ...ops.reduce import expand
from ...tensor import ConsumedGradient, Parameter, Tensor
from ..guards import StateMonitor
from ..ir.graph import Graph, Input
from .leaks import check_leaks
from .masked import YIELDING, replaced, selected
from .scan import ScanTracer, trace_scan
from .traced_step import (
    GIVEN_GRADIENT,
    SHARED_GRADIENT,
    Args,
    Function,
    Kwargs,
    OutputRef,
    Retrace,
    TracedResults,
    TracedStep,
    ViewRef,
)

SHARED = (
    "{}: the step writes a Tensor {} that shares its numbers with an argument, or the argument {} itself; expected what is "
    "written to be one argument, or none; pass the whole once, or a clone()"
)
SAVED_ATTRIBUTES = ("version", "node", "requires_grad", "written_at", "hooks")
_one_at_a_time = threading.RLock()  # a Tensor can hold one Symbol beside its array, so only one trace runs at a time


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

    names: names of Tensors for listings, by id. differentiable: also trace the gradients of results that are on the tape at
        the end. source: the user's function, where `function` wraps it. gives_views: whether results that are views of
        arguments or of earlier Tensors are given as views.
    Raises TraceError where the step cannot be traced.
    """
    while True:
        tracer = Tracer(names, gives_views)
        monitor = StateMonitor((function, source), tracer.is_made_inside)
        try:
            traced = _trace_once(tracer, monitor, function, arguments, keep_grads, differentiable)
        except Retrace:
            assert tracer.pending_change is not None
            monitor.undo()
            tracer.pending_change()
            continue
        with _one_at_a_time:
            cached = check_leaks(tracer.created)
        traced.state_changes, traced.undo = monitor.changes() + cached, monitor.undo
        if tracer.pending_change is None:
            traced.guards, traced.found_ids = monitor.guards, monitor.found_ids
            return traced
        monitor.undo()
        tracer.pending_change()


def _trace_once(
    tracer: Tracer,
    monitor: StateMonitor,
    function: Function,
    arguments: tuple[Args, Kwargs],
    keep_grads: bool,
    differentiable: bool,
) -> TracedStep:
    with _one_at_a_time:
        token = active_tracer.set(tracer)
        tracer_count[0] += 1
        try:
            tracer.add_arguments(arguments)
            args, kwargs = arguments
            mode = grad_mode.get()
            with monitor:
                result = function(*args, **kwargs)
            _check_mode(mode)
            return tracer.finish(result, keep_grads, differentiable)
        finally:
            tracer_count[0] -= 1
            active_tracer.reset(token)
            try:
                tracer.restore()
            finally:
                tracer.release_locks()


@functools.cache
def traced_class(kind: type) -> type:
    """A subclass of `kind` for Tensors from outside the step: `array` is the Symbol for the tracer, and the array elsewhere."""

    def get(value: Tensor) -> Symbol | np.ndarray:
        fields = value.__dict__
        active = active_tracer.get()
        if active is not None:
            return fields["symbol"] if "symbol" in fields else active.read(value)
        return fields["array"] if "array" in fields else value.__getattr__("array")

    def put(value: Tensor, array: Symbol | np.ndarray) -> None:
        value.__dict__["array" if active_tracer.get() is None else "symbol"] = array

    def drop(value: Tensor) -> None:  # from a thread that does not trace
        if value.__dict__.pop("array", None) is None:
            raise AttributeError("array")

    array = property(get, put, drop)
    about = {"__slots__": (), "__module__": kind.__module__, "array": array, "__hash__": kind.__hash__}
    return type(kind.__name__, (kind,), about | YIELDING)


class SavedTensor(NamedTuple):
    """A Tensor as it was before the step. shared: its cell, path and base. rest: its SAVED_ATTRIBUTES."""

    owner: Tensor
    kind: type
    array: np.ndarray | None
    shared: tuple[Cell | None, Path, Tensor | None]
    rest: dict[str, Any]


class Tracer:
    """Traces one step. Lower floors call `append`, `on_create`, `read`, `retrace_after` and the methods for gradients."""

    def __init__(self, names: dict[int, str], gives_views: bool = True) -> None:
        self.names, self.gives_views = names, gives_views
        self.started = next(Node.counter)  # Nodes of the step have higher sequence numbers
        self.symbols: list[Symbol] = []
        self.outer_symbols = self.symbols  # outside of any scan
        self.inputs: dict[int, Input] = {}  # by id of the Tensor, which the Input keeps alive
        self.differentiable: set[int] = set()  # ids of the values read with the tape on
        self.taped = False  # whether an operation has been put on the tape
        self.saved: dict[int, SavedTensor] = {}  # the Tensors that the step uses as they were, by id
        self.grads: dict[
            int, tuple[Tensor, Tensor | ConsumedGradient | None]
        ] = {}  # by id of the Tensor: it, and its `.grad` before the step
        self.grad_inputs: dict[int, Input] = {}
        self.views: list[tuple[Tensor, Cell, Tensor]] = []  # from before the step, each with its cell and the base
        self.grad_placeholders: dict[int, Tensor] = {}  # by id of the owner: the traced Tensor for its gradient
        self.cotangents: list[Input] = []
        self.grad_presence: dict[int, tuple[Tensor, bool]] = {}
        self.created: list[tuple[weakref.ref[Value], Symbol]] = []
        self.scan_symbols: set[Symbol] = set()  # of the bodies of scans: nothing outside may read them
        self.scans: list[ScanTracer] = []  # the scans whose bodies are being traced, outermost first
        self.pending_change: Callable[[], None] | None = None  # to be called before the step is traced again
        self.held_locks: list[threading.RLock] = []  # locks that other threads wait for until the arrays are restored

    # ---- called by core/op.py ----

    def append(
        self, op: Op, values: Sequence[Tensor], attributes: Attributes, shape: tuple[int, ...], dtype: np.dtype
    ) -> Symbol:
        if grad_mode.get():
            self.differentiable.update(map(id, values))
            self.taped = self.taped or any(v.requires_grad for v in values)
        symbol = Symbol(op, tuple([self.read(v) for v in values]), attributes, tuple(shape), dtype, _origin())
        self.symbols.append(symbol)
        return symbol

    def on_create(self, value: Value, array: Symbol | np.ndarray) -> Symbol:
        """What a value made while tracing holds: its Symbol, or a constant Symbol for an array."""
        symbol = self.constant(array) if isinstance(array, np.ndarray) else array
        self.created.append((weakref.ref(value), symbol))
        return symbol

    def constant(self, array: np.ndarray) -> Symbol:
        origin = _origin()
        if array.size > 1 and (not any(array.strides) or (array == array.flat[0]).all()):
            scalar = Symbol(None, (), {}, (), array.dtype, origin, np.asarray(array.flat[0]))
            symbol = Symbol(expand, (scalar,), {"shape": array.shape}, array.shape, array.dtype, origin)
            self.symbols.append(symbol)
            return symbol
        return Symbol(None, (), {}, array.shape, array.dtype, origin, array.copy())

    def read(self, value: Value) -> Symbol:
        """The Symbol of `value`. A Tensor from before the step becomes an input."""
        fields = value.__dict__
        saved = fields.get("symbol", fields.get("array"))
        symbol = saved if saved.__class__ is Symbol else self._find(value)
        if symbol in self.scan_symbols:
            raise TraceError(
                f"scan: a Tensor {format_shape(symbol.shape)} made inside the loop at {symbol.origin} is read outside of it; "
                "expected what leaves the body to be returned; make it part of the carry or of y"
            )
        for scan in self.scans:
            scan.outer_values[id(value)] = value
        return symbol

    def _find(self, value: Any) -> Symbol:
        """The Symbol of a Tensor from before the step: an input, or a view of the input that is its base."""
        base = value if value.cell is None else value.cell.base()
        entry = self.inputs.get(id(base))
        if base is value or (entry is not None and entry.kind == "argument"):
            return self._add_input("state", value).symbol
        self._save(value)
        self.views.append((value, value.cell, base))
        # Outside of a scan that is being traced: another scan may read it too.
        symbols, traces, self.symbols, self.scans = self.symbols, self.scans, self.outer_symbols, []
        try:
            value.array = self._follow_path(value.path, base)
        finally:
            self.symbols, self.scans = symbols, traces
        return value.array

    def _follow_path(self, path: Path, base: Tensor) -> Symbol:
        """The Symbol where `path` leads from `base`."""
        mode = grad_mode.set(False)  # its node on the tape is known
        try:
            for op, attributes in path:
                base = apply(op, base, **attributes)
            return self.read(base)
        finally:
            grad_mode.reset(mode)

    def rebind(self, value: Tensor, symbol: Symbol) -> None:
        """Let `value` be `symbol` from now on, and update every Tensor that shares its memory."""
        self.read(value)  # so that its old state is saved
        value.version += 1
        if value.cell is None:
            value.array = symbol
            return
        base = value.cell.base()
        if base is not value:
            if id(value) in self.inputs:  # its base is an argument
                raise TraceError(SHARED.format(user_origin(), format_shape(value.shape), format_shape(base.shape)))
            mode = grad_mode.set(False)
            try:
                base.array = self.read(put(base, value.path, Tensor(symbol)))
            finally:
                grad_mode.reset(mode)
            base.version += 1
        value.array = symbol
        if self.is_made_inside(base):
            base.cell.array = base.array
        for view in base.cell.living():
            if view is not base and view is not value and id(view) not in self.inputs:
                view.version += 1
                if self.is_made_inside(view):
                    view.array = self._follow_path(view.path, base)
        self.forget_views(base, but=value)

    def forget_views(self, base: Value, but: Value | None = None) -> None:
        """Forget the Symbols of earlier Tensors that share the memory of `base`, except `but`. The next read finds them again."""
        for view in [] if base.cell is None else base.cell.living():
            if view is not base and view is not but and id(view) in self.saved and id(view) not in self.inputs:
                view.__dict__.pop("symbol", None)

    def before_data_assignment(self, value: Tensor) -> None:
        """`x.data = y` is about to give `value` memory of its own. Raises TraceError where other Tensors share the old one."""
        self.read(value)
        if value.cell is not None and len(value.cell.living()) > 1:  # a write to its own `.data` comes through `rebind`
            raise TraceError(
                f"{user_origin()}: x.data = y inside a compiled step, for x {format_shape(value.shape)} that shares its numbers with other "
                "Tensors, which would go on with the old ones; expected a write that all of them see; write x.data.copy_(y)"
            )

    def scan(self, body: Function, carry: object, xs: object, length: int, reverse: bool) -> Any:
        """The scan of `ops/loop.py` as one operation."""
        return trace_scan(self, body, carry, xs, length, reverse)

    def selected(self, x: Tensor, mask: Tensor) -> Tensor:
        """x[mask], whose shape is not known while tracing."""
        return selected(x, mask)

    def replaced(self, x: Tensor, mask: Tensor, value: Tensor) -> Tensor:
        """x after x[mask] = value."""
        return replaced(x, mask, value)

    def _add_input(self, kind: str, value: Tensor, position: int = -1) -> Input:
        entry = Input(kind, value, self._placeholder(value), position, self.names.get(id(value), ""))
        self.inputs[id(value)] = entry
        self._save(value)
        if kind == "argument":  # the next call gives another Tensor, which may be a view of something else
            strides = strides_of(value)
            value.cell, value.path, value.base, value.array = None, (), None, entry.symbol
            if strides is not None:
                Cell(value).strides = strides
        value.array = entry.symbol
        return entry

    def _save(self, value: Tensor) -> None:
        """Save a Tensor from before the step, and let it hold a Symbol beside its array."""
        if id(value) in self.saved:
            return
        saved: Any = type(value)
        rest = {name: getattr(value, name) for name in SAVED_ATTRIBUTES}
        self.saved[id(value)] = SavedTensor(
            value, saved, value.__dict__.get("array"), (value.cell, value.path, value.base), rest
        )
        value.__class__ = traced_class(saved)

    def _placeholder(self, value: Value) -> Symbol:
        return Symbol(None, (), {}, value.shape, value.dtype, _origin())

    def hold_lock(self, lock: threading.RLock) -> None:
        """Hold `lock` until the end of the trace."""
        if lock not in self.held_locks:
            lock.acquire()
            self.held_locks.append(lock)

    def release_locks(self) -> None:
        while self.held_locks:
            self.held_locks.pop().release()

    # ---- arguments and gradients ----

    def add_arguments(self, arguments: tuple[Args, Kwargs]) -> None:
        position = 0

        def take(leaf: object) -> None:
            nonlocal position
            if isinstance(leaf, Tensor):
                if id(leaf) not in self.inputs:  # one Tensor in two arguments is one input, as in the signature
                    self._add_input("argument", leaf, position)
                position += 1

        tree_map(take, list(arguments[0]))
        tree_map(take, dict(arguments[1]))

    def is_made_inside(self, value: Value) -> bool:
        """Whether the step made this value, so that it does not exist outside of it."""
        return value.__dict__.get("array").__class__ is Symbol

    def before_grad_write(self, owner: Tensor) -> None:
        """`owner.grad` is about to be written."""
        if not self.is_made_inside(owner):
            self.grads.setdefault(id(owner), (owner, owner._grad))

    def read_grad(self, owner: Tensor) -> Tensor | ConsumedGradient | None:
        """`owner.grad`. A gradient from before the step becomes an input; that it was there is noted for later calls."""
        grad = owner._grad
        if grad.__class__ is ConsumedGradient or self.is_made_inside(owner):
            return grad
        if grad is not None and id(grad) in self.inputs:
            raise TraceError(GIVEN_GRADIENT.format(format_shape(owner.shape)))
        if id(owner) not in self.grads:
            self.grad_presence[id(owner)] = (owner, grad is not None)
            if grad is None:
                return None
            self.before_grad_write(owner)
            traced = self.grad_placeholders[id(owner)] = Tensor(self._placeholder(grad))
            name = f"{self.names.get(id(owner), '')}.grad"
            self.grad_inputs[id(owner)] = Input("gradient", owner, traced.array, -1, name)
            owner._grad = traced
        return owner._grad

    def has_grad(self, owner: Tensor) -> bool:
        """Whether `owner` has a gradient. This alone makes it no input."""
        there = owner._grad is not None
        if not self.is_made_inside(owner) and id(owner) not in self.grads:
            self.grad_presence[id(owner)] = (owner, there)
        return there

    def retrace_after(self, change: Callable[[], None], at_once: bool = False) -> None:
        """Drop this trace, call `change` with no tracer active, and trace again.

        Only the first change that is asked for is made. Another that is still needed is asked for again by the next trace.
        at_once: end the trace here instead of at its end.
        """
        self.pending_change = self.pending_change or change
        if at_once:
            raise Retrace

    def refuse_older(self, node: Node) -> None:
        """Raise TraceError where the step walks back into a tape from before it, which another call would not have."""
        if node.sequence < self.started:
            raise TraceError(
                f"{user_origin()}: backward goes on into what was computed outside the step ({node.origin}); expected a tape that "
                "begins inside; compute it inside the step, or pass it as x.detach()"
            )

    # ---- the end ----

    def finish(self, result: object, keep_grads: bool, differentiable: bool = False) -> TracedStep:
        """What the step came to. Call it once, while the tracer is still active."""
        results = self._results(result)
        outputs, tracked = results.outputs, results.tracked
        leaves = self._backward_of(results.values, outputs) if differentiable and any(tracked) else None
        writes = [(entry, entry.owner.array) for entry in self.inputs.values() if entry.owner.array is not entry.symbol]
        self._check_tape()
        self._check_overlap(writes)
        grads, cleared, consumed = self._grad_writes({id(entry.owner) for entry, _ in writes}, keep_grads)
        inputs = [*sorted(self.inputs.values(), key=lambda entry: entry.position if entry.kind == "argument" else 1 << 30),
                  *self.grad_inputs.values()]  # fmt: skip
        present = {id(entry) for entry in inputs}
        inputs += [entry for entry, _ in grads if id(entry) not in present] + self.cotangents
        graph = Graph(inputs, self.symbols, outputs, writes + grads)
        arguments = {id(entry.owner) for entry in inputs if entry.kind == "argument"}
        changes = [
            (saved.owner, saved.owner.requires_grad)
            for saved in self.saved.values()
            if saved.owner.requires_grad != saved.rest["requires_grad"]
        ]
        positions = results.positions
        left = [entry.owner for entry, _ in grads]
        return TracedStep(
            graph,
            results.structure,
            tracked,
            requires_grad_checks=self._requires_grad_checks(writes),
            grad_presence=[state for key, state in self.grad_presence.items() if key not in arguments],
            cleared_grads=cleared,
            consumed_grads=consumed,
            requires_grad_changes=changes,
            new_leaves=results.new_leaves,
            inference=not (self.taped or any(tracked) or self.grads),
            leaves=leaves,
            known_views=self.views,
            returned_grads=[(positions[id(x._grad)], x) for x in left if id(x._grad) in positions],
        )

    def _results(self, result: object) -> TracedResults:
        outputs: list[Symbol] = []
        tracked: list[bool] = []
        values: list[Tensor] = []
        positions: dict[int, OutputRef] = {}  # a Tensor that is returned twice is one afterwards, too

        def leaf(value: object) -> Any:
            if not isinstance(value, Tensor):
                return value
            symbol = self.read(value)
            if id(value) in self.saved:
                return value
            is_leaf = value.requires_grad and value.node is None
            if self.gives_views and value.cell is not None and id(value.cell.base()) in self.inputs and not is_leaf:
                return ViewRef(value.cell.base(), value.path, value.requires_grad)
            if id(value) not in positions:
                positions[id(value)] = OutputRef(len(outputs))
                values.append(value)
                outputs.append(symbol)
                tracked.append(value.requires_grad and value.node is not None)
            return positions[id(value)]

        structure = tree_map(leaf, result)
        new_leaves: dict[int, int | None] = {}
        for i, value in enumerate(values):
            if isinstance(value._grad, Tensor):
                new_leaves[i] = len(outputs)
                outputs.append(self.read(value._grad))
                tracked.append(False)
            elif value.requires_grad and value.node is None:
                new_leaves[i] = None
        return TracedResults(structure, outputs, tracked, values, positions, new_leaves)

    def _backward_of(self, results: list[Tensor], outputs: list[Symbol]) -> list[Tensor] | None:
        """Trace the gradients of `results` with respect to what the step reads, and append them to `outputs`.

        Returns the Tensors they belong to. None where the step has walked their tape itself, so that it is a whole step.
        """
        roots = {i: value for i, value in enumerate(results) if value.node is not None}
        nodes = reachable([value.node for value in roots.values() if value.node is not None], self.started)
        if any(node.inputs is None for node in nodes):
            return None
        seeds = [Tensor(self._cotangent(i, value)) for i, value in roots.items()]
        gradients = backward_pass(list(roots.values()), seeds, since=self.started)
        owners = {id(saved.rest["node"] or saved.owner): saved.owner for saved in self.saved.values()}
        leaves = [owners[key] for key in gradients if key in owners]
        outputs += [self.read(gradients[key][1]) for key in gradients if key in owners]
        return leaves

    def _cotangent(self, position: int, value: Tensor) -> Symbol:
        entry = Input("cotangent", None, self._placeholder(value), position, f"gradient of output {position}")
        self.cotangents.append(entry)
        return entry.symbol

    def _requires_grad_checks(self, writes: list[tuple[Input, Symbol]]) -> list[tuple[Tensor, bool]]:
        """See `TracedStep.requires_grad_checks`. Tensors read only with the tape off, as by an optimizer, are not checked."""
        written = {id(entry) for entry, _ in writes}
        wanted = []
        for key, saved in self.saved.items():
            owner, needed, entry = saved.owner, saved.rest["requires_grad"], self.inputs.get(key)
            plain = (
                (entry is None or entry.kind == "state")
                and owner.dtype.kind == "f"
                and not isinstance(owner, Parameter)
            )
            plain = plain and (key in self.differentiable or needed)
            if plain and (needed or id(entry) not in written):
                wanted.append((owner, needed))
        return wanted

    def _check_tape(self) -> None:
        for owner, _, _, _, rest in self.saved.values():
            if owner.node is not rest["node"]:
                raise TraceError(
                    f"compile: a Tensor {format_shape(owner.shape)} from outside the step was written on the tape at "
                    f"{owner.written_at}; expected writes under no_grad(); write x = x + y, or wrap it in no_grad()"
                )

    def _grad_writes(
        self, written: set[int], keep_grads: bool
    ) -> tuple[list[tuple[Input, Symbol]], list[Tensor], list[Tensor]]:
        """The gradients that the step leaves behind, those it clears, and those that its optimizer has consumed."""
        stored: list[tuple[Input, Symbol]] = []
        seen_cells: set[int] = set()
        cleared: list[Tensor] = []
        consumed: list[Tensor] = []
        for key, (owner, _before) in self.grads.items():
            grad = owner._grad
            entry = self.grad_inputs.get(key)
            if grad is None:
                cleared.append(owner)
            elif entry is not None and grad.array is entry.symbol:
                continue
            elif key in written and not keep_grads and entry is None and not _is_filled(grad.array):
                consumed.append(owner)
            else:
                if entry is None:
                    entry = Input("gradient", owner, self._placeholder(grad), -1, f"{self.names.get(key, '')}.grad")
                entry.in_place = grad is self.grad_placeholders.get(key)
                base = grad if grad.cell is None else grad.cell.base()
                if id(base) in self.saved or id(base) in seen_cells:
                    raise TraceError(SHARED_GRADIENT.format(format_shape(owner.shape)))
                seen_cells.add(id(base))
                stored.append((entry, self.read(grad)))
        return stored, cleared, consumed

    def restore(self) -> None:
        """Restore every Tensor to what it was before the step."""
        for owner, kind, array, shared, rest in self.saved.values():
            owner.__class__ = kind
            owner.__dict__.pop("symbol", None)
            if id(owner) in self.inputs and self.inputs[id(owner)].kind == "argument":
                owner.cell, owner.path, owner.base = shared
            if array is not None and owner.__dict__.get("array") is not array:  # another thread has assigned it
                del rest["version"], rest["written_at"]
            for name, value in rest.items():
                setattr(owner, name, value)
        for owner, grad in self.grads.values():
            owner._grad = grad
        self.grad_placeholders.clear()

    def _check_overlap(self, writes: list[tuple[Input, Symbol]]) -> None:
        """Raise TraceError where the step writes memory that an argument shares."""
        written = {id(entry.owner) for entry, _ in writes}
        seen_cells: dict[int, Tensor] = {}
        for entry in self.inputs.values():
            cell = self.saved[id(entry.owner)].shared[0]
            other = seen_cells.setdefault(id(cell), entry.owner) if cell is not None else entry.owner
            if other is not entry.owner and written & {id(other), id(entry.owner)}:
                raise TraceError(
                    SHARED.format(
                        entry.owner.written_at or other.written_at,
                        format_shape(other.shape),
                        format_shape(entry.owner.shape),
                    )
                )


def _is_filled(symbol: Symbol) -> bool:
    """Whether it is one constant repeated, as after `p.grad.zero_()`."""
    while symbol.op is not None and symbol.op.kind == "movement" and len(symbol.inputs) == 1:
        symbol = symbol.inputs[0]
    return symbol.constant is not None and symbol.constant.size == 1


def _check_mode(before: bool) -> None:
    """Raise TraceError where the step changes the grad mode of its caller, which native code would not do."""
    if grad_mode.get() != before:
        grad_mode.set(before)
        raise TraceError(
            f"compile: the step leaves gradients {'off' if before else 'on'} for its caller; expected them as they were; "
            f"write `with set_grad_enabled({not before}):` around what it is meant for"
        )


def _origin() -> Origin:
    return origin.get() or user_origin()
