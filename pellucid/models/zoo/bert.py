"""BERT, a bidirectional Transformer encoder (floor 5).

After Devlin et al. 2018 (arXiv 1810.04805), with the names and shapes of the published checkpoints (without their prefix
`bert.`) and post-norm blocks. With the pooler, which the next-sentence task and classifiers read, and without the heads of
pre-training, base has 109,482,240 parameters, large 335,141,888.

Shapes: B batch, T time, V vocabulary, C = d_model, H heads, D = C / H channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

from ... import functional as F
from ... import nn
from ...errors import OptionError, ShapeError, format_shape
from ...tensor import Tensor
from ..base import check_field_types


@dataclass(frozen=True)
class Config:
    """Hyperparameters of BERT; d_model is C, d_ff the hidden size of each feed-forward block.

    context_length: the largest T.      type_vocab_size: number of segments.
    """

    num_layers: int = 12
    num_heads: int = 12
    d_model: int = 768
    d_ff: int = 3072
    context_length: int = 512
    vocab_size: int = 30522
    type_vocab_size: int = 2
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_field_types(self)
        if self.num_heads < 1 or self.d_model % self.num_heads:
            raise OptionError(
                f"d_model, num_heads: {self.d_model}, {self.num_heads}; expected d_model to be a multiple of num_heads; change one of them"
            )


BASE, LARGE = Config(), Config(num_layers=24, num_heads=16, d_model=1024, d_ff=4096)


class Embeddings(nn.Module):
    """The sum of token, position and segment embeddings: int64 (B, T) -> (B, T, C)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.d_model)
        self.position_embeddings = nn.Embedding(config.context_length, config.d_model)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.d_model)
        self.LayerNorm = nn.LayerNorm(config.d_model, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, segments: Tensor | None) -> Tensor:
        if tokens.ndim != 2 or tokens.shape[1] > self.position_embeddings.num_embeddings:
            raise ShapeError(f"tokens {format_shape(tokens.shape)}; expected (B, T) with T up to context_length, "
                             f"{self.position_embeddings.num_embeddings}; cut the text")  # fmt: skip
        x = self.word_embeddings(tokens) + self.position_embeddings.weight[: tokens.shape[1]]  # (B, T, C)
        x = x + (self.token_type_embeddings.weight[0] if segments is None else self.token_type_embeddings(segments))
        return self.dropout(self.LayerNorm(x))


class SelfAttention(nn.Module):
    """Multi-head self-attention over all tokens that the mask allows: (B, T, C) -> (B, T, C)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.num_heads, self.dropout = config.num_heads, config.dropout
        self.query, self.key, self.value = (nn.Linear(config.d_model, config.d_model) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        split = lambda y: y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, T, D)
        y = F.scaled_dot_product_attention(
            split(self.query(x)), split(self.key(x)), split(self.value(x)), mask, self.dropout if self.training else 0.0
        )
        return y.transpose(1, 2).flatten(2)


class AddNorm(nn.Module):
    """A linear layer of y, added to x, then layer norm: y (B, T, in), x (B, T, C) -> (B, T, C)."""

    def __init__(self, inputs: int, config: Config) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.d_model)
        self.LayerNorm = nn.LayerNorm(config.d_model, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(x + self.dropout(self.dense(y)))


class Layer(nn.Module):
    """An encoder layer: self-attention, then feed-forward, each with a residual connection and layer norm; (B, T, C)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": SelfAttention(config), "output": AddNorm(config.d_model, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.d_model, config.d_ff)})
        self.output = AddNorm(config.d_ff, config)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.attention["output"](self.attention["self"](x, mask), x)  # (B, T, C)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class BERT(nn.Module):
    """Tokens int64 (B, T) -> the vectors of all tokens (B, T, C), and the pooled vector of the first token (B, C).

    attention_mask (B, T): 0 at padding, which gets no attention. token_type_ids int64 (B, T): the segment of each token.
    """

    def __init__(self, config: Config = BASE) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList([Layer(config) for _ in range(config.num_layers)])})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(config.d_model, config.d_model)})
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        mask = None if attention_mask is None else attention_mask.bool().unsqueeze(1).unsqueeze(1)  # (B, 1, 1, T)
        x = self.embeddings(input_ids, token_type_ids)
        for layer in self.encoder["layer"]:
            x = layer(x, mask)  # (B, T, C)
        return x, F.tanh(self.pooler["dense"](x[:, 0]))
