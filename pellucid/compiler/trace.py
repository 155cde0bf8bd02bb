"""Recording: a step is run once with Symbols in place of numbers, and what it did becomes a Graph (floor 4).

State is discovered, not declared. A Tensor that was there before and is read becomes an input; one whose array has
changed at the end has been written. Whatever happens, every Tensor has its own array again afterwards, and in every other
thread it has it all the time. A Symbol that stays behind in the user's objects is a leak, and an error that names the
line where it was made.
"""

from __future__ import annotations

import functools
import gc
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import TraceError, words
from ..op import Op, Origin, Symbol, Value, active_recorder, count_recorders, grad_mode, here, origin
from ..ops.loop import map_nest
from ..ops.reduce import expand
from ..tensor import Tensor, UsedUp
from .graph import Graph, Slot
from .timeloop import Trace, record_loop

_one_at_a_time = threading.RLock()  # a Tensor has room for one Symbol beside its array


class Flagged(Exception):
    """An index was out of range. The compiled step has written nothing; run eagerly, it tells what is wrong."""


@dataclass
class Recording:
    """What one run of a step came to.

    result: the step's return value with the position in `graph.outputs` in place of each Tensor.
    tracked: for each position, whether a backward through that output would be asked for.
    presence: gradients whose being there, or not, the step has looked at: (Tensor, there); arguments are not among them.
    cleared: Tensors whose `.grad` the step has set to None.
    used: Tensors whose `.grad` the optimizer has used up.
    """

    graph: Graph
    result: Any
    tracked: list[bool]
    presence: list[tuple[Tensor, bool]]
    cleared: list[Tensor]
    used: list[Tensor]


def record(function: Callable[..., Any], arguments: Any, names: dict[int, str], keep_grads: bool = False) -> Recording:
    """Run `function(*args, **kwargs)` for `arguments` = (args, kwargs) and give what it did.

    names: how to call a Tensor in listings, by id. Raises TraceError where the step cannot be recorded.
    """
    recorder = Recorder(names)
    with _one_at_a_time:
        token = active_recorder.set(recorder)
        count_recorders(1)
        try:
            recorder.take_arguments(arguments)
            args, kwargs = arguments
            mode = grad_mode.get()
            result = function(*args, **kwargs)
            _check_mode(mode)
            recording = recorder.finish(result, keep_grads)
        finally:
            count_recorders(-1)
            active_recorder.reset(token)
            try:
                recorder.put_back()
            finally:
                recorder.let_go()
    del result
    recorder.check_leaks()
    return recording


@functools.cache
def recorded(kind: type) -> type:
    """The class of a Tensor of `kind` from outside the step: where the step is recorded it has a Symbol, elsewhere its array."""

    def get(value: Any) -> Any:
        fields = value.__dict__
        if "symbol" in fields and active_recorder.get() is not None:
            return fields["symbol"]
        return fields["array"] if "array" in fields else value.__getattr__("array")

    def put(value: Any, array: Any) -> None:
        value.__dict__["array" if active_recorder.get() is None else "symbol"] = array

    return type(kind.__name__, (kind,), {"__slots__": (), "__module__": kind.__module__, "array": property(get, put)})


class Recorder:
    """The recorder interface that `op.py` and `tensor.py` speak to: append, born, read, and the two for gradients."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.symbols: list[Symbol] = []
        self.slots: dict[int, Slot] = {}  # by id of the Tensor; the Slot keeps it alive
        self.before: list[
            tuple[Tensor, type, Any, dict[str, Any]]
        ] = []  # Tensor, its class, its array, what else may change
        self.grads: dict[int, tuple[Tensor, Any]] = {}  # the Tensor and the `.grad` it came with
        self.grad_slots: dict[int, Slot] = {}
        self.looked: dict[int, tuple[Tensor, bool]] = {}
        self.made: list[tuple[weakref.ref[Value], Symbol]] = []
        self.inner: set[Symbol] = set()  # of the bodies of loops: nothing outside may read them
        self.traces: list[Trace] = []  # the loops whose bodies are being recorded, outermost first
        self.held: list[Any] = []  # locks of Tensors that other threads leave alone until they have their arrays again

    # ---- what op.py asks for ----

    def append(
        self, op: Op, values: Any, attributes: dict[str, Any], shape: tuple[int, ...], dtype: np.dtype
    ) -> Symbol:
        symbol = Symbol(op, tuple([self.read(v) for v in values]), attributes, tuple(shape), dtype, _place())
        self.symbols.append(symbol)
        return symbol

    def born(self, value: Value, array: Any) -> Any:
        """What a value made while recording holds: a Symbol, or a constant in place of numbers."""
        if array.__class__ is np.ndarray:
            array = self.constant(array)
        self.made.append((weakref.ref(value), array))
        return array

    def constant(self, array: np.ndarray) -> Symbol:
        place = _place()
        if array.size > 1 and (not any(array.strides) or (array == array.flat[0]).all()):
            scalar = Symbol(None, (), {}, (), array.dtype, place, np.asarray(array.flat[0]))
            symbol = Symbol(expand, (scalar,), {"shape": array.shape}, array.shape, array.dtype, place)
            self.symbols.append(symbol)
            return symbol
        return Symbol(None, (), {}, array.shape, array.dtype, place, array.copy())

    def read(self, value: Any) -> Symbol:
        """The Symbol of `value`; a Tensor that was there before the step becomes an input of it."""
        fields = value.__dict__
        known = fields.get("symbol", fields.get("array"))
        symbol = known if known.__class__ is Symbol else self._slot("state", value).symbol
        if symbol in self.inner:
            raise TraceError(
                f"scan: a Tensor {words(symbol.shape)} made inside the loop at {symbol.origin} is read outside of it; "
                "expected what leaves the body to be returned; make it part of the carry or of y"
            )
        for trace in self.traces:
            trace.used[id(value)] = value
        return symbol

    def scan(self, body: Callable[..., Any], carry: Any, xs: Any, length: int, reverse: bool) -> Any:
        """The loop of `ops/loop.py` as one operation."""
        return record_loop(self, body, carry, xs, length, reverse)

    def _slot(self, kind: str, value: Any, position: int = -1) -> Slot:
        slot = Slot(kind, value, self._input(value), position, self.names.get(id(value), ""))
        self.slots[id(value)] = slot
        rest = {name: getattr(value, name) for name in ("version", "node", "requires_grad", "written_at", "hooks")}
        self.before.append((value, type(value), value.__dict__.get("array"), rest))
        known: Any = type(value)
        value.__class__ = recorded(known)
        value.array = slot.symbol
        return slot

    def _input(self, value: Value) -> Symbol:
        return Symbol(None, (), {}, value.shape, value.dtype, _place())

    def hold(self, lock: Any) -> None:
        """Hold `lock` until the end of the recording."""
        if lock not in self.held:
            lock.acquire()
            self.held.append(lock)

    def let_go(self) -> None:
        while self.held:
            self.held.pop().release()

    # ---- arguments and gradients ----

    def take_arguments(self, arguments: Any) -> None:
        position = 0

        def take(leaf: Any) -> None:
            nonlocal position
            if isinstance(leaf, Tensor):
                if id(leaf) in self.slots:
                    raise TraceError("compile: the same Tensor is passed twice; expected different ones; "
                                     "pass it once, or a clone()")  # fmt: skip
                self._slot("argument", leaf, position)
                position += 1

        map_nest(take, list(arguments[0]))
        map_nest(take, dict(arguments[1]))

    def touch_grad(self, owner: Tensor) -> None:
        """`owner.grad` is about to be written."""
        self.grads.setdefault(id(owner), (owner, owner._grad))

    def read_grad(self, owner: Tensor) -> Any:
        """`owner.grad`; where it was there before the step it becomes an input, and that it was is remembered."""
        grad = owner._grad
        if grad.__class__ is UsedUp:
            return grad
        if id(owner) not in self.grads:
            self.looked[id(owner)] = (owner, grad is not None)
            if grad is None:
                return None
            self.touch_grad(owner)
            stand_in = Tensor(self._input(grad))
            name = f"{self.names.get(id(owner), '')}.grad"
            self.grad_slots[id(owner)] = Slot("gradient", owner, stand_in.array, -1, name)
            owner._grad = stand_in
        return owner._grad

    # ---- the end ----

    def finish(self, result: Any, keep_grads: bool) -> Recording:
        outputs: list[Symbol] = []
        tracked: list[bool] = []

        def leaf(value: Any) -> Any:
            if not isinstance(value, Value):
                return value
            outputs.append(self.read(value))
            tracked.append(value.requires_grad and value.node is not None)
            return Position(len(outputs) - 1)

        described = map_nest(leaf, result)
        writes = []
        for slot in self.slots.values():
            if slot.owner.array is not slot.symbol:
                writes.append((slot, slot.owner.array))
        self._check_tape()
        grads, cleared, used = self._grad_writes({id(slot.owner) for slot, _ in writes}, keep_grads)
        inputs = [*sorted(self.slots.values(), key=lambda s: s.position if s.kind == "argument" else 1 << 30),
                  *self.grad_slots.values()]  # fmt: skip
        known = {id(slot) for slot in inputs}
        inputs += [slot for slot, _ in grads if id(slot) not in known]
        graph = Graph(inputs, self.symbols, outputs, writes + grads)
        given = {id(slot.owner) for slot in inputs if slot.kind == "argument"}
        presence = [about for key, about in self.looked.items() if key not in given]
        return Recording(graph, described, tracked, presence, cleared, used)

    def _check_tape(self) -> None:
        for owner, _, _, rest in self.before:
            if owner.node is not rest["node"]:
                raise TraceError(
                    f"compile: a Tensor {words(owner.shape)} from outside the step was written on the tape at "
                    f"{owner.written_at}; expected writes under no_grad(); write x = x + y, or wrap it in no_grad()"
                )

    def _grad_writes(
        self, written: set[int], keep_grads: bool
    ) -> tuple[list[tuple[Slot, Symbol]], list[Tensor], list[Tensor]]:
        """Which gradients the step leaves behind, which it clears, and which its optimizer has used up."""
        kept: list[tuple[Slot, Symbol]] = []
        cleared: list[Tensor] = []
        used: list[Tensor] = []
        for key, (owner, _before) in self.grads.items():
            now = owner._grad
            slot = self.grad_slots.get(key)
            if now is None:
                cleared.append(owner)
            elif slot is not None and now.array is slot.symbol:
                continue
            elif key in written and not keep_grads and slot is None:
                used.append(owner)
            else:
                if slot is None:
                    slot = Slot("gradient", owner, self._input(now), -1, f"{self.names.get(key, '')}.grad")
                kept.append((slot, self.read(now)))
        return kept, cleared, used

    def put_back(self) -> None:
        """Every Tensor as it was before the step."""
        for owner, kind, array, rest in self.before:
            owner.__class__ = kind
            owner.__dict__.pop("symbol", None)
            if array is not None and owner.__dict__.get("array") is not array:  # another thread has written to it
                del rest["version"], rest["written_at"]
            for name, value in rest.items():
                setattr(owner, name, value)
        for owner, grad in self.grads.values():
            owner._grad = grad

    def check_leaks(self) -> None:
        """Raise TraceError where a value of the recording is still alive in the user's objects."""
        if all(ref() is None for ref, _ in self.made):
            return
        gc.collect()  # a cycle of dead objects is no leak
        for ref, symbol in self.made:
            value = ref()
            if value is not None:
                raise TraceError(
                    f"compile: a Tensor {words(value.array.shape)} made at {symbol.origin} outlives the step; expected what "
                    "is kept to be returned, or assigned to a Tensor that was there before (x.assign(y)); return it"
                )


def _check_mode(before: bool) -> None:
    """Raise TraceError where the step leaves gradients on or off for who called it: native code would not."""
    if grad_mode.get() != before:
        grad_mode.set(before)
        raise TraceError(
            f"compile: the step leaves gradients {'off' if before else 'on'} for its caller; expected them as they were; "
            f"write `with set_grad_enabled({not before}):` around what it is meant for"
        )


class Position(int):
    """Stands in a recorded result for the output of that number."""


def _place() -> Origin:
    return origin.get() or here()
