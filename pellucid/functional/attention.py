"""Scaled dot-product attention and its weights (floor 3). Letters: B batch, H heads, T queries, S keys."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar

import numpy as np

from ..core.op import Attributes
from ..errors import ShapeError, format_shape
from ..ops import attention
from ..tensor import Tensor, matmul
from .dropout import dropout


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
        result = attention.heads_first(attention.unpack(packed, attention.result_shapes(q, v)[:1])[0])
    result = result.reshape(*lead, q.shape[2], v.shape[3])
    editor = attention_editor.get()
    return result if editor is None else editor(result)


# The observer that `scaled_dot_product_attention` calls with its weights (*, T, S), if there is one.
attention_watcher: ContextVar[Callable[[Tensor], object] | None] = ContextVar("attention_watcher", default=None)
# What gives another result (*, T, E) in place of that of `scaled_dot_product_attention`, if there is one.
attention_editor: ContextVar[Callable[[Tensor], Tensor] | None] = ContextVar("attention_editor", default=None)


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
) -> tuple[tuple[Tensor, ...], Attributes]:
    mask = () if attn_mask is None else (_mask_in_four_axes(attn_mask, (*lead, q.shape[2], k.shape[2])),)
    scale = 1 / math.sqrt(max(q.shape[3], 1)) if scale is None else float(scale)
    return mask, {"causal": bool(is_causal), "scale": scale}


def _in_four_axes(
    query: Tensor, key: Tensor, value: Tensor, grouped: bool
) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
    """(B, H, T, D), (B, G, S, D), (B, G, S, E) for attention, and the leading axes of its result."""
    given = (query, key, value)
    what = f"scaled_dot_product_attention: query {format_shape(query.shape)}, key {format_shape(key.shape)}, value {format_shape(value.shape)}"
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
    """The mask reshaped so that it broadcasts to (B, H, T, S), for scores of `shape`."""
    fits = zip(mask.shape[::-1], shape[::-1], strict=False)
    if mask.ndim > len(shape) or any(have not in (1, want) for have, want in fits):
        raise ShapeError(
            f"scaled_dot_product_attention: attn_mask {format_shape(mask.shape)}; expected what broadcasts to {format_shape(shape)}; "
            "check its axes"
        )
    whole = (*[1] * max(len(shape) - mask.ndim, 4 - mask.ndim), *mask.shape)
    batch, rest = whole[:-3], whole[-3:]
    if math.prod(batch) != 1 and batch != shape[:-3]:
        mask, batch = mask.expand(*shape[:-3], *rest), shape[:-3]
    return mask.reshape(math.prod(batch), *rest)
