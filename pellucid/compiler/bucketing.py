"""Length bucketing, `compile(step, pad=...)`: few programs for arguments whose length varies from call to call (floor 4).

This file chooses the arguments and the bucket. `passes/padding.py` rewrites the traced step.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
from collections.abc import Mapping

import numpy as np

from ..core.op import new_value
from ..core.value import Value
from ..errors import OptionError, PellucidError, format_shape, suggestion
from ..ops.loop import tree_map
from .options import StepOptions
from .passes.padded_axes import Lengths, bucket_size
from .passes.padding import pad_graph
from .step import CompiledStep
from .trace.traced_step import Args, Function, Kwargs, TracedStep


class BucketedStep(CompiledStep):
    """A compiled step with `pad`: {argument's name or position: axis}.

    Each length is traced once. It is compiled only where its bucket has not been compiled yet. A length of 1 gets its own
    program, and so does one whose bucket the step cannot run at, such as a bucket beyond a table of positions.
    """

    def __init__(
        self,
        function: Function,
        options: StepOptions,
        pad: Mapping[str | int, int],
        source: Function | None = None,
    ) -> None:
        super().__init__(function, dataclasses.replace(options, backward_outside=False, gives_views=False), source)
        self.pad = dict(pad)
        inner = self.source.forward if hasattr(self.source, "forward") else self.source
        self._names = list(inspect.signature(inner).parameters)
        for key, axis in self.pad.items():
            if not isinstance(axis, int) or isinstance(axis, bool):
                raise OptionError(f"compile: pad[{key!r}] is {axis!r}; expected an axis; write pad={{{key!r}: 1}}")
            if isinstance(key, str) and key not in self._names:
                raise OptionError(
                    f"compile: pad names {key!r}; expected one of {', '.join(self._names) or 'none'}."
                    f"{suggestion(key, self._names)}"
                )

    def _with_function(self, function: Function) -> CompiledStep:
        return BucketedStep(function, self.options, self.pad)

    def __reduce__(self) -> tuple[object, ...]:
        return BucketedStep, (self.function, self.options, self.pad)

    def _trace(self, args: Args, kwargs: Kwargs) -> TracedStep:
        traced = super()._trace(args, kwargs)
        padded = self._padded(args, kwargs)
        sizes = {x.shape[axis] for x, axis in padded.values()}
        if len(sizes) > 1:
            raise OptionError(
                f"compile: the axes that pad names are {format_shape(tuple(sorted(sizes)))} long; expected one length in a call; "
                "pad the shorter arguments yourself"
            )
        if traced.state_changes:  # for this call alone
            return traced
        native = "native" not in self.disabled_passes and importlib.util.find_spec("llvmlite") is not None
        if not native or not sizes or min(sizes) < 2:
            return traced
        (length,) = sizes
        size = bucket_size(length)
        try:
            other = super()._trace(*_resized(args, kwargs, padded, length - 1 if length == size else size))
        except PellucidError:
            return traced
        if other.state_changes:  # it caches what belongs to one length
            other.undo()
            return traced
        true, bucket = (other, traced) if length == size else (traced, other)
        lengths = Lengths(length - 1 if length == size else length, size)
        given = {position: axis for position, (_, axis) in padded.items()}
        graph, padding = pad_graph(true.graph, bucket.graph, lengths, given, length == size)
        guards, found_ids = true.guards + bucket.guards, true.found_ids | bucket.found_ids
        return dataclasses.replace(bucket, graph=graph, padding=padding, guards=guards, found_ids=found_ids)

    def _padded(self, args: Args, kwargs: Kwargs) -> dict[int, tuple[Value, int]]:
        """The arguments that are padded, by their position among the Tensors of a call, and the axis."""
        tensors: list[Value] = []
        tree_map(lambda x: tensors.append(x) if isinstance(x, Value) else None, [list(args), dict(kwargs)])
        padded = {}
        for key, axis in self.pad.items():
            position = self._names.index(key) if isinstance(key, str) else key
            x = kwargs[key] if key in kwargs else args[position] if position < len(args) else None
            if x is None:
                continue
            if not isinstance(x, Value) or not -x.ndim <= axis < x.ndim:
                what = format_shape(x.shape) if isinstance(x, Value) else type(x).__name__
                raise OptionError(
                    f"compile: pad names axis {axis} of argument {key!r}, which is {what}; expected a Tensor with that axis; "
                    "name another"
                )
            if x.requires_grad:
                raise OptionError(
                    f"compile: argument {key!r} {format_shape(x.shape)} is padded and requires a gradient; expected data; "
                    "pass x.detach(), or leave pad= out"
                )
            padded[next(i for i, t in enumerate(tensors) if t is x)] = (x, axis % x.ndim)
        return padded


def _resized(args: Args, kwargs: Kwargs, padded: dict[int, tuple[Value, int]], size: int) -> tuple[Args, Kwargs]:
    """The arguments with placeholders of another length. Nothing reads their numbers."""
    placeholders = {}
    for x, axis in padded.values():
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        placeholders[id(x)] = new_value(np.broadcast_to(np.zeros((), x.dtype), shape))
    swap = lambda leaf: placeholders.get(id(leaf), leaf)
    return tuple(tree_map(swap, list(args))), tree_map(swap, dict(kwargs))
