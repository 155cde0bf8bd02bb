"""The decoder-only Transformer, a causal language model in GPT-2's layout (floor 5).

    tokens (B, T) -> wte + wpe -> blocks h.0, h.1, ...: x + attn(ln_1(x)), then x + mlp(ln_2(x)) -> ln_f -> logits (B, T, V)

After Vaswani et al. 2017 (arXiv 1706.03762) in the form of GPT-2 (Radford et al. 2019): pre-norm (Xiong et al. 2020), and the
output layer shares the embedding's matrix (Press and Wolf 2017). Weights have the names of the published GPT-2, which
`zoo/gpt2.py` loads, and `nn.Linear`'s layout (out, in).

Shapes: B batch, T time, S tokens in the key-value cache, V vocabulary, C = d_model, H heads, D = C / H channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from .. import functional as F
from .. import nn
from ..creation import arange, cat
from ..data.input_spec import InputSpec, TextSpec
from ..errors import OptionError, ShapeError, format_shape, suggestion
from ..tensor import Tensor
from .base import check_field_types, require_spec
from .heads.language import LanguageModel

POSITIONS = ("learned", "rotary")
NORMS: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": lambda x: F.gelu(x, "tanh"), "gelu": F.gelu, "relu": F.relu, "silu": F.silu,
    "identity": lambda x: x, "step": F.step,
}  # fmt: skip
INITIAL_STD = 0.02  # standard deviation of the initial weights, as in GPT-2


@dataclass(frozen=True)
class Config:
    """Hyperparameters of a Transformer; plain values, so that they can be saved as JSON.

    num_layers: blocks.      num_heads: H, which must divide d_model.      d_model: C.      context_length: the largest T.
    d_ff: hidden size of each feed-forward block; 0 for 4 C.      activation: a key of ACTIVATIONS; "gelu_tanh" in GPT-2.
    dropout: of the embeddings and of each block's two outputs.      attention_dropout: of the attention weights, which then
    have to be held in memory.      positions: "learned" embeddings or "rotary" (Su et al. 2021).      norm: "layer" or "rms".
    bias: of every linear layer and layer norm.      tie_embeddings: the output layer shares the embedding's matrix.
    """

    num_layers: int = 4
    num_heads: int = 4
    d_model: int = 128
    context_length: int = 64
    d_ff: int = 0
    activation: str = "gelu_tanh"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    positions: str = "learned"
    norm: str = "layer"
    bias: bool = True
    tie_embeddings: bool = True

    def __post_init__(self) -> None:
        check_field_types(self)
        for name, least in (("num_layers", 1), ("num_heads", 1), ("d_model", 1), ("context_length", 1), ("d_ff", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise OptionError(
                    f"{name}: {value!r}; expected a whole number from {least}; try num_layers 4 and d_model 128"
                )
        heads, head_size = self.num_heads, self.d_model // self.num_heads
        if self.d_model % heads:
            raise OptionError(f"d_model, num_heads: {self.d_model}, {heads}; expected d_model to be a multiple of num_heads; "
                              f"{heads} heads fit d_model {heads * max(head_size, 1)}")  # fmt: skip
        for name, choices in (("activation", ACTIVATIONS), ("positions", POSITIONS), ("norm", NORMS)):
            value = getattr(self, name)
            if value not in choices:
                raise OptionError(
                    f"{name}: {value!r}; expected one of {', '.join(choices)}.{suggestion(str(value), choices)}"
                )
        if self.positions == "rotary" and head_size % 2:
            raise OptionError(f"d_model, num_heads: {self.d_model}, {heads} give heads of {head_size} channels; "
                              "expected an even number with rotary positions; change one of them")  # fmt: skip
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name}: {getattr(self, name)}; expected 0 up to, but not including, 1; write 0.1")


KVCache = tuple[Tensor, Tensor]  # a layer's keys and values (B, H, S, D) of the tokens read so far


class GenerationState(NamedTuple):
    """What `next_logits` keeps between calls: the tokens of the window (B, S), and each layer's key-value cache."""

    tokens: Tensor
    caches: list[KVCache]


def linear(inputs: int, outputs: int, bias: bool, std: float = INITIAL_STD) -> nn.Linear:
    """A linear layer initialized as in GPT-2: normal weights, zero bias."""
    layer = nn.Linear(inputs, outputs, bias)
    nn.init.normal_(layer.weight, 0.0, std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Causal multi-head self-attention: (B, T, C) -> (B, T, C), with the keys and values of all tokens so far."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d_model, self.num_heads = config.d_model, config.num_heads
        self.c_attn = linear(d_model, 3 * d_model, config.bias)
        self.c_proj = linear(d_model, d_model, config.bias, INITIAL_STD / math.sqrt(2 * config.num_layers))
        self.attention_dropout = config.attention_dropout
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rotary: nn.RotaryEmbedding | None, cache: KVCache | None) -> tuple[Tensor, KVCache]:
        batch, length, d_model = x.shape
        qkv = self.c_attn(x).reshape(batch, length, 3, self.num_heads, d_model // self.num_heads)
        q, k, v = qkv.unbind(2)  # (B, T, H, D) each
        cached = 0 if cache is None else cache[0].shape[2]  # S
        if rotary is not None:
            q, k = rotary(q, input_pos=cached), rotary(k, input_pos=cached)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, T, D)
        if cache is not None:
            k, v = cat([cache[0], k], 2), cat([cache[1], v], 2)  # (B, H, S+T, D)
        y = F.scaled_dot_product_attention(
            q, k, v, causal_mask(length, cached), self.attention_dropout if self.training else 0.0, is_causal=not cached
        )
        y = y.transpose(1, 2).reshape(batch, length, d_model)
        return self.dropout(self.c_proj(y)), (k, v)  # (B, T, C)


def causal_mask(length: int, cached: int) -> Tensor | None:
    """Which of S + T tokens each of T new ones may attend to, bool (T, S+T); None where S is 0 or T is 1."""
    if not cached or length == 1:
        return None
    return arange(cached + length) <= arange(cached, cached + length).unsqueeze(1)


class FeedForward(nn.Module):
    """The feed-forward half of a block, two linear layers applied to each token: (B, T, C) -> (B, T, C)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d_ff = config.d_ff or 4 * config.d_model
        self.c_fc = linear(config.d_model, d_ff, config.bias)
        self.c_proj = linear(d_ff, config.d_model, config.bias, INITIAL_STD / math.sqrt(2 * config.num_layers))
        self.activation = config.activation
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(ACTIVATIONS[self.activation](self.c_fc(x))))  # (B, T, C)


class Block(nn.Module):
    """A pre-norm Transformer block: x + attention, then x + feed-forward; (B, T, C) -> (B, T, C), and the layer's cache."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.ln_1 = norm(config)
        self.attn = Attention(config)
        self.ln_2 = norm(config)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, rotary: nn.RotaryEmbedding | None, cache: KVCache | None) -> tuple[Tensor, KVCache]:
        attended, cache = self.attn(self.ln_1(x), rotary, cache)
        x = x + attended
        return x + self.mlp(self.ln_2(x)), cache


def norm(config: Config) -> nn.Module:
    """The normalization layer that `config.norm` names."""
    if config.norm == "rms":
        return nn.RMSNorm(config.d_model, eps=1e-5)
    return nn.LayerNorm(config.d_model, bias=config.bias)


class Transformer(LanguageModel):
    """The network. `forward`: tokens int64 (B, T), T up to context_length -> logits (B, T, V) of each next token.

    Evaluation windows overlap by half, so every token after a text's first half window has at least half a context before it.
    """

    def __init__(self, vocab_size: int, config: Config) -> None:
        super().__init__()
        d_model, context_length = config.d_model, config.context_length
        self.vocab_size, self.context_length, self.max_length = vocab_size, context_length, context_length
        self.burn_in = context_length // 2
        self.wte = nn.Embedding(vocab_size, d_model)
        self.wpe = nn.Embedding(context_length, d_model) if config.positions == "learned" else None
        self.rotary = (
            nn.RotaryEmbedding(d_model // config.num_heads, context_length) if config.positions == "rotary" else None
        )
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList([Block(config) for _ in range(config.num_layers)])
        self.ln_f = norm(config)
        self.lm_head = None if config.tie_embeddings else nn.Linear(d_model, vocab_size, bias=False)
        for table in (self.wte, self.wpe, self.lm_head):
            if table is not None:
                nn.init.normal_(table.weight, 0.0, INITIAL_STD)

    def forward(self, tokens: Tensor) -> Tensor:
        return self._forward_cached(tokens, None)[0]

    def _forward_cached(
        self, tokens: Tensor, caches: list[KVCache] | None, last_only: bool = False
    ) -> tuple[Tensor, list[KVCache]]:
        """Logits (B, T, V), or (B, 1, V) of the last token alone, and every layer's key-value cache."""
        first = caches[0][0].shape[2] if caches else 0
        length = tokens.shape[-1]
        if tokens.ndim != 2 or first + length > self.context_length:
            raise ShapeError(
                f"tokens {format_shape(tokens.shape)}; expected (B, T) with T up to context_length, {self.context_length}; "
                "cut the text into windows, or build the network with a larger context_length"
            )
        x = self.wte(tokens)  # (B, T, C)
        if self.wpe is not None:
            x = x + self.wpe.weight[first : first + length]
        x = self.drop(x)
        new_caches: list[KVCache] = []
        for number, block in enumerate(self.h):
            x, cache = block(x, self.rotary, caches[number] if caches else None)
            new_caches.append(cache)
        x = self.ln_f(x[:, -1:] if last_only else x)
        return F.linear(x, (self.wte if self.lm_head is None else self.lm_head).weight), new_caches

    def next_logits(self, tokens: Tensor, state: GenerationState | None = None) -> tuple[Tensor, GenerationState]:
        """Logits (B, V) of the token after `tokens` (B, T); with the state of the call before, T counts new tokens only.

        A new token costs one position until the context is full. Then the later half of the window is read again, so a
        token attends to between half a context and a whole one.
        """
        caches = None
        if state is not None:
            caches, tokens = state.caches, cat([state.tokens, tokens], 1)
        if tokens.shape[1] > self.context_length:
            window = self.context_length if caches is None else max(self.context_length // 2, 1)
            tokens, caches = tokens[:, -window:], None
        new = tokens if caches is None else tokens[:, caches[0][0].shape[2] :]
        logits, caches = self._forward_cached(new, caches, last_only=True)
        return logits[:, 0], GenerationState(tokens, caches)


def build(inputs: InputSpec, outputs: int, task: str, config: Config) -> Transformer:
    """The network for texts of `inputs.vocab_size` different tokens; its weights come from the global random stream.

    Raises OptionError where context_length is below `inputs.length`, the longest line of a text learned line by line.
    """
    text = require_spec("transformer", inputs, TextSpec)
    if text.length > config.context_length:
        raise OptionError(f"context_length: {config.context_length}; expected at least {text.length}, the tokens of the longest line; "
                          f"write --set context_length={text.length}")  # fmt: skip
    return Transformer(text.vocab_size, config)
