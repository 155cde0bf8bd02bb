"""Composites: attention, normalisation and what else layers compute, put together from the operations (floor 3).

None of these has a gradient rule of its own. Names, arguments and reductions are PyTorch's. `activations.py`, `losses.py` and
`spatial.py` (convolution and pooling) hold the others; all can be called from here.
Letters: B batch, K classes, C channels, F features, H W size; `*` any further axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from .activations import (
    elu,
    gelu,
    hardtanh,
    leaky_relu,
    log_softmax,
    logsigmoid,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from .creation import arange, where
from .errors import DTypeError, OptionError, ShapeError, words
from .losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_similarity,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from .modes import no_grad
from .op import content
from .ops import attention
from .ops.composite import standardise, statistics
from .ops.index import take, within
from .ops.movement import permute
from .random import Generator, keep_mask
from .spatial import (
    adaptive_avg_pool2d,
    affine_grid,
    avg_pool1d,
    avg_pool2d,
    conv1d,
    conv2d,
    conv_transpose2d,
    grid_sample,
    interpolate,
    max_pool1d,
    max_pool2d,
    pad,
)
from .tensor import Tensor, matmul

# ---- layers' arithmetic ----------------------------------------------------------------------------------------------


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (*, in) @ weight (out, in) transposed + bias (out,) -> (*, out)."""
    y = matmul(x, permute(weight, axes=(1, 0)) if weight.ndim == 2 else weight.T)  # a value: nobody can write it
    return y if bias is None else y + bias


def embedding(index: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows of weight (V, C) at `index` (*) -> (*, C); the row `padding_idx` gets no gradient."""
    rows = take(weight, index)
    if padding_idx is None:
        return rows
    padding = (index == padding_idx % weight.shape[0]).unsqueeze(-1)
    return where(padding, rows.detach(), rows)


def dropout(
    x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, generator: Generator | None = None
) -> Tensor:
    """Each number 0 with probability p, the others divided by 1 - p (Srivastava et al. 2014); x itself outside training."""
    if not 0 <= p <= 1:
        raise OptionError(f"dropout: p = {p}; expected a probability from 0 to 1; 0.1 to 0.5 are usual")
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0
    return where(keep_mask(x.shape, 1 - p, generator), x * (1 / (1 - p)), 0)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale query key^T + mask) value (Vaswani et al. 2017), without its matrix of weights (Dao et al. 2022).

    query (*, T, D), key (*, S, D), value (*, S, E) -> (*, T, E); the leading axes broadcast, the last of them the heads.
    enable_gqa: the query's heads may be a multiple of the key's, which groups of them share (Ainslie et al. 2023).
    attn_mask: what broadcasts to (*, T, S): bool, True where a query may look, or numbers to add to the scores.
    is_causal: query t looks at keys 0 ... t only; with attn_mask both hold. scale: 1 / sqrt(D) if None.
    dropout_p: with this probability a weight is 0, in evaluation too, as in PyTorch. A query that may look at nothing
    gives zeros. Raises ShapeError, DTypeError and OptionError.
    """
    watcher = attention_watcher.get()
    if watcher is not None:
        watcher(attention_weights(query, key, attn_mask, is_causal, scale, enable_gqa))
    q, k, v, lead = _in_four_axes(query, key, value, enable_gqa)
    mask, how = _mask_and_scale(q, k, lead, attn_mask, is_causal, scale)
    largest = max(q.shape[3], v.shape[3])
    if dropout_p or largest > attention.LARGEST_HEAD or any(m.requires_grad for m in mask):
        attention.check(attention.attention, q, k, v, *mask)
        weights = dropout(attention.weights(q, k, *mask, **how), dropout_p)
        result = matmul(weights, attention.repeated(v, q.shape[1]))
    else:
        packed = attention.attention(q, k, v, *mask, **how)
        result = attention.heads_first(attention.parts(packed, attention.result_shapes(q, v)[:1])[0])
    return result.reshape(*lead, q.shape[2], v.shape[3])


# What `scaled_dot_product_attention` hands its weights (*, T, S) to, where somebody wants to see them.
attention_watcher: ContextVar[Callable[[Tensor], Any] | None] = ContextVar("attention_watcher", default=None)


def attention_weights(
    query: Tensor,
    key: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The weights that `scaled_dot_product_attention` gives to the values, before dropout: (*, T, S)."""
    q, k, _, lead = _in_four_axes(query, key, key, enable_gqa)
    mask, how = _mask_and_scale(q, k, lead, attn_mask, is_causal, scale)
    attention.check(attention.attention, q, k, k, *mask)
    return attention.weights(q, k, *mask, **how).reshape(*lead, q.shape[2], k.shape[2])


def _mask_and_scale(
    q: Tensor, k: Tensor, lead: tuple[int, ...], attn_mask: Tensor | None, is_causal: bool, scale: float | None
) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    mask = () if attn_mask is None else (_mask_in_four_axes(attn_mask, (*lead, q.shape[2], k.shape[2])),)
    scale = 1 / math.sqrt(max(q.shape[3], 1)) if scale is None else float(scale)
    return mask, {"causal": bool(is_causal), "scale": scale}


def _in_four_axes(
    query: Tensor, key: Tensor, value: Tensor, grouped: bool
) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
    """(B, H, T, D), (B, G, S, D), (B, G, S, E) for attention, and the leading axes of its result."""
    given = (query, key, value)
    what = (
        f"scaled_dot_product_attention: query {words(query.shape)}, key {words(key.shape)}, value {words(value.shape)}"
    )
    if min(x.ndim for x in given) < (3 if grouped else 2):
        raise ShapeError(
            f"{what}; expected (*, length, channels) each, and heads before them with enable_gqa; unsqueeze"
        )
    own = 3 if grouped else 2  # axes that do not broadcast
    try:
        lead = np.broadcast_shapes(*(x.shape[: x.ndim - own] for x in given))
    except ValueError:
        hint = "enable_gqa=True shares heads" if not grouped else "check the leading axes"
        raise ShapeError(f"{what}; expected leading axes that are equal or 1; {hint}") from None
    batch = lead if grouped else lead[:-1]
    size = math.prod(batch)

    def four(x: Tensor) -> Tensor:
        heads = (x.shape[-3],) if grouped else lead[-1:]
        shape = (*batch, *heads, *x.shape[-2:])
        x = x if x.shape == shape else x.expand(*shape)
        return x if x.ndim == 4 else x.reshape(size, *(heads or (1,)), *x.shape[-2:])

    q, k, v = (four(x) for x in given)
    return q, k, v, (*batch, q.shape[1]) if grouped else lead


def _mask_in_four_axes(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A mask for scores of `shape`, as what broadcasts to (B, H, T, S)."""
    fits = zip(mask.shape[::-1], shape[::-1], strict=False)
    if mask.ndim > len(shape) or any(have not in (1, want) for have, want in fits):
        raise ShapeError(
            f"scaled_dot_product_attention: attn_mask {words(mask.shape)}; expected what broadcasts to {words(shape)}; "
            "check its axes"
        )
    whole = (*[1] * max(len(shape) - mask.ndim, 4 - mask.ndim), *mask.shape)
    batch, rest = whole[:-3], whole[-3:]
    if math.prod(batch) != 1 and batch != shape[:-3]:
        mask, batch = mask.expand(*shape[:-3], *rest), shape[:-3]
    return mask.reshape(math.prod(batch), *rest)


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) over the last axes, then scale and shift (Ba et al. 2016)."""
    axes = _last_axes(x, normalized_shape, "layer_norm")
    with no_grad():
        mean, variance = statistics(x, axes)
    return _scaled(standardise(x, mean, variance, axes=axes, groups=0, eps=eps), weight, bias)


def rms_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:  # fmt: skip
    """x / sqrt(mean of squares + eps) over the last axes, then scale (Zhang and Sennrich 2019)."""
    axes = _last_axes(x, normalized_shape, "rms_norm")
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    return _scaled(x / ((x * x).mean(axes, keepdim=True) + eps).sqrt(), weight, None)


def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """x (B, C, *), each example normalised over each of `num_groups` groups of channels (Wu and He 2018)."""
    if x.ndim < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise ShapeError(
            f"group_norm: input {words(x.shape)}, {num_groups} groups; expected (B, C, *) with C a multiple of them; "
            "check num_groups"
        )
    axes = tuple(range(2, x.ndim))
    with no_grad():
        mean, variance = statistics(x, axes, num_groups)
    y = standardise(x, mean, variance, axes=axes, groups=num_groups, eps=eps)
    return _scaled(y, _column(weight, x), _column(bias, x))


def local_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:  # fmt: skip
    """x (B, C, *) over (k + alpha mean of squares)^beta, the mean over `size` channels around each (Krizhevsky et al. 2012).

    Beyond the first and the last channel stand zeros, which count in the mean.
    """
    if x.ndim < 3 or size < 1:
        raise ShapeError(
            f"local_response_norm: input {words(x.shape)}, size {size}; expected (B, C, *) and at least 1 channel; "
            "check the axes and size"
        )
    x.check_floating("local_response_norm")
    squares = pad(x * x, (0, 0) * (x.ndim - 2) + (size // 2, (size - 1) // 2))
    total = squares[:, : x.shape[1]]
    for i in range(1, size):
        total = total + squares[:, i : i + x.shape[1]]
    return x / (total * (alpha / size) + k) ** beta


def _column(values: Tensor | None, like: Tensor) -> Tensor | None:
    """(C,) so that it broadcasts along the channels of (B, C, *)."""
    return None if values is None else values.reshape(1, -1, *(1,) * (like.ndim - 2))


def _last_axes(x: Tensor, normalized_shape: Sequence[int], what: str) -> tuple[int, ...]:
    shape = tuple(normalized_shape)
    if x.shape[max(x.ndim - len(shape), 0) :] != shape:
        raise ShapeError(
            f"{what}: input {words(x.shape)}; expected it to end in {words(shape)}; check normalized_shape"
        )
    return tuple(range(x.ndim - len(shape), x.ndim))


def _scaled(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def batch_norm(
    x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """x (B, C, *) with each channel brought to mean 0 and variance 1 (Ioffe and Szegedy 2015), then scale and shift.

    In training by the batch's own statistics, which also move `running_mean` and `running_var` (unbiased) by `momentum`;
    otherwise by the running ones.
    """
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: input {words(x.shape)}; expected (B, C, *); unsqueeze it")
    column = (1, -1, *(1,) * (x.ndim - 2))
    if training or running_mean is None or running_var is None:
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        n = x.numel() // max(x.shape[1], 1)
        if training and n < 2:
            raise ShapeError(
                f"batch_norm: input {words(x.shape)} has {n} value a channel; expected at least 2 in training; "
                "use a larger batch, or eval()"
            )
        with no_grad():
            mean, variance = statistics(x, axes)
            if training and running_mean is not None and running_var is not None:
                running_mean.assign(running_mean.lerp(mean.reshape(-1), momentum))
                running_var.assign(running_var.lerp(variance.reshape(-1) * (n / (n - 1)), momentum))
        y = standardise(x, mean, variance, axes=axes, groups=0, eps=eps)
    else:
        y = (x - running_mean.reshape(column)) * (running_var.reshape(column) + eps).rsqrt()
    return _scaled(y, _column(weight, x), _column(bias, x))


def normalize(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x divided by its p-norm along `dim`, or by eps where that is larger."""
    return x / x.norm(p, dim, keepdim=True).clamp(min=eps)


def one_hot(index: Tensor, num_classes: int = -1) -> Tensor:
    """int64 (*) -> int64 (*, K): 1 at the index, 0 elsewhere."""
    if index.dtype.kind not in "iu":
        raise DTypeError(f"one_hot: {index.dtype}; expected integers; convert with .long()")
    if num_classes == -1 and not index.numel():
        raise OptionError("one_hot: no numbers to count the classes of; expected num_classes; pass it")
    classes = int(content(index).max()) + 1 if num_classes == -1 else num_classes
    message = f"one_hot: a class is {{}}; expected 0 to {classes - 1}; count from 0, or pass a larger num_classes"
    index = within(index, low=0, high=max(classes, 1), spare=None, message=message)
    return (index.unsqueeze(-1) == arange(classes)).long()


# ---- methods as functions, as PyTorch's users write them ---------------------------------------------------------------


def _method(name: str) -> Callable[..., Any]:
    def function(x: Tensor, *arguments: Any, **options: Any) -> Any:
        if not isinstance(x, Tensor):
            raise DTypeError(
                f"{name}: first came {x!r:.60}, a {type(x).__name__}; expected a Tensor; write tensor(...)"
            )
        return getattr(x, name)(*arguments, **options)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`x.{name}(...)` as a function."
    return function


METHODS = (
    "abs", "add", "all", "allclose", "amax", "amin", "any", "argmax", "argmin", "argsort", "broadcast_to", "ceil",
    "chunk", "clamp", "clip", "clone", "cos", "cumsum", "div", "dot", "eq", "equal", "erf", "exp", "expm1", "flatten",
    "flip", "floor", "gather", "ge", "gt", "index_select", "isclose", "isfinite", "isinf", "isnan", "le", "lerp",
    "log", "log10", "log1p", "log2", "logical_and", "logical_not", "logical_or", "logsumexp", "lt", "masked_fill",
    "masked_select", "max", "maximum", "mean", "min", "minimum", "movedim", "mul", "mv", "narrow", "ne", "neg",
    "nonzero", "norm", "numel", "outer", "permute", "pow", "prod", "reciprocal", "remainder", "repeat_interleave",
    "reshape", "roll", "round", "rsqrt", "scatter_add", "sign", "sin", "sort", "split", "sqrt", "square", "squeeze",
    "std", "sub", "sum", "t", "tan", "topk", "transpose", "tril", "triu", "trunc", "unbind", "unique", "unsqueeze",
    "var",
)  # fmt: skip

methods = {name: _method(name) for name in METHODS}

__all__ = [
    "adaptive_avg_pool2d",
    "affine_grid",
    "attention_weights",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "grid_sample",
    "group_norm",
    "hardtanh",
    "huber_loss",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log_softmax",
    "logsigmoid",
    "max_pool1d",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "relu",
    "rms_norm",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "tanh",
]
