"""`summary(model, input_size)`: each layer's path, parameters and, from one forward pass, output shape (floor 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from ..creation import zeros
from ..errors import OptionError, format_shape
from ..nn import Module
from ..tensor import Tensor
from .undisturbed import undisturbed

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One layer: its dotted path, kind, output shapes and own parameters.

    outputs: those of the first call, more than one where it gives several Tensors; none where it was not called.
    """

    path: str
    kind: str
    outputs: tuple[Shape, ...]
    parameters: int
    trainable: int


@dataclass(frozen=True)
class Summary:
    """The rows, and what they add up to; a Parameter shared by two layers counts once. `print` shows a table.

    bytes: what the parameters and buffers take.      run: whether there was a forward pass.
    """

    rows: tuple[Row, ...]
    parameters: int
    trainable: int
    bytes: int
    run: bool = True

    def __str__(self) -> str:
        cells = [("layer", "kind", "output", "parameters")]
        for row in self.rows:
            outputs = ", ".join(map(format_shape, row.outputs)) or ("not called" if self.run else "-")
            cells.append((row.path, row.kind, outputs, f"{row.parameters:,}" if row.parameters else "-"))
        widths = [max(len(row[column]) for row in cells) for column in range(4)]
        lines = [
            "  ".join([*(row[i].ljust(widths[i]) for i in range(3)), row[3].rjust(widths[3])]).rstrip() for row in cells
        ]
        rule = "-" * (sum(widths) + 6)
        return "\n".join([lines[0], rule, *lines[1:], rule, self.total])

    __repr__ = __str__

    @property
    def total(self) -> str:
        return f"{self.parameters:,} parameters, {self.trainable:,} of them trained, {_size(self.bytes)}"


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def summary(
    model: Module, input: Any = None, *, input_size: Sequence[int] | Sequence[Sequence[int]] | None = None
) -> Summary:
    """Run `model` once on `input` and list the shapes of all outputs, with the batch axis.

    input: a Tensor, a tuple of arguments for a model that takes several, or a shape. input_size: a shape, or a list of
    them; shapes are filled with float32 zeros. The pass is in eval mode and off the tape, and leaves the model, its mode
    and the random numbers as they were. Without either nothing is run and the parameters are counted, which needs no
    numbers in them: see `nn.init.init_empty_weights`.
    """
    if input is None and input_size is None:
        return _collect(model, {}, False)
    inputs = _filled(input_size) if input is None else _inputs(input)
    outputs: dict[int, tuple[Shape, ...]] = {}

    def collect(module: Module, _: object, output: object) -> None:
        outputs.setdefault(id(module), tuple(_shapes(output)))

    hooks = [module.register_forward_hook(collect) for module in model.modules()]
    try:
        with undisturbed(model):
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return _collect(model, outputs, True)


def _is_shape(value: object) -> TypeGuard[Sequence[int]]:
    return isinstance(value, list | tuple) and bool(value) and all(type(size) is int for size in value)


def _inputs(input: Any) -> tuple[Any, ...]:
    if _is_shape(input):
        return _filled(input)
    return input if isinstance(input, tuple) else (input,)


def _filled(size: object) -> tuple[Tensor, ...]:
    if _is_shape(size):
        return (zeros(*size),)
    if isinstance(size, list | tuple) and size and all(map(_is_shape, size)):
        return tuple(zeros(*one) for one in size)
    raise OptionError(
        f"summary: input_size {size!r}; expected a shape with its batch axis, or a list of them; pass (1, 784), say"
    )


def _shapes(output: object) -> list[Shape]:
    """The shapes of all Tensors in `output`, in order."""
    if isinstance(output, Tensor):
        return [output.shape]
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, list | tuple) else ()
    return [shape for part in parts for shape in _shapes(part)]


def _collect(model: Module, outputs: dict[int, tuple[Shape, ...]], run: bool) -> Summary:
    """A row for every layer that holds no others or has Parameters of its own."""
    rows = []
    counted: set[int] = set()
    for path, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in counted]
        counted.update(map(id, own))
        if own or next(module.children(), None) is None:
            kind = type(module).__name__
            trainable = sum(p.numel() for p in own if p.requires_grad)
            rows.append(Row(path or kind, kind, outputs.get(id(module), ()), sum(p.numel() for p in own), trainable))
    return Summary(
        rows=tuple(rows),
        parameters=sum(row.parameters for row in rows),
        trainable=sum(row.trainable for row in rows),
        bytes=sum(value.numel() * value.element_size() for value in (*model.parameters(), *model.buffers())),
        run=run,
    )
