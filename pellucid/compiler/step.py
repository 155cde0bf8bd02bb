"""A compiled step: traced at its first call, it runs as native code from then on (floor 4).

A program belongs to a signature: the structure, shapes and dtypes of the arguments, the grad mode, the random generator in
use, and `state_version`, which every attribute set on a Module changes. Guards check the other Python state that the step
reads; a program is used as long as its guards hold (guards/). Another signature gets another program. Programs share the
Tensors they find.
"""

from __future__ import annotations

import threading
import time
import types
import warnings
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..core.op import new_value
from ..core.origin import user_origin
from ..core.sharing import Cell, strides_of
from ..core.state_version import state_version
from ..core.value import Value, current_tracer, grad_mode
from ..creation import stack
from ..errors import OptionError, PellucidError, TraceError, format_shape
from ..ops.index import rows, take
from ..ops.loop import tree_map
from ..random import stream
from ..tensor import Tensor
from .backends import BACKENDS, Program, Workspaces
from .guards import Guard, check_seconds, checker, most_costly
from .signature import argument_key, fingerprint, is_current, name_arguments, retrace_reason, tensor_names
from .trace.traced_step import Args, Function, IndexFault, Kwargs, TracedStep
from .trace.tracer import trace

if TYPE_CHECKING:
    from ..tensor.operands import TensorLike
    from .backends.cpu.profile import Kernels
    from .ir.graph import Graph
    from .signature import Signature

RETRACES = 3  # programs of one step before a warning names the cause
# A warning names guards that take more than this share of a step, and more than this many seconds.
MAX_GUARD_SHARE, MIN_GUARD_SECONDS = 0.02, 5e-6
MAX_PROGRAMS = 16  # of one signature, for different values of the guarded state
STATE_CHANGE_ERROR = (
    "{}: a compiled step writes {}, which it would do once and never again; expected Python's state to be as it was after "
    "each call; keep it in a Tensor (x.assign(y), x += 1), or write it outside of the step"
)


class CompiledStep:
    """What `compile` gives. Call it like the function.

    source: the user's function, where `function` wraps it. Names of Tensors and the state are read from its variables.
    """

    def __init__(
        self, function: Function, keep_grads: bool, disabled_passes: frozenset[str], source: Function | None = None
    ) -> None:
        self.function, self.keep_grads, self.disabled_passes = function, keep_grads, disabled_passes
        self.captured_paths: tuple[str, ...] = ()
        self.gives_views = True  # whether a result may be a view of an argument or of a Tensor from before the call
        self.of_many_shapes = False  # whether one program for each shape is expected, so that no warning is due
        self.backward_outside = True  # whether `backward()` may be called on a result, outside the step
        self.source = source or function
        # By signature: for each trace the check of its guards, its program, and the guards. The last used comes first.
        self.programs: dict[Signature, list[tuple[Callable[[], bool], Program, list[Guard]]]] = {}
        self.made: dict[Hashable, Program] = {}  # by fingerprint: several signatures may trace to the same program
        self.last: Program | None = None
        self.once: Program | None = None  # the program of the last trace that changed Python state, good for one call
        self._measuring: _GuardCost | None = None  # what the guards of the last trace cost
        self._state: set[int] = set()  # ids of Tensors that the function finds by itself; the programs keep them alive
        self._steps: CompiledStep | None = None  # what `run_steps` runs: it gathers the rows inside the program
        self._workspaces: Workspaces = (
            weakref.WeakKeyDictionary()
        )  # by executable: the programs of one step run one at a time and share memory
        self._lock = threading.RLock()
        self.__name__ = getattr(self.source, "__name__", type(self.source).__name__)
        self.__doc__ = self.source.__doc__

    def __call__(self, *args: object, **kwargs: object) -> Any:
        if current_tracer() is not None:  # inside another step that is being traced: part of that one
            return self.function(*args, **kwargs)
        with self._lock:
            tensors, program = self._lookup(args, kwargs)
            if self._measuring is not None:
                return self._measuring.run(self, program, tensors, args, kwargs)
            return self._run(program, tensors, args, kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> CompiledStep:
        """As a method: one compiled step for each object, which keeps its programs."""
        if instance is None:
            return self
        bound: _Bound = vars(instance).setdefault("_compiled_methods", _Bound())
        if self not in bound:
            bound[self] = self._with_function(types.MethodType(self.function, instance))
        return bound[self]

    def _with_function(self, function: Function) -> CompiledStep:
        """A compiled step of `function` with the same options."""
        return type(self)(function, self.keep_grads, self.disabled_passes)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.function, self.keep_grads, self.disabled_passes)  # a copy compiles anew

    def _raise_index_error(self, program: Program, calls: Iterable[tuple[Args, Kwargs]]) -> NoReturn:
        """Run the eager step on the calls whose index was out of range; it raises the error that says where.

        What it writes on the way is undone.
        """
        owners = [entry.owner for entry, _ in program.graph.writes if entry.kind == "state"]
        before = [(owner, owner.array) for owner in owners]
        for args, kwargs in calls:
            try:
                self.function(*args, **kwargs)
            finally:
                for owner, array in before:
                    owner.rebind(array)
        raise PellucidError(
            f"{self.__name__}: an index was out of range in the compiled step and is not in the eager one; "
            "expected both to be the same; please report it"
        )

    def run_steps(
        self, data: Tensor | Sequence[Tensor], indices: TensorLike, progress: Callable[[int], object] | None = None
    ) -> Any:
        """Run one step for each row of `indices`, on those rows of `data`: an epoch in one call, without Python in between.

        data: a Tensor (N, ...) or several, the arguments of the function, which sees the batch (B, ...) alone. They are
            not copied; a program depends neither on their number of rows nor on which Tensors they are.
        indices: whole numbers (S, B), the rows of each step. progress: called with the steps done, about every 50 ms.
        Returns what the function returns, off the tape, each Tensor stacked along a new first axis S. Raises OptionError for
        indices of another shape, and for data that require a gradient or that the step writes.
        """
        if current_tracer() is not None:
            raise TraceError(
                f"{self.__name__}: run_steps inside a step that is being traced; expected it outside; call the step itself "
                "in a loop there"
            )
        data = (data,) if isinstance(data, Tensor) else tuple(data)
        order = _order(indices)
        with self._lock:
            resident = [_resident(x, i, order) for i, x in enumerate(data)]
            counts = [new_value(np.array(len(x.array), np.int64)) for x in data]
            given = lambda row: [*resident, *counts, new_value(row)]
            if self._steps is None:
                self._steps = CompiledStep(_on_rows(self.function), self.keep_grads, self.disabled_passes, self.source)
                self._steps.backward_outside = False
            tensors, program = self._steps._lookup(tuple(given(order[0])), {})
            self.last = program
            _check_unwritten(program, data)
            try:
                if not program.is_whole or program is self._steps.once:
                    return self._one_by_one(program, tensors, given, order)
                return program.run_steps(tensors, order, progress)
            except IndexFault as fault:  # the number may be too low where a step writes nothing: look from there on
                rest = map(new_value, order[fault.args[0] :])
                self._raise_index_error(program, ((tuple(take(x, index) for x in data), {}) for index in rest))

    def _one_by_one(
        self, program: Program, tensors: list[Tensor], given: Callable[[np.ndarray], list[Tensor]], order: np.ndarray
    ) -> Any:
        """Run each step as a call, the first with `program` and `tensors`."""
        assert self._steps is not None
        results = []
        for number, row in enumerate(order):
            if number:
                tensors, program = self._steps._lookup(tuple(given(row)), {})
            try:
                results.append(_detached(program(tensors)))
            except IndexFault:
                raise IndexFault(number) from None
        return _stack(results)

    def _run(self, program: Program, tensors: list[Tensor], args: Args, kwargs: Kwargs) -> Any:
        try:
            return program(tensors)
        except IndexFault:
            self._raise_index_error(program, [(args, kwargs)])

    def _signature(self, args: Args, kwargs: Kwargs) -> tuple[list[Tensor], Signature]:
        """The Tensors of a call, and a key of everything else about it that a program depends on."""
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
        parts += [x for x in tensors if id(x) in self._state or (x.cell is not None and self._shares(x.cell))]
        return tensors, tuple(parts)

    def _shares(self, cell: Cell) -> bool:
        """Whether an argument shares memory with a Tensor that the function finds by itself."""
        return id(cell) in self._state or id(cell.tensors[0]()) in self._state

    def _lookup(self, args: Args, kwargs: Kwargs) -> tuple[list[Tensor], Program]:
        """The Tensors of a call and the program for it, which is traced now where there is none."""
        tensors, key = self._signature(args, kwargs)
        program = self._cached_program(key)
        if program is None:
            program = self._trace_and_compile(args, kwargs)
        if program.bindings.read:
            program.bindings.refuse_shared_gradients(tensors)
        self.last = program
        return tensors, program

    def _cached_program(self, key: Signature) -> Program | None:
        """The program of a signature whose guards hold."""
        cached = self.programs.get(key, [])
        for i, (check, program, _) in enumerate(cached):
            if check() and is_current(program.traced):
                if i:
                    cached.insert(0, cached.pop(i))
                return program
        return None

    def _trace_and_compile(self, args: Args, kwargs: Kwargs) -> Program:
        """Trace the step and cache its program.

        A program whose trace changed Python state is for this call alone, as with a mask that is made once. A second trace
        tells whether the step leaves that state alone from now on.
        """
        traced = self._trace(args, kwargs)
        if not traced.state_changes:
            return self._cache_program(traced, args, kwargs)
        once = self._program_for(traced)
        try:
            again = self._trace(args, kwargs)
            if again.state_changes:
                again.undo()
                raise TraceError(STATE_CHANGE_ERROR.format(*again.state_changes[0]))
        except BaseException:
            traced.undo()
            raise
        self.once = once if self._cache_program(again, args, kwargs) is not once else None
        return once

    def _trace(self, args: Args, kwargs: Kwargs) -> TracedStep:
        names = tensor_names(self.source)
        self._state.update(names)
        name_arguments(names, args, kwargs)
        differentiable = self.backward_outside and grad_mode.get()
        traced = trace(
            self.function, (args, kwargs), names, self.keep_grads, differentiable, self.source, self.gives_views
        )
        inputs = traced.graph.inputs
        owners = [entry.owner for entry in inputs if entry.kind == "state" or id(entry.owner) in traced.found_ids]
        self._state.update(map(id, owners))
        self._state.update(id(owner.cell) for owner in owners if owner.cell is not None)
        return traced

    def _cache_program(self, traced: TracedStep, args: Args, kwargs: Kwargs) -> Program:
        _, key = self._signature(args, kwargs)  # again: tracing may have set attributes, and found more state
        program = self._program_for(traced, key)
        cached = self.programs.setdefault(key, [])
        check = checker(traced.guards)
        cached.insert(0, (check, program, traced.guards))
        cost = check_seconds(check)
        self._measuring = _GuardCost(program, cost, traced.guards) if cost > MIN_GUARD_SECONDS else None
        for _, dropped, _ in cached[MAX_PROGRAMS:]:
            self._forget(dropped)
        del cached[MAX_PROGRAMS:]
        return program

    def _program_for(self, traced: TracedStep, key: Signature | None = None) -> Program:
        """The program for a trace, shared by equal traces. key: the signature it will be cached under."""
        key_of_trace = fingerprint(traced)
        program = self.made.get(key_of_trace)
        if program is None:
            expected = self.of_many_shapes or traced.padding is not None
            if len(self.made) == RETRACES and key is not None and not expected:
                origin = user_origin()
                warnings.warn_explicit(
                    f"{self.__name__} has been compiled {RETRACES} times already, each for other arguments ({retrace_reason(self.programs, key)}); "
                    "pass Tensors of few shapes, and numbers that change as Tensors",
                    UserWarning,
                    origin.file,
                    origin.line,
                )
            program = _make_program(traced, self.disabled_passes, self._workspaces)
            if key is not None:
                self.made[key_of_trace] = program
        return program

    def _forget(self, program: Program) -> None:
        """Drop a program that no signature uses any more."""
        if not any(program is other for cached in self.programs.values() for _, other, _ in cached[:MAX_PROGRAMS]):
            self.made = {about: other for about, other in self.made.items() if other is not program}

    # ---- looking inside ----

    @property
    def graph(self) -> Graph:
        """The graph of the program that ran last, after all passes; print it."""
        return self._last_program().graph

    def kernels(self, measure: bool = True) -> Kernels:
        """The kernels of the program that ran last, in order, each with its operations, layers, lines, cost and time.

        Print it for a table; each entry has `llvm()`, its native code as text. measure=False does not run anything.
        Raises OptionError for a program that is interpreted.
        """
        program = self._last_program()
        with self._lock:
            return program.kernels(measure, self.__name__)

    def _last_program(self) -> Program:
        if self.last is None:
            raise OptionError(f"{self.__name__}: nothing has been compiled yet; expected a call first; call it once")
        return self.last


class _GuardCost:
    """Warns where the guards of a step cost too much, and names the dearest."""

    def __init__(self, program: Program, cost: float, guards: list[Guard]) -> None:
        self.program, self.cost, self.guards = program, cost, guards
        self.best, self.runs = float("inf"), 0

    def run(self, step: CompiledStep, program: Program, tensors: list[Tensor], args: Args, kwargs: Kwargs) -> Any:
        """Call `program`. The third call of the measured one ends the measurement."""
        start = time.perf_counter()
        result = step._run(program, tensors, args, kwargs)
        if program is self.program:
            self.best, self.runs = min(self.best, time.perf_counter() - start), self.runs + 1
            if self.runs == 3:
                step._measuring = None
                if self.cost > MAX_GUARD_SHARE * self.best:
                    self._tell(step.__name__)
        return result

    def _tell(self, name: str) -> None:
        origin, most = user_origin(), ", ".join(map(str, most_costly(self.guards)[:3]))
        warnings.warn_explicit(
            f"{name}: each call of this compiled step spends {self.cost * 1e6:.0f} us on looking again at the Python "
            f"state it reads, {self.cost / self.best:.0%} of its time; most of it is {most}; keep numbers in a few "
            "attributes or in Tensors",
            UserWarning,
            origin.file,
            origin.line,
        )


class _Bound(dict[CompiledStep, CompiledStep]):
    """The compiled methods of one object, by the compiled step of its class. A copy of the object has none."""

    def __reduce__(self) -> tuple[object, ...]:
        return _Bound, ()


def _make_program(traced: TracedStep, disabled_passes: frozenset[str], workspaces: Workspaces) -> Program:
    """A native program. Without llvmlite, or with "native" disabled, an interpreted one."""
    if "native" not in disabled_passes:
        try:
            return BACKENDS["cpu"](traced, disabled_passes, workspaces)
        except ModuleNotFoundError as error:
            if error.name != "llvmlite":
                raise
            warnings.warn(
                "llvmlite is not installed, so compiled steps are interpreted; pip install llvmlite", stacklevel=5
            )
    return BACKENDS["interpreter"](traced, disabled_passes, workspaces)


def _on_rows(function: Function) -> Function:
    """`function` on gathered rows. Arguments: the first row of each Tensor of data, the number of rows of each, the index."""

    def on_rows(*given: Tensor) -> Any:
        *data, index = given
        half = len(data) // 2
        return function(*[rows(x, index, count) for x, count in zip(data[:half], data[half:], strict=True)])

    return on_rows


def _order(indices: TensorLike) -> np.ndarray:
    """Which rows each step takes, (S, B) int64."""
    try:
        order = np.asarray(indices.array if isinstance(indices, Tensor) else indices)
    except ValueError:
        raise OptionError(
            "run_steps: indices of different lengths; expected (steps, batch); leave out the shorter last batch"
        ) from None
    if order.ndim != 2 or not order.size:
        raise OptionError(
            f"run_steps: indices {format_shape(order.shape)}; expected (steps, batch), both at least 1; reshape them"
        )
    if order.dtype.kind not in "iu" or order.dtype == np.uint64:
        raise OptionError(f"run_steps: indices are {order.dtype}; expected whole numbers; convert them to int64")
    return np.ascontiguousarray(order, np.int64)


def _resident(x: Tensor, number: int, order: np.ndarray) -> Tensor:
    """The first row of data, in memory where the other rows follow it."""
    if not isinstance(x, Tensor):
        raise OptionError(
            f"run_steps: data {number} is a {type(x).__name__}; expected a Tensor; make it one with pellucid.tensor(...)"
        )
    if x.requires_grad:
        raise OptionError(
            f"run_steps: data {number} {format_shape(x.shape)} requires a gradient; expected data that only the step reads; "
            "pass x.detach()"
        )
    if not x.shape or not x.shape[0]:
        take(x, new_value(order[0]))  # says what is wrong
    return new_value(np.ascontiguousarray(x.array)[:1])


def _check_unwritten(program: Any, data: Sequence[Tensor]) -> None:
    """Raise OptionError where the step writes the data that it gathers rows from."""
    written = {id(entry.owner.cell or entry.owner) for entry, _ in program.graph.writes}
    for number, x in enumerate(data):
        if id(x.cell or x) in written:
            raise OptionError(
                f"run_steps: the step writes data {number} {format_shape(x.shape)}; expected data that stay as they are; "
                "pass a copy, x.clone(), or call the step in a loop"
            )


def _detached(result: object) -> Any:
    """A copy of the result of one step, which later steps cannot overwrite."""
    return tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, result)


def _stack(results: list[Any]) -> Any:
    """The results of many steps, each Tensor stacked along a new first axis."""
    return tree_map(lambda *values: stack(values) if isinstance(values[0], Value) else values[0], *results)
