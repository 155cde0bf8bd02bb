"""A compiled step: traced at its first call, it runs as native code from then on (floor 4).

A program belongs to a signature: the structure, shapes and dtypes of the arguments, the grad mode, the random generator in
use, and `state_version`, which every attribute set on a Module changes. Guards check the other Python state that the step
reads; a program is used as long as its guards hold (guards/). Another signature gets another program. Programs share the
Tensors they find.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
import types
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..core.op import new_value
from ..core.value import current_tracer, grad_mode
from ..errors import OptionError, PellucidError, TraceError
from ..ops.index import take
from ..tensor import Tensor
from .backends import Program
from .backends.in_turn import assign_step, kept
from .many_steps import (
    Progress,
    check_unwritten,
    on_rows,
    refuse_as_data,
    resident_arguments,
    run_each,
    step_order,
    step_values,
)
from .options import StepOptions
from .program_cache import CachedTrace, ProgramCache
from .signature import Signature, name_arguments, signature_of, tensor_names
from .trace.traced_step import Args, Function, IndexFault, Kwargs, TracedStep
from .trace.tracer import trace

if TYPE_CHECKING:
    from ..tensor.operands import TensorLike
    from .backends.cpu.profile import Kernels
    from .ir.graph import Graph

STATE_CHANGE_ERROR = (
    "{}: a compiled step writes {}, which it would do once and never again; expected Python's state to be as it was after "
    "each call; keep it in a Tensor (x.assign(y), x += 1), or write it outside of the step"
)


class CompiledStep:
    """What `compile` gives. Call it like the function.

    source: the user's function, where `function` wraps it. Names of Tensors and the state are read from its variables.
    """

    captured_paths: tuple[str, ...] = ()

    def __init__(self, function: Function, options: StepOptions, source: Function | None = None) -> None:
        self.function, self.options = function, options
        self.source = source or function
        self.__name__ = getattr(self.source, "__name__", type(self.source).__name__)
        self.__doc__ = self.source.__doc__
        self.cache = ProgramCache(self.__name__, options)
        self.last: Program | None = None
        self.once: Program | None = None  # the program of the last trace that changed Python state, good for one call
        self._state: set[int] = set()  # ids of Tensors that the function finds by itself; the programs keep them alive
        self._lock = threading.RLock()

    # ---- the options and the programs, by their old places ----

    @property
    def keep_grads(self) -> bool:
        return self.options.keep_grads

    @property
    def disabled_passes(self) -> frozenset[str]:
        return self.options.disabled_passes

    @property
    def programs(self) -> dict[Signature, list[CachedTrace]]:
        return self.cache.by_signature

    @property
    def made(self) -> dict[Hashable, Program]:
        return self.cache.made

    # ---- a call ----

    def __call__(self, *args: object, **kwargs: object) -> Any:
        if current_tracer() is not None:  # inside another step that is being traced: part of that one
            return self.function(*args, **kwargs)
        with self._lock:
            tensors, program = self._lookup(args, kwargs)
            cost = self.cache.guard_cost
            if cost is None or cost.program is not program:
                return self._run(program, tensors, args, kwargs)
            result = cost.run(self.__name__, lambda: self._run(program, tensors, args, kwargs))
            if cost.is_known:
                self.cache.guard_cost = None
            return result

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
        return type(self)(function, self.options)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.function, self.options)  # a copy compiles anew

    def _run(self, program: Program, tensors: list[Tensor], args: Args, kwargs: Kwargs) -> Any:
        try:
            return program(tensors)
        except IndexFault:
            self._raise_index_error(program, [(args, kwargs)])

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

    # ---- many steps in one call ----

    def run_steps(
        self,
        data: Tensor | Sequence[Tensor] | None,
        indices: TensorLike,
        progress: Progress | None = None,
        per_step: Mapping[Tensor, TensorLike] | None = None,
    ) -> Any:
        """Run one step for each row of `indices`, on those rows of `data`: an epoch in one call, without Python in between.

        data: a Tensor (N, ...) or several, the arguments of the function, which sees the batch (B, ...) alone. They are
            not copied; a program depends neither on their number of rows nor on which Tensors they are. None for a function
            of the indices (B,) themselves, which takes its batch from where the data are.
        indices: whole numbers (S, B), the rows of each step. progress: called with the steps done, about every 50 ms.
            What it assigns, and what of Python's state it changes, counts from the next step on.
        per_step: {Tensor that the step reads: its value in each step, (S, ...)}, such as a learning rate. Afterwards it
            holds what it held before; nothing else may use it meanwhile.
        Returns what the function returns, off the tape, each Tensor stacked along a new first axis S. Raises OptionError for
        indices or values of another shape, and for data that require a gradient or that the step writes.
        """
        if current_tracer() is not None:
            raise TraceError(
                f"{self.__name__}: run_steps inside a step that is being traced; expected it outside; call the step itself "
                "in a loop there"
            )
        data = (data,) if isinstance(data, Tensor) else data if data is None else tuple(data)
        order = step_order(indices)
        values = step_values(per_step, len(order))
        refuse_as_data(values, data or ())
        with self._lock:
            step = self if data is None else self._on_rows
            given = lambda: [] if data is None else resident_arguments(data, order)

            def lookup(arguments: tuple[Tensor, ...]) -> tuple[list[Tensor], Program, bool]:
                tensors, self.last = step._lookup(arguments, {})
                check_unwritten(self.last, data or (), "data", "pass a copy, x.clone(), or call the step in a loop")
                return tensors, self.last, self.last is not step.once

            try:
                return run_each(lookup, given, order, values, progress)
            except IndexFault as fault:  # the number may be too low where a step writes nothing: look from there on
                with kept(values):
                    self._raise_index_error(self._last_program(), _calls(data, order, values, fault.args[0]))

    @functools.cached_property
    def _on_rows(self) -> CompiledStep:
        """What `run_steps` runs on data: it gathers the rows inside the program."""
        options = dataclasses.replace(self.options, backward_outside=False)
        return CompiledStep(on_rows(self.function), options, self.source)

    # ---- finding and making the program ----

    def _lookup(self, args: Args, kwargs: Kwargs) -> tuple[list[Tensor], Program]:
        """The Tensors of a call and the program for it, which is traced now where there is none."""
        tensors, key = signature_of(args, kwargs, self._state)
        program = self.cache.find(key)
        if program is None:
            program = self._trace_and_compile(args, kwargs)
        if program.bindings.read:
            program.bindings.refuse_shared_gradients(tensors)
        self.last = program
        return tensors, program

    def _trace_and_compile(self, args: Args, kwargs: Kwargs) -> Program:
        """Trace the step and cache its program.

        A program whose trace changed Python state is for this call alone, as with a mask that is made once. A second trace
        tells whether the step leaves that state alone from now on.
        """
        traced = self._trace(args, kwargs)
        if not traced.state_changes:
            return self._cache_program(traced, args, kwargs)
        once = self.cache.program_for(traced)
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
        options = self.options
        differentiable = options.backward_outside and grad_mode.get()
        traced = trace(
            self.function, (args, kwargs), names, options.keep_grads, differentiable, self.source, options.gives_views
        )
        inputs = traced.graph.inputs
        owners = [entry.owner for entry in inputs if entry.kind == "state" or id(entry.owner) in traced.found_ids]
        self._state.update(map(id, owners))
        self._state.update(id(owner.cell) for owner in owners if owner.cell is not None)
        return traced

    def _cache_program(self, traced: TracedStep, args: Args, kwargs: Kwargs) -> Program:
        _, key = signature_of(args, kwargs, self._state)  # again: tracing may have set attributes, and found more state
        return self.cache.add(traced, key)

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


def _calls(
    data: Sequence[Tensor] | None, order: np.ndarray, per_step: Mapping[Tensor, np.ndarray], first: int
) -> Iterator[tuple[Args, Kwargs]]:
    """The calls that `run_steps` stands for, from the step `first` on; the Tensors of `per_step` are assigned before each."""
    for step in range(first, len(order)):
        assign_step(per_step, step)
        index = new_value(order[step])
        yield (index,) if data is None else tuple(take(x, index) for x in data), {}


class _Bound(dict[CompiledStep, CompiledStep]):
    """The compiled methods of one object, by the compiled step of its class. A copy of the object has none."""

    def __reduce__(self) -> tuple[object, ...]:
        return _Bound, ()
