"""Multi-head attention, and the key-value cache for generation token by token (floor 4).

The arithmetic of attention stands in `functional/`, positional embeddings in `position.py`.
Letters: B batch, T queries, S keys, E channels, H heads, D = E / H channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import functional as F
from ..core.value import DTypeLike
from ..creation import arange, empty, tensor, where, zeros
from ..errors import DTypeError, OptionError, ShapeError, format_shape
from ..ops.index import check_index
from ..tensor import DeviceLike, Parameter, Tensor
from . import init
from .linear import Linear, check_input, positive_int
from .module import Module


class KeyValueCache(Module):
    """The keys and values (B, H, S, D) of a sequence so far, room for S tokens of which the first `position` are filled.

    Each step appends the keys and values of its new tokens, reads all, and masks its queries with `mask`. The sizes never
    change, so one compiled step serves every position. Not part of the saved state.
    """

    position: Tensor
    keys: Tensor
    values: Tensor

    def __init__(
        self, batch_size: int, num_heads: int, length: int, head_dim: int, dtype: DTypeLike | None = None
    ) -> None:
        super().__init__()
        sizes = {"batch_size": batch_size, "num_heads": num_heads, "length": length, "head_dim": head_dim}
        shape = [positive_int(size, "KeyValueCache", name) for name, size in sizes.items()]
        self.length = int(length)
        self.register_buffer("position", tensor(0), persistent=False)
        self.register_buffer("keys", zeros(*shape, dtype=dtype), persistent=False)
        self.register_buffer("values", zeros(*shape, dtype=dtype), persistent=False)

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append key and value (B, H, T, D), and give all (B, H, S, D). Raises ShapeError or DTypeError for others, IndexRangeError
        where the cache is full.
        """
        expected = (*self.keys.shape[:2], "T", self.keys.shape[3])
        for x in (key, value):
            if x.ndim != 4 or x.shape != (*self.keys.shape[:2], x.shape[2], self.keys.shape[3]):
                raise ShapeError(
                    f"KeyValueCache: key {format_shape(key.shape)}, value {format_shape(value.shape)}; expected "
                    f"({', '.join(map(str, expected))}) each; check the heads, or make the cache with other sizes"
                )
            check_input(x, self.keys.dtype)
        new = key.shape[2]
        start, slots = self.position.detach().clone(), arange(self.length)
        message = (f"KeyValueCache: {{}} positions; expected at most {self.length}; "
                   "make it longer, or reset() it for a new sequence")  # fmt: skip
        end = check_index(start + new, low=0, high=self.length + 1, spare=None, message=message)
        is_new = ((slots >= start) & (slots < end)).reshape(1, 1, -1, 1)
        index = (slots - start).clamp(0, max(new - 1, 0))
        at_positions = lambda x: x if x.shape[2] == 1 else x.index_select(2, index)
        keys = where(is_new, at_positions(key), self.keys.detach().clone())  # (B, H, S, D)
        values = where(is_new, at_positions(value), self.values.detach().clone())
        self.keys.assign(keys)
        self.values.assign(values)
        self.position.assign(end)
        return keys, values

    def mask(self, queries: int) -> Tensor:
        """(T, S), True where each of the last `queries` tokens may attend: at itself and earlier tokens."""
        rows = (self.position.detach() - queries + arange(queries)).unsqueeze(1)  # (T, 1)
        return arange(self.length) <= rows

    def reset(self) -> None:
        """Begin a new sequence; the former keys and values are masked."""
        self.position.assign(0)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.keys.shape))


class MultiheadAttention(Module):
    """Multi-head attention: queries attend to keys and average their values, in `num_heads` heads (Vaswani et al. 2017).

    in_proj_weight (3 E, E), or q_proj_weight (E, E), k_proj_weight (E, kdim) and v_proj_weight (E, vdim) where those
    differ from E, start Xavier-uniform; in_proj_bias (3 E,) and the bias of out_proj start at zero.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, add_bias_kv: bool = False,
        add_zero_attn: bool = False, kdim: int | None = None, vdim: int | None = None, batch_first: bool = False,
        device: DeviceLike | None = None, dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed_dim = positive_int(embed_dim, "MultiheadAttention", "embed_dim")
        self.num_heads = positive_int(num_heads, "MultiheadAttention", "num_heads")
        if self.embed_dim % self.num_heads:
            raise OptionError(f"MultiheadAttention: embed_dim={embed_dim}, num_heads={num_heads}; expected embed_dim to be "
                              f"a multiple of num_heads; {math.gcd(embed_dim, num_heads)} heads would do")  # fmt: skip
        if add_bias_kv or add_zero_attn:
            raise OptionError(f"MultiheadAttention: add_bias_kv={add_bias_kv}, add_zero_attn={add_zero_attn}; expected "
                              "False for both; append a key and a value of your own")  # fmt: skip
        self.dropout, self.batch_first = dropout, batch_first
        self.head_dim = self.embed_dim // self.num_heads
        self.kdim = self.embed_dim if kdim is None else positive_int(kdim, "MultiheadAttention", "kdim")
        self.vdim = self.embed_dim if vdim is None else positive_int(vdim, "MultiheadAttention", "vdim")
        e, joint = self.embed_dim, self.kdim == self.vdim == self.embed_dim
        self.register_parameter("in_proj_weight", Parameter(empty(3 * e, e, dtype=dtype)) if joint else None)
        for name, size in (("q", e), ("k", self.kdim), ("v", self.vdim)):
            self.register_parameter(f"{name}_proj_weight", None if joint else Parameter(empty(e, size, dtype=dtype)))
        self.register_parameter("in_proj_bias", Parameter(empty(3 * e, dtype=dtype)) if bias else None)
        self.out_proj = Linear(e, e, bias, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
        is_causal: bool = False, cache: KeyValueCache | None = None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """query (T, B, E), key (S, B, kdim), value (S, B, vdim); (B, T, E) ... with batch_first; or (T, E) ... for one.

        Gives the result, shaped as the query, and with need_weights the attention maps: (B, T, S), the mean over heads, or
        (B, H, T, S). key_padding_mask (B, S) and attn_mask (T, S) or (B H, T, S): bool, True where a query may not
        attend (the opposite of `scaled_dot_product_attention`), or numbers to add to the scores. is_causal: query t attends to
        keys 0 ... t only; it replaces attn_mask. cache: keys and values of earlier tokens, to which these are appended; each
        query attends to itself and earlier tokens. Raises ShapeError and DTypeError.
        """
        self._check(query, key, value)
        lead = query.ndim == 2
        first = lambda x: x.unsqueeze(0) if lead else x if self.batch_first else x.transpose(0, 1)
        q, k, v = (self._heads(first(x)) for x in self._projected(query, key, value))  # (B, H, T, D), (B, H, S, D)
        mask = self._mask(key_padding_mask, attn_mask, (*q.shape[:3], k.shape[2]), is_causal)
        if cache is not None:
            if key_padding_mask is not None or attn_mask is not None:
                raise OptionError("a mask together with a cache; expected one of them; leave the mask out")
            k, v = cache.append(k, v)
            mask, is_causal = cache.mask(q.shape[2]), False
        y = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0, is_causal)
        y = self.out_proj(y.transpose(1, 2).flatten(2))  # (B, T, E)
        y = y.squeeze(0) if lead else y if self.batch_first else y.transpose(0, 1)
        if not need_weights:
            return y, None
        maps = F.attention_weights(q, k, mask, is_causal)
        maps = maps.mean(1) if average_attn_weights else maps
        return y, maps.squeeze(0) if lead else maps

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        shapes, sizes = [], (self.embed_dim, self.kdim, self.vdim)
        for x in (query, key, value):
            check_input(x, self.out_proj.weight.dtype)
            shapes.append(x.shape)
        what = f"query {format_shape(query.shape)}, key {format_shape(key.shape)}, value {format_shape(value.shape)}"
        if query.ndim not in (2, 3) or any(x.ndim != query.ndim for x in (key, value)):
            form = "(B, T, E)" if self.batch_first else "(T, B, E)"
            raise ShapeError(f"{what}; expected {form} each, or (T, E) for one sequence; add the missing axes")
        if any(shape[-1] != size for shape, size in zip(shapes, sizes, strict=True)):
            raise ShapeError(f"{what}; expected {', '.join(map(str, sizes))} channels in the last axis; "
                             "check embed_dim, kdim and vdim")  # fmt: skip
        batch = 0 if self.batch_first else 1
        if key.shape[:-1] != value.shape[:-1] or (query.ndim == 3 and query.shape[batch] != key.shape[batch]):
            raise ShapeError(f"{what}; expected equal batches (axis {batch}), and a value for every key; "
                             f"check batch_first={self.batch_first}")  # fmt: skip

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> Sequence[Tensor]:
        """Queries, keys and values of all heads, (*, E) each: one product where they come from one Tensor."""
        bias = self.in_proj_bias
        if self.in_proj_weight is not None:
            if query is key and key is value:
                return F.linear(query, self.in_proj_weight, bias).chunk(3, -1)
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.num_heads, self.head_dim)).transpose(1, 2)  # (B, T, E) -> (B, H, T, D)

    def _mask(
        self, padding: Tensor | None, mask: Tensor | None, scores: tuple[int, ...], causal: bool
    ) -> Tensor | None:
        """Both masks as one for `scaled_dot_product_attention`, which broadcasts to `scores` (B, H, T, S).

        causal: `mask` only has to fit.
        """
        batch, heads, queries, keys = scores
        masks = []
        if padding is not None:
            expected = (batch, keys)
            if padding.shape not in (expected, expected[1:] if batch == 1 else expected):
                raise ShapeError(f"key_padding_mask {format_shape(padding.shape)}; expected {format_shape(expected)}; "
                                 "give it one row an example, with True for padding")  # fmt: skip
            masks.append(padding.reshape(batch, 1, 1, keys))
        if mask is not None:
            if mask.shape not in ((queries, keys), (batch * heads, queries, keys)):
                raise ShapeError(f"attn_mask {format_shape(mask.shape)}; expected {format_shape((queries, keys))} or "
                                 f"{format_shape((batch * heads, queries, keys))}; check its axes")  # fmt: skip
            if not causal:
                masks.append(mask.reshape(*((1, 1) if mask.ndim == 2 else (batch, heads)), queries, keys))
        for m in masks:
            if m.dtype.kind not in "bf":
                raise DTypeError(f"a mask is {m.dtype}; expected bool, or numbers to add; convert with .bool()")
        if len(masks) == 2 and masks[0].dtype != masks[1].dtype:
            masks = [where(m, -math.inf, 0.0) if m.dtype == np.bool_ else m for m in masks]
        if not masks:
            return None
        if masks[0].dtype == np.bool_:
            return ~(masks[0] if len(masks) == 1 else masks[0] | masks[1])
        return (masks[0] if len(masks) == 1 else masks[0] + masks[1]).to(self.out_proj.weight.dtype)
