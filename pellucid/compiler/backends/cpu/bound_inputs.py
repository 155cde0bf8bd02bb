"""The inputs of a program, by what a call has to do for each (floor 4).

`bind_inputs` decides it once, when the program is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ....core.value import Symbol
from ....ops.index import rows
from ....tensor import ConsumedGradient, Tensor
from ...ir.graph import Graph, Input
from ...passes.padded_axes import Padding
from ...trace.outputs import GradientBindings
from .context import Context
from .memory_plan import INPUTS
from .storage import aligned

COPIED = 1 << 14  # bytes: copying a smaller argument is faster than asking NumPy for its address


@dataclass(frozen=True)
class StateInput:
    """A Tensor that the step finds by itself. index: in the context."""

    index: int
    tensor: Tensor
    is_written: bool


@dataclass(frozen=True)
class BoundInputs:
    """The inputs of a program, by kind. An index is one of the context, a position one among the arguments of a call.

    states: Tensors that the step finds by itself.
    passed: (index, position) of arguments that are read where they are.
    copied: (position, memory) of arguments that are copied. written: those of them that the step writes.
    gradients: (the traced Tensor, memory) of gradients that are read.
    written_gradients: (input, memory) of those that are written.
    cotangents: (index, number of the input).
    """

    states: list[StateInput] = field(default_factory=list)
    passed: list[tuple[int, int]] = field(default_factory=list)
    copied: list[tuple[int, np.ndarray]] = field(default_factory=list)
    written: list[tuple[int, np.ndarray]] = field(default_factory=list)
    gradients: list[tuple[Tensor, np.ndarray]] = field(default_factory=list)
    written_gradients: list[tuple[Input, np.ndarray]] = field(default_factory=list)
    cotangents: list[tuple[int, int]] = field(default_factory=list)

    @property
    def leaves_nothing_to_python(self) -> bool:
        """Whether a step reads and writes nothing but states and arguments that stay as they are."""
        return not (self.written or self.written_gradients or self.gradients)

    def set_arguments(self, context: Context, tensors: Sequence[Tensor]) -> None:
        """Give the context the arguments of a call."""
        table = context.table
        context.held = held = [tensors[position].array for _, position in self.passed]
        for i, (index, _) in enumerate(self.passed):
            array = held[i]
            if not array.flags.c_contiguous:
                array = held[i] = np.ascontiguousarray(array)
            table[index] = array.__array_interface__["data"][0]
        for position, memory in self.copied:
            np.copyto(memory, tensors[position].array)

    def set_gradients(self, bindings: GradientBindings, tensors: Sequence[Tensor]) -> None:
        """Copy the gradients that the step reads."""
        for traced_owner, memory in self.gradients:
            owner = bindings.resolve(traced_owner, tensors)
            if owner._grad is not None and owner._grad.__class__ is not ConsumedGradient:
                np.copyto(memory, owner._grad.array)

    def store_written(self, bindings: GradientBindings, tensors: Sequence[Tensor]) -> None:
        """Store what the step wrote into arguments and gradients."""
        for position, memory in self.written:
            tensors[position].assign(memory)
        for entry, memory in self.written_gradients:
            bindings.store_grad(entry, memory.copy(), tensors)
        bindings.apply_grad_state(tensors)


def bind_inputs(graph: Graph, padding: Padding | None, context: Context) -> BoundInputs:
    """Sort the inputs of `graph`. Those that are copied get their memory in the context now."""
    bound = BoundInputs()
    written = {id(entry) for entry, _ in graph.writes}
    resident = {s.inputs[0] for s in graph.symbols if s.op is rows}  # more rows lie behind them: never copied
    for number, entry in enumerate(graph.inputs):
        index, is_written = INPUTS + number, id(entry) in written
        if entry.kind == "state":
            bound.states.append(StateInput(index, entry.owner, is_written))
        elif entry.kind == "cotangent":
            bound.cotangents.append((index, number))
        elif not is_written and padding is None and _is_passed(entry, context, resident):
            bound.passed.append((index, entry.position))
        else:
            memory = aligned(entry.symbol.shape, entry.symbol.dtype)
            context.set_input(index, memory)
            _bind_copied(bound, entry, memory, is_written, padding)
    return bound


def _is_passed(entry: Input, context: Context, resident: set[Symbol]) -> bool:
    """Whether an argument is read where it is."""
    large = context.plan.slices[entry.symbol].size > COPIED
    return entry.kind == "argument" and (large or entry.symbol in resident)


def _bind_copied(
    bound: BoundInputs, entry: Input, memory: np.ndarray, is_written: bool, padding: Padding | None
) -> None:
    if entry.kind in ("scalar", "length"):
        memory[...] = entry.owner
    if entry.kind == "argument":
        within = memory if padding is None else padding.within(entry.position, memory)
        bound.copied.append((entry.position, within))
        if is_written:
            bound.written.append((entry.position, memory))
    elif is_written:
        bound.written_gradients.append((entry, memory))
    if entry.kind == "gradient":
        bound.gradients.append((entry.owner, memory))
