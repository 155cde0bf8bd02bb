"""Linear maps, embedding and one-hot encoding (floor 3). Letters: K classes, F features; `*` any further axes."""

from __future__ import annotations

from ..core.value import traced_or_array
from ..creation import arange, where
from ..errors import DTypeError, OptionError
from ..ops.index import check_index, take
from ..ops.movement import permute
from ..tensor import Tensor, matmul


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (*, in) @ weight (out, in) transposed + bias (out,) -> (*, out)."""
    y = matmul(
        x, permute(weight, axes=(1, 0)) if weight.ndim == 2 else weight.T
    )  # not a view: nothing can write through it
    return y if bias is None else y + bias


def embedding(index: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows of weight (V, C) at `index` (*) -> (*, C); the row `padding_idx` gets no gradient."""
    rows = take(weight, index)
    if padding_idx is None:
        return rows
    padding = (index == padding_idx % weight.shape[0]).unsqueeze(-1)
    return where(padding, rows.detach(), rows)


def one_hot(index: Tensor, num_classes: int = -1) -> Tensor:
    """int64 (*) -> int64 (*, K): 1 at the index, 0 elsewhere."""
    if index.dtype.kind not in "iu":
        raise DTypeError(f"one_hot: {index.dtype}; expected integers; convert with .long()")
    if num_classes == -1 and not index.numel():
        raise OptionError("one_hot: no numbers to count the classes of; expected num_classes; pass it")
    classes = int(traced_or_array(index).max()) + 1 if num_classes == -1 else num_classes
    message = f"one_hot: a class is {{}}; expected 0 to {classes - 1}; count from 0, or pass a larger num_classes"
    index = check_index(index, low=0, high=max(classes, 1), spare=None, message=message)
    return (index.unsqueeze(-1) == arange(classes)).long()
