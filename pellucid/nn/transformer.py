"""The Transformer: encoder and decoder layers, and stacks of them (Vaswani et al. 2017) (floor 4).

`MultiheadAttention` is in `attention.py`, positional embeddings are in `position.py`. Masks and `is_causal` have the same
meaning as for `MultiheadAttention`. The constructors have PyTorch's arguments.

Shapes: B batch, T and S lengths of the two sequences, E = d_model channels, H = nhead heads. A sequence is (T, B, E), or
(B, T, E) with batch_first.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np

from .. import functional as F
from ..core.value import DTypeLike
from ..errors import OptionError
from ..tensor import DeviceLike, Tensor
from . import init
from .attention import MultiheadAttention
from .container import ModuleList
from .dropout import Dropout
from .linear import Linear, positive_int
from .module import Module
from .norm import LayerNorm

Activation = str | Callable[[Tensor], Tensor]


def _activation(given: Activation, owner: str) -> Callable[[Tensor], Tensor]:
    known: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}
    if callable(given):
        return given
    if given not in known:
        raise OptionError(f'{owner}: activation={given!r}; expected "relu", "gelu" or a function; pass F.silu, say')
    return known[given]


class _Layer(Module):
    """Base of the encoder layer and the decoder layer.

    A layer is a sequence of sublayers: one or two attentions, then a feed-forward network of two Linear layers. Each
    sublayer has a residual connection, a layer norm and a dropout of its own (`norm1` and `dropout1` for the first).

    attentions: the attribute names of the attentions.
    """

    def __init__(
        self, attentions: Sequence[str], d_model: int, nhead: int, dim_feedforward: int, dropout: float, activation: Activation,
        layer_norm_eps: float, batch_first: bool, norm_first: bool, bias: bool, dtype: DTypeLike | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.norm_first, self.activation = norm_first, _activation(activation, type(self).__name__)
        for name in attentions:
            attention = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
            setattr(self, name, attention)
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=dtype)
        sublayers = range(1, len(attentions) + 2)
        for i in sublayers:
            setattr(self, f"norm{i}", LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype))
        for i in sublayers:
            setattr(self, f"dropout{i}", Dropout(dropout))

    def _residual(self, x: Tensor, norm: Module, dropout: Module, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """A sublayer with its residual connection: norm(x + sublayer(x)), as in the paper.

        With norm_first it is x + sublayer(norm(x)) (Xiong et al. 2020). The sublayer's output goes through `dropout`.
        """
        if self.norm_first:
            return x + dropout(sublayer(norm(x)))
        return norm(x + dropout(sublayer(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))  # (*, E) -> (*, dim_feedforward) -> (*, E)


class TransformerEncoderLayer(_Layer):
    """Self-attention, then a feed-forward network on each position: (T, B, E) -> (T, B, E)."""

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1, activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5, batch_first: bool = False, norm_first: bool = False, bias: bool = True,
        device: DeviceLike | None = None, dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            ("self_attn",), d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, dtype
        )  # fmt: skip

    def forward(
        self, src: Tensor, src_mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """src_mask (T, T) or (B H, T, T); src_key_padding_mask (B, T)."""
        self_attention = lambda x: self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[
            0
        ]
        x = self._residual(src, self.norm1, self.dropout1, self_attention)
        return self._residual(x, self.norm2, self.dropout2, self._feed_forward)


class TransformerDecoderLayer(_Layer):
    """Self-attention, cross-attention to `memory` (the encoder's output), then a feed-forward network on each position.

    (T, B, E), (S, B, E) -> (T, B, E).
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1, activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5, batch_first: bool = False, norm_first: bool = False, bias: bool = True,
        device: DeviceLike | None = None, dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            ("self_attn", "multihead_attn"), d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, dtype
        )  # fmt: skip

    def forward(
        self, tgt: Tensor, memory: Tensor, tgt_mask: Tensor | None = None, memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None, memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False, memory_is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """memory (S, B, E).

        tgt_mask (T, T) or (B H, T, T); memory_mask (T, S) or (B H, T, S). tgt_key_padding_mask (B, T);
        memory_key_padding_mask (B, S).
        """
        self_attention = lambda x: self.self_attn(
            x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal
        )[0]
        cross_attention = lambda x: self.multihead_attn(
            x, memory, memory, memory_key_padding_mask, False, memory_mask, is_causal=memory_is_causal
        )[0]
        x = self._residual(tgt, self.norm1, self.dropout1, self_attention)
        x = self._residual(x, self.norm2, self.dropout2, cross_attention)
        return self._residual(x, self.norm3, self.dropout3, self._feed_forward)


def _copies(layer: Module, count: int, owner: str) -> ModuleList:
    return ModuleList([copy.deepcopy(layer) for _ in range(positive_int(count, owner, "num_layers"))])


class TransformerEncoder(Module):
    """A stack of `num_layers` copies of a layer, each with its own weights; then `norm`, if it is given.

    enable_nested_tensor, mask_check: PyTorch's; they have no effect.
    """

    def __init__(
        self, encoder_layer: Module, num_layers: int, norm: Module | None = None, enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.layers = _copies(encoder_layer, num_layers, "TransformerEncoder")
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self, src: Tensor, mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:  # fmt: skip
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, bool(is_causal))
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """A stack of `num_layers` copies of a layer, which all attend to the same `memory`; then `norm`, if it is given."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = _copies(decoder_layer, num_layers, "TransformerDecoder")
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self, tgt: Tensor, memory: Tensor, tgt_mask: Tensor | None = None, memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None, memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None, memory_is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        for layer in self.layers:
            tgt = layer(tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
                        bool(tgt_is_causal), memory_is_causal)  # fmt: skip
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """An encoder, and a decoder that attends to its output. All weights of two axes are initialised by `xavier_uniform_`."""

    def __init__(
        self, d_model: int = 512, nhead: int = 8, num_encoder_layers: int = 6, num_decoder_layers: int = 6,
        dim_feedforward: int = 2048, dropout: float = 0.1, activation: Activation = F.relu,
        custom_encoder: Module | None = None, custom_decoder: Module | None = None, layer_norm_eps: float = 1e-5,
        batch_first: bool = False, norm_first: bool = False, bias: bool = True,
        device: DeviceLike | None = None, dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        options = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)
        norm = lambda: LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(*options, dtype=dtype), num_encoder_layers, norm()
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(*options, dtype=dtype), num_decoder_layers, norm()
        )
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)

    @staticmethod
    def generate_square_subsequent_mask(
        sz: int, device: DeviceLike | None = None, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The causal mask (T, T), to be added to the attention scores: query t attends to keys 0 ... t. sz: T."""
        return Tensor(np.triu(np.full((sz, sz), -math.inf, dtype or np.float32), 1))

    def forward(
        self, src: Tensor, tgt: Tensor, src_mask: Tensor | None = None, tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None, memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None, tgt_is_causal: bool | None = None, memory_is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """src (S, B, E), tgt (T, B, E) -> (T, B, E)."""
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
                            tgt_is_causal, memory_is_causal)  # fmt: skip
