"""Compiled functions of arguments whose length varies: few programs for many lengths (floor 4).

`padding.py` says what is done to the recorded step; this file says which arguments, and which lengths.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..core.op import new_value
from ..core.value import Value
from ..errors import OptionError, PellucidError, format_shape, suggestion
from ..ops.loop import tree_map
from .passes.padded_axes import Lengths, bucket_size
from .passes.padding import pad_graph
from .step import CompiledStep
from .trace.traced_step import TracedStep


class BucketedStep(CompiledStep):
    """A compiled step with `pad`: {argument's name or position: axis}.

    Each length is recorded once, and costs a compilation only where no other length of its bucket has been seen. A length
    of 1, or one whose bucket the step cannot run at, such as one beyond a table of positions, is a program of its own.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        keep_grads: bool,
        disabled_passes: frozenset[str],
        pad: Mapping[str | int, int],
        source: Any = None,
    ) -> None:
        super().__init__(function, keep_grads, disabled_passes, source)
        self.pad = dict(pad)
        self.backward_outside = self.gives_views = False
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

    def _again(self, function: Callable[..., Any]) -> CompiledStep:
        return BucketedStep(function, self.keep_grads, self.disabled_passes, self.pad)

    def __reduce__(self) -> Any:
        return BucketedStep, (self.function, self.keep_grads, self.disabled_passes, self.pad)

    def _recorded(self, args: Any, kwargs: Any) -> TracedStep:
        traced = super()._recorded(args, kwargs)
        chosen = self._chosen(args, kwargs)
        sizes = {x.shape[axis] for x, axis in chosen.values()}
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
            other = super()._recorded(*_resized(args, kwargs, chosen, length - 1 if length == size else size))
        except PellucidError:
            return traced
        if other.state_changes:  # it keeps what belongs to one length
            other.undo()
            return traced
        true, bucket = (other, traced) if length == size else (traced, other)
        lengths = Lengths(length - 1 if length == size else length, size)
        given = {position: axis for position, (_, axis) in chosen.items()}
        graph, padding = pad_graph(true.graph, bucket.graph, lengths, given, length == size)
        guards, found_ids = true.guards + bucket.guards, true.found_ids | bucket.found_ids
        return dataclasses.replace(bucket, graph=graph, padding=padding, guards=guards, found_ids=found_ids)

    def _chosen(self, args: Any, kwargs: Any) -> dict[int, tuple[Any, int]]:
        """The arguments that are padded, by their position among the Tensors of a call, and the axis."""
        tensors: list[Any] = []
        tree_map(lambda x: tensors.append(x) if isinstance(x, Value) else None, [list(args), dict(kwargs)])
        found = {}
        for key, axis in self.pad.items():
            place = self._names.index(key) if isinstance(key, str) else key
            x = kwargs[key] if key in kwargs else args[place] if place < len(args) else None
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
            found[next(i for i, t in enumerate(tensors) if t is x)] = (x, axis % x.ndim)
        return found


def _resized(args: Any, kwargs: Any, chosen: dict[int, tuple[Any, int]], size: int) -> tuple[Any, Any]:
    """The arguments with stand-ins of another length, whose numbers nobody reads."""
    stand_ins = {}
    for x, axis in chosen.values():
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        stand_ins[id(x)] = new_value(np.broadcast_to(np.zeros((), x.dtype), shape))
    swap = lambda leaf: stand_ins.get(id(leaf), leaf)
    return tuple(tree_map(swap, list(args))), tree_map(swap, dict(kwargs))
