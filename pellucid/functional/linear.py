"""Linear maps, embeddings and one-hot encoding (floor 3).

Letters: K classes, F features, B bags of L indices, V rows of C numbers; `*` any further axes.
"""

from __future__ import annotations

from ..core.value import traced_or_array
from ..creation import arange, cat, where
from ..errors import DTypeError, OptionError, ShapeError, format_shape
from ..ops.index import check_index, index_add, take
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


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    *,
    mode: str = "mean",
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The sum or mean of rows of weight (V, C) in each bag: input int64 (B, L) -> (B, C), a bag a row.

    Or input (N,) with offsets (B,): bag b begins at offsets[b] and ends where the next one begins; with
    `include_last_offset` offsets is (B + 1,), its last number the end of the last bag. An empty bag gives zeros.
    per_sample_weights: of the shape of input, for the mode "sum". padding_idx: this row is not in any bag.
    Raises OptionError for another mode, ShapeError for other shapes, DTypeError for an input not of integers, IndexRangeError
    for a number out of range.
    """
    _check_bags(input, offsets, mode, per_sample_weights)
    rows = take(weight, input)  # (B, L, C) or (N, C)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    counted = input == input if padding_idx is None else input != padding_idx % weight.shape[0]
    if padding_idx is not None:
        rows = where(counted.unsqueeze(-1), rows, 0)
    counts = counted.to(weight.dtype)
    if offsets is None:
        total, sizes = rows.sum(1), counts.sum(1)  # (B, C), (B,)
    else:
        bags = offsets.shape[0] - include_last_offset
        at = _bag_numbers(offsets, bags, input.shape[0])  # (N,)
        total = index_add(rows, at, shape=(bags + 1, weight.shape[1]))[:bags]
        sizes = index_add(counts, at, shape=(bags + 1,))[:bags]
    return total if mode == "sum" else total / sizes.clamp(min=1).unsqueeze(-1)


def _check_bags(input: Tensor, offsets: Tensor | None, mode: str, per_sample_weights: Tensor | None) -> None:
    if mode not in ("sum", "mean"):
        raise OptionError(
            f'embedding_bag: mode={mode!r}; expected "sum" or "mean"; for a maximum, use embedding and max'
        )
    for name, index in (("input", input), ("offsets", offsets)):
        if index is not None and index.dtype.kind not in "iu":
            raise DTypeError(f"embedding_bag: {name} is {index.dtype}; expected integers; convert with .long()")
    wanted, fix = (2, "pass offsets for bags of several lengths") if offsets is None else (1, "leave offsets out")
    if input.ndim != wanted:
        raise ShapeError(f"embedding_bag: input {format_shape(input.shape)} {'without' if offsets is None else 'with'} offsets; expected "
                         f"{wanted} axes; {fix}")  # fmt: skip
    if offsets is not None and offsets.ndim != 1:
        raise ShapeError(
            f"embedding_bag: offsets {format_shape(offsets.shape)}; expected (B,), where each bag begins; flatten it"
        )
    if per_sample_weights is None:
        return
    if mode != "sum":
        raise OptionError(
            f'embedding_bag: per_sample_weights with mode={mode!r}; expected mode="sum"; divide by the weights\' sum yourself'
        )
    if per_sample_weights.shape != input.shape:
        raise ShapeError(f"embedding_bag: per_sample_weights {format_shape(per_sample_weights.shape)}, input {format_shape(input.shape)}; "
                         "expected one weight for each index; reshape it")  # fmt: skip


def _bag_numbers(offsets: Tensor, bags: int, length: int) -> Tensor:
    """The bag of each of `length` indices; `bags` where it is in none, behind the last offset. int64 (N,)."""
    if bags < 1:
        raise ShapeError(
            f"embedding_bag: offsets {format_shape(offsets.shape)}; expected (B,), where each bag begins; pass one at least"
        )
    message = (
        f"embedding_bag: an offset is {{}}; expected 0 to {length}, the number of indices; count from the first one"
    )
    offsets = check_index(offsets, low=0, high=length + 1, spare=None, message=message)
    message = "embedding_bag: offsets begin at {}; expected 0, or some indices were in no bag; let them begin at 0"
    first = check_index(offsets[:1], low=0, high=1, spare=None, message=message)
    steps = offsets[1:] - offsets[:-1]
    message = "embedding_bag: an offset is {} beside the one before; expected offsets that do not fall; sort them"
    steps = check_index(steps, low=0, high=length + 1, spare=None, message=message)
    starts = cat([first, first + steps.cumsum(0)]) if offsets.shape[0] > 1 else first
    return (arange(length).unsqueeze(1) >= starts.unsqueeze(0)).long().sum(1) - 1  # (N, B) -> (N,)


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
