"""BERT, a Transformer that reads a text in both directions (floor 5).

After Devlin et al. 2018 (arXiv 1810.04805), with the names and shapes of the published checkpoints (without their prefix
`bert.`). The norms stand after what they are added to. Counted with the pooler, which the next-sentence task and classifiers
read, and without the heads that were used in pre-training: base has 109,482,240 parameters, large 335,141,888.

Letters: B batch, T time, V vocabulary, C width, H heads, D = C / H channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

from ... import functional as F
from ... import nn
from ...errors import OptionError, ShapeError, format_shape
from ...tensor import Tensor
from ..base import check_kinds


@dataclass(frozen=True)
class Config:
    """layers, heads, width C, hidden: size of each block's hidden layer. context: most tokens; kinds: segments told apart."""

    layers: int = 12
    heads: int = 12
    width: int = 768
    hidden: int = 3072
    context: int = 512
    vocabulary: int = 30522
    kinds: int = 2
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.heads < 1 or self.width % self.heads:
            raise OptionError(
                f"width, heads: {self.width}, {self.heads}; expected a width that the heads divide; change one of them"
            )


BASE, LARGE = Config(), Config(layers=24, heads=16, width=1024, hidden=4096)


class Embeddings(nn.Module):
    """Tokens, positions and segments, added up: int64 (B, T) -> (B, T, C)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary, config.width)
        self.position_embeddings = nn.Embedding(config.context, config.width)
        self.token_type_embeddings = nn.Embedding(config.kinds, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, kinds: Tensor | None) -> Tensor:
        if tokens.ndim != 2 or tokens.shape[1] > self.position_embeddings.num_embeddings:
            raise ShapeError(f"tokens {format_shape(tokens.shape)}; expected (B, T) with T up to the context, "
                             f"{self.position_embeddings.num_embeddings}; cut the text")  # fmt: skip
        x = self.word_embeddings(tokens) + self.position_embeddings.weight[: tokens.shape[1]]  # (B, T, C)
        x = x + (self.token_type_embeddings.weight[0] if kinds is None else self.token_type_embeddings(kinds))
        return self.dropout(self.LayerNorm(x))


class SelfAttention(nn.Module):
    """Each token's mean of all tokens' values, weighted by how its query meets their keys: (B, T, C) -> (B, T, C)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.query, self.key, self.value = (nn.Linear(config.width, config.width) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        split = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, D)
        y = F.scaled_dot_product_attention(
            split(self.query(x)), split(self.key(x)), split(self.value(x)), mask, self.dropout if self.training else 0.0
        )
        return y.transpose(1, 2).flatten(2)


class Added(nn.Module):
    """A product of y, added to x and normalised."""

    def __init__(self, before: int, config: Config) -> None:
        super().__init__()
        self.dense = nn.Linear(before, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(x + self.dropout(self.dense(y)))


class Layer(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": SelfAttention(config), "output": Added(config.width, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.width, config.hidden)})
        self.output = Added(config.hidden, config)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.attention["output"](self.attention["self"](x, mask), x)  # (B, T, C)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class BERT(nn.Module):
    """tokens int64 (B, T) -> every token's vector (B, T, C), and the first one's as the pooler gives it, (B, C).

    attention_mask (B, T): 0 where padding stands, which nothing looks at. token_type_ids int64 (B, T): the segment.
    """

    def __init__(self, config: Config = BASE) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList([Layer(config) for _ in range(config.layers)])})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(config.width, config.width)})
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
