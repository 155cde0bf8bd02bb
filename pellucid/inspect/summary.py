"""`summary(model, input_size)`: each layer's path, output shape and parameters, from one forward pass (floor 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..creation import zeros
from ..errors import OptionError, words
from ..modes import no_grad
from ..nn import Module
from ..tensor import Tensor


@dataclass(frozen=True)
class Row:
    """One layer: its dotted path, kind, output shape (None where it was not called) and own parameters."""

    path: str
    kind: str
    output: tuple[int, ...] | None
    parameters: int


@dataclass(frozen=True)
class Summary:
    """The rows, and what they add up to; a Parameter shared by two layers counts once. `print` shows a table."""

    rows: tuple[Row, ...]
    parameters: int
    trainable: int
    bytes: int

    def __str__(self) -> str:
        cells = [("layer", "kind", "output", "parameters")]
        cells += [
            (row.path, row.kind, "-" if row.output is None else words(row.output), f"{row.parameters:,}")
            for row in self.rows
        ]
        widths = [max(len(row[column]) for row in cells) for column in range(4)]
        lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=False)), row[3].rjust(widths[3])])
                 for row in cells]  # fmt: skip
        total = f"{self.parameters:,} parameters, {self.trainable:,} trained, {self.bytes / 1e6:.2f} MB"
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "-" * len(lines[0]), total])

    __repr__ = __str__


def summary(model: Module, input: Any) -> Summary:
    """Run `model` once on `input` (a Tensor, a tuple of Tensors, or a shape to fill with zeros) and tell what passed.

    The pass is in eval mode, off the tape, and leaves the model as it was. Shapes include the batch axis.
    """
    inputs = _inputs(input)
    modes = {module: module.training for module in model.modules()}
    names = {id(module): name for name, module in model.named_modules()}
    shapes: dict[int, tuple[int, ...] | None] = {}

    def seen(module: Module, _: Any, output: Any) -> None:
        shapes.setdefault(id(module), output.shape if isinstance(output, Tensor) else None)

    hooks = [module.register_forward_hook(seen) for module in modes]
    try:
        with no_grad():
            model.eval()(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return _collect(model, names, shapes)


def _inputs(input: Any) -> tuple[Any, ...]:
    if isinstance(input, Tensor):
        return (input,)
    if isinstance(input, Sequence) and all(isinstance(size, int) for size in input):
        return (zeros(*input),)
    if isinstance(input, tuple) and all(isinstance(value, Tensor) for value in input):
        return input
    raise OptionError(
        f"summary: input {input!r}; "
        "expected a Tensor, a tuple of Tensors or a shape with the batch axis; pass (1, 784), say"
    )


def _collect(model: Module, names: dict[int, str], shapes: dict[int, tuple[int, ...] | None]) -> Summary:
    rows, counted = [], set()
    for module in model.modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in counted]
        counted.update(id(p) for p in own)
        leaf = not any(True for _ in module.children())
        if leaf or own:
            kind = type(module).__name__
            rows.append(Row(names[id(module)] or kind, kind, shapes.get(id(module)), sum(p.numel() for p in own)))
    parameters = list(model.parameters())
    return Summary(
        rows=tuple(rows),
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        bytes=sum(p.numel() * p.element_size() for p in parameters),
    )
