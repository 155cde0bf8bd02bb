"""What a backend is: it makes a Program of a traced step (floor 4).

A backend receives the step as it was recorded and runs the passes that it wants. What it gives keeps to `Program`, so that
`step.py` knows no backend. A backend in NumPy extends `InterpretedProgram` and assigns its `graph`, such as
`Pipeline(PASSES, {}).run(traced.graph, disabled_passes, traced.inference)`; names of passes that it does not have are ignored.
`kernels` raises an error of its own where there are none. `tests/compiler/test_backends.py` runs one suite over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Protocol

import numpy as np

from ...tensor import Tensor
from ..ir.graph import Graph
from ..trace.outputs import GradientBindings
from ..trace.traced_step import TracedStep

# Memory that the programs of one step share, since they run one at a time. What is in it is the backend's own.
Workspaces = MutableMapping[Any, Any]


class Program(Protocol):
    """A traced step that can be called.

    graph: after the backend's passes. bindings: where gradients are read and written. is_whole: whether `run_steps` works;
    else each step is a call.
    """

    traced: TracedStep
    graph: Graph
    bindings: GradientBindings

    @property
    def is_whole(self) -> bool: ...

    def __call__(self, tensors: Sequence[Tensor]) -> Any:
        """The step's return value for these arguments; its writes are done.

        Raises IndexFault for an index out of range; nothing is written then.
        """

    def run_steps(
        self, tensors: Sequence[Tensor], indices: np.ndarray, per_step: Mapping[Tensor, np.ndarray]
    ) -> tuple[Any, int]:
        """Steps of the first rows of `indices` (S, B), each of which replaces the last of `tensors`; one at least, and for about
        50 ms. Gives their results stacked along a new first axis, and how many they are.

        per_step: the value in each step, (S, ...), of Tensors that the step reads, such as learning rates; what else it names
        does not matter. It may leave other numbers in them. Raises IndexFault with the number of the first bad step.
        """

    def kernels(self, measure: bool, name: str) -> Any:
        """What it runs, kernel by kernel, as `CompiledStep.kernels` gives it; measure=False runs nothing. Raises OptionError, which names the step, where there is no native code."""


# Makes the Program of a traced step, without the passes named; the last argument is the memory of its step.
Backend = Callable[[TracedStep, frozenset[str], Workspaces], Program]
