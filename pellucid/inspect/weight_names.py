"""Names of single weights, `layers.0.weight[5,123]`: read, checked and written (floor 6)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import OptionError, format_shape, suggestion
from ..nn import Module

Index = tuple[int, ...]
MOST_NAMES = 16  # in an error


def weight_name(path: str, index: Index) -> str:
    """`layers.0.weight[5,123]`; the path alone of a weight without axes."""
    return f"{path}[{','.join(map(str, index))}]" if index else path


def find_weight(network: Module, weight: str | tuple[str, int | Index]) -> tuple[str, Index]:
    """The path and the index of a weight. Raises OptionError, with the names and shapes there are, for one that is not there."""
    parameters = dict(network.named_parameters())
    if isinstance(weight, str):
        match = re.fullmatch(r"\s*([^\[\]]+?)\s*(?:\[\s*([-0-9,\s]*)\])?\s*", weight)
        path = match[1] if match else weight
        cells = [cell.strip() for cell in (match[2] or "").split(",")] if match else []
        index = tuple(int(cell) for cell in cells if re.fullmatch("[0-9]+", cell))
        readable = match is not None and len(index) == len([cell for cell in cells if cell])
    else:
        path, given = weight
        index = tuple(int(i) for i in given) if isinstance(given, tuple | list) else (int(given),)
        readable = True
    if path not in parameters:
        some = [f"{name} {format_shape(p.shape)}" for name, p in parameters.items()]
        names = ", ".join(some[:MOST_NAMES]) + (
            f", and {len(some) - MOST_NAMES} more" if len(some) > MOST_NAMES else ""
        )
        raise OptionError(
            f"weight: no {path!r} in {type(network).__name__}; expected one of {names or 'none, it has no weights'}."
            f"{suggestion(path, list(parameters))}"
        )
    shape = parameters[path].shape
    inside = len(index) == len(shape) and all(0 <= i < size for i, size in zip(index, shape, strict=True))
    if not readable or not inside:
        example = weight_name(path, tuple(size - 1 for size in shape))
        raise OptionError(
            f"weight: {weight!r}; expected an index into {path} {format_shape(shape)}, counted from 0; write for example {example}"
        )
    return path, index


def weights_by_layer(network: Module, called: Sequence[str]) -> list[list[str]]:
    """The trained weights of each layer of `called`, those with axes to sum over alone where there are some.

    Raises OptionError where no layer has any.
    """
    layers: list[list[str]] = []
    modules = dict(network.named_modules())
    for path in called:
        own = {
            f"{path}.{n}" if path else n: p for n, p in modules[path].named_parameters(recurse=False) if p.requires_grad
        }
        matrices = [name for name, p in own.items() if p.ndim > 1]
        if own:
            layers.append(matrices or list(own))
    if not layers:
        raise OptionError(
            f"trace: {type(network).__name__} has no weights that are trained; expected some; call requires_grad_(True)"
        )
    return layers
