"""The Transformer that writes: a decoder that reads a text from the left and says what comes next (floor 5).

    tokens (B, T) -> wte + wpe -> blocks h.0, h.1, ...: x + attn(ln_1(x)), then x + mlp(ln_2(x)) -> ln_f -> logits (B, T, V)

After Vaswani et al. 2017 (arXiv 1706.03762), as GPT-2 has it (Radford et al. 2019): the norms stand before what they feed
(Xiong et al. 2020), the head is the embedding's own matrix (Press and Wolf 2017). The weights have the names of the published
GPT-2, which `load_gpt2` reads, and `nn.Linear`'s layout (out, in). What is learned from which text is training's business.

The named sizes, with GPT-2's 50,257 tokens and counted with the positions and with the head tied, so once: gpt2 has
124,439,808 parameters, gpt2-medium 354,823,168, gpt2-large 774,030,080, gpt2-xl 1,557,611,200; gpt3, with the sizes of Brown
et al. 2020 (arXiv 2005.14165), 174,604,259,328 (every other layer there looks at fewer tokens, with as many parameters).

Letters: B batch, T time, S tokens read before, V vocabulary, C width, H heads, D = C / H channels of a head.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import functional as F
from .. import nn
from ..creation import arange, cat, tensor
from ..errors import OptionError, ShapeError, StateError, format_shape, suggestion
from ..serialization import load
from ..tensor import Tensor
from .base import LanguageModel, check_kinds

INPUTS = ("text",)
POSITIONS = ("learned", "rotary")
NORMS: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": lambda x: F.gelu(x, "tanh"), "gelu": F.gelu, "relu": F.relu, "silu": F.silu,
}  # fmt: skip
DEVIATION = 0.02  # of every weight at the start, as in GPT-2


@dataclass(frozen=True)
class Config:
    """What makes one Transformer differ from another; plain values, so that it can be saved as JSON.

    layers: blocks.      heads: H, must divide the width.      width: C.      context: T, tokens it can look at.
    hidden: size of each block's hidden layer; 0 for 4 C.      activation: a key of ACTIVATIONS, "gelu_tanh" in GPT-2.
    dropout: of the embeddings and of what each half of a block adds.      attention_dropout: of attention's weights,
    which then have to be held in memory.      positions: "learned", a row for each, or "rotary" (Su et al. 2021), which turns
    queries and keys.      norm: "layer" or "rms".      bias: of every product and layer norm.      tie: the head is the
    embedding's matrix.
    """

    layers: int = 4
    heads: int = 4
    width: int = 128
    context: int = 64
    hidden: int = 0
    activation: str = "gelu_tanh"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    positions: str = "learned"
    norm: str = "layer"
    bias: bool = True
    tie: bool = True

    def __post_init__(self) -> None:
        check_kinds(self)
        for name, least in (("layers", 1), ("heads", 1), ("width", 1), ("context", 1), ("hidden", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise OptionError(
                    f"{name}: {value!r}; expected a whole number from {least}; 4 layers of width 128, say"
                )
        if self.width % self.heads:
            raise OptionError(f"width, heads: {self.width}, {self.heads}; expected a width that the heads divide; "
                              f"{self.heads} heads fit width {self.heads * max(self.width // self.heads, 1)}")  # fmt: skip
        for name, known in (("activation", ACTIVATIONS), ("positions", POSITIONS), ("norm", NORMS)):
            value = getattr(self, name)
            if value not in known:
                raise OptionError(
                    f"{name}: {value!r}; expected one of {', '.join(known)}.{suggestion(str(value), known)}"
                )
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise OptionError(f"width, heads: {self.width}, {self.heads} give heads of {self.width // self.heads} channels; "
                              "expected an even number with rotary positions; change one of them")  # fmt: skip
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name}: {getattr(self, name)}; expected 0 up to, but not including, 1; write 0.1")


SIZES = {
    "gpt2": Config(12, 12, 768, 1024),
    "gpt2-medium": Config(24, 16, 1024, 1024),
    "gpt2-large": Config(36, 20, 1280, 1024),
    "gpt2-xl": Config(48, 25, 1600, 1024),
    "gpt3": Config(96, 96, 12288, 2048),
}
VOCABULARY = 50257  # of GPT-2 and GPT-3: 256 bytes, 50,000 merges, and the end of a text
# What GPT-2's config.json may say otherwise, and this network does not do.
_ONLY = {
    "layer_norm_epsilon": 1e-5, "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}  # fmt: skip
_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "swish": "silu"}  # by the names used there
_TURNED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # published as (in, out)

Past = tuple[Tensor, Tensor]  # a layer's keys and values (B, H, S, D) of the tokens read so far


class State(NamedTuple):
    """What `next_logits` remembers: the tokens of the window (B, S), and each layer's keys and values of them."""

    tokens: Tensor
    past: list[Past]


def linear(inputs: int, outputs: int, bias: bool, deviation: float = DEVIATION) -> nn.Linear:
    """A linear layer that starts as GPT-2's do: normal, the bias at zero."""
    layer = nn.Linear(inputs, outputs, bias)
    nn.init.normal_(layer.weight, 0.0, deviation)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Each token's mean of the values of those before it and its own, weighted by how its query meets their keys."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.c_attn = linear(width, 3 * width, config.bias)
        self.c_proj = linear(width, width, config.bias, DEVIATION / math.sqrt(2 * config.layers))
        self.attention_dropout = config.attention_dropout
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, turn: nn.Rotary | None, past: Past | None) -> tuple[Tensor, Past]:
        batch, length, width = x.shape
        qkv = self.c_attn(x).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.unbind(2)  # (B, T, H, D) each
        read = 0 if past is None else past[0].shape[2]
        if turn is not None:
            q, k = turn(q, input_pos=read), turn(k, input_pos=read)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, T, D)
        if past is not None:
            k, v = cat([past[0], k], 2), cat([past[1], v], 2)  # (B, H, S+T, D)
        y = F.scaled_dot_product_attention(
            q, k, v, later_hidden(length, read), self.attention_dropout if self.training else 0.0, is_causal=not read
        )
        y = y.transpose(1, 2).reshape(batch, length, width)
        return self.dropout(self.c_proj(y)), (k, v)  # (B, T, C)


def later_hidden(length: int, read: int) -> Tensor | None:
    """Which of S + T tokens each of T new ones may look at, (T, S+T); None where nothing was read before, or T is 1."""
    if not read or length == 1:
        return None
    return arange(read + length) <= arange(read, read + length).unsqueeze(1)


class Hidden(nn.Module):
    """The block's other half: two layers, each token by itself."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        hidden = config.hidden or 4 * config.width
        self.c_fc = linear(config.width, hidden, config.bias)
        self.c_proj = linear(hidden, config.width, config.bias, DEVIATION / math.sqrt(2 * config.layers))
        self.activation = config.activation
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(ACTIVATIONS[self.activation](self.c_fc(x))))  # (B, T, C)


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.ln_1 = norm(config)
        self.attn = Attention(config)
        self.ln_2 = norm(config)
        self.mlp = Hidden(config)

    def forward(self, x: Tensor, turn: nn.Rotary | None, past: Past | None) -> tuple[Tensor, Past]:
        mixed, past = self.attn(self.ln_1(x), turn, past)
        x = x + mixed
        return x + self.mlp(self.ln_2(x)), past


def norm(config: Config) -> nn.Module:
    if config.norm == "rms":
        return nn.RMSNorm(config.width, eps=1e-5)
    return nn.LayerNorm(config.width, bias=config.bias)


class Transformer(LanguageModel):
    """The network. `forward`: tokens int64 (B, T), T up to the context -> logits (B, T, V) of each next token.

    Judged, every token after the first half window of a text has at least half a context to look at.
    """

    def __init__(self, vocabulary: int, config: Config) -> None:
        super().__init__()
        self.vocabulary, self.context, self.warm = vocabulary, config.context, config.context // 2
        self.most_tokens = config.context
        self.wte = nn.Embedding(vocabulary, config.width)
        self.wpe = nn.Embedding(config.context, config.width) if config.positions == "learned" else None
        self.turn = nn.Rotary(config.width // config.heads, config.context) if config.positions == "rotary" else None
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.ln_f = norm(config)
        self.lm_head = None if config.tie else nn.Linear(config.width, vocabulary, bias=False)
        for table in (self.wte, self.wpe, self.lm_head):
            if table is not None:
                nn.init.normal_(table.weight, 0.0, DEVIATION)

    def forward(self, tokens: Tensor) -> Tensor:
        return self._read(tokens, None)[0]

    def _read(self, tokens: Tensor, past: list[Past] | None, last: bool = False) -> tuple[Tensor, list[Past]]:
        """Logits (B, T, V), or those of the last token alone, and every layer's keys and values."""
        first = past[0][0].shape[2] if past else 0
        length = tokens.shape[-1]
        if tokens.ndim != 2 or first + length > self.context:
            raise ShapeError(
                f"tokens {format_shape(tokens.shape)}; expected (B, T) with T up to the context, {self.context}; "
                "cut the text into windows, or give the network a larger context"
            )
        x = self.wte(tokens)  # (B, T, C)
        if self.wpe is not None:
            x = x + self.wpe.weight[first : first + length]
        x = self.drop(x)
        kept: list[Past] = []
        for number, block in enumerate(self.h):
            x, now = block(x, self.turn, past[number] if past else None)
            kept.append(now)
        x = self.ln_f(x[:, -1:] if last else x)
        return F.linear(x, (self.wte if self.lm_head is None else self.lm_head).weight), kept

    def next_logits(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits (B, V) of the token after `tokens` (B, T); with the state of a call before, T counts new tokens only.

        A new token costs one position, until the context is full: then the window's later half is read again. So a token
        looks at between half a context and a whole one.
        """
        past = None
        if state is not None:
            past, tokens = state.past, cat([state.tokens, tokens], 1)
        if tokens.shape[1] > self.context:
            tokens, past = tokens[:, -(self.context if past is None else max(self.context // 2, 1)) :], None
        new = tokens if past is None else tokens[:, past[0][0].shape[2] :]
        logits, past = self._read(new, past, last=True)
        return logits[:, 0], State(tokens, past)


def build(inputs: dict[str, Any], outputs: int, task: str, config: Config) -> Transformer:
    """The network for texts of `inputs["tokens"]` different tokens; its weights come from the global random stream.

    Raises OptionError where a context does not hold the longest line, `inputs["length"]`, of a text learned by lines.
    """
    if inputs.get("length", 0) > config.context:
        raise OptionError(f"context: {config.context}; expected at least {inputs['length']}, the tokens of the longest line; write --set "
                          f"context={inputs['length']}")  # fmt: skip
    return Transformer(inputs["tokens"], config)


# ---- GPT-2 as published ----------------------------------------------------------------------------------------------


def named(name: str) -> Transformer:
    """A network of SIZES with new weights; inside `nn.init.init_empty_weights()` without memory for them. Raises OptionError."""
    if name not in SIZES:
        raise OptionError(f"named: {name!r}; expected one of {', '.join(SIZES)}.{suggestion(name, SIZES)}")
    return Transformer(VOCABULARY, SIZES[name])


def load_gpt2(path: str | os.PathLike[str]) -> Transformer:
    """The network of a GPT-2 checkpoint in a safetensors file, in evaluation mode.

    path: the file, or the folder of its `model.safetensors`. A `config.json` beside it tells the heads; without one a head
    has 64 channels, as in every published size. Keys may begin with "transformer."; the masks that old files hold are
    left out, and the matrices, published as (in, out), are turned round. Raises DataError where the file cannot be read,
    StateError where it holds something else.
    """
    place = Path(path)
    place = place / "model.safetensors" if place.is_dir() else place
    masks = (".attn.bias", ".attn.masked_bias")
    given = {name.removeprefix("transformer."): x for name, x in load(place).items() if not name.endswith(masks)}
    for name, axes in (("wte.weight", 2), ("wpe.weight", 2), ("h.0.mlp.c_fc.weight", 2)):
        if name not in given or given[name].ndim != axes:
            found = format_shape(given[name].shape) if name in given else f"no {name} among {len(given)} Tensors"
            raise StateError(
                f"{place}: {name}: {found}; expected a matrix of GPT-2's; check that this is its checkpoint"
            )
    if "lm_head.weight" in given and given["lm_head.weight"].equal(given["wte.weight"]):
        del given["lm_head.weight"]
    with nn.init.init_empty_weights():
        network = Transformer(given["wte.weight"].shape[0], _config_of(place, given))
    turned = lambda x: tensor(np.ascontiguousarray(x.array.T))
    try:
        network.load_state_dict({name: turned(x) if name.endswith(_TURNED) else x for name, x in given.items()})
    except StateError as error:
        raise StateError(f"{place}: {error}") from None
    network.eval()
    return network


def _config_of(place: Path, given: dict[str, Tensor]) -> Config:
    """What the shapes of a GPT-2 checkpoint tell, and the `config.json` beside it, if there is one."""
    width, beside = given["wte.weight"].shape[1], place.parent / "config.json"
    try:
        told = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
    except (OSError, ValueError):
        told = None
    if not isinstance(told, dict):
        raise StateError(f"{beside}: it is no JSON object; expected GPT-2's configuration; copy it again, or remove it")
    for option, known in _ONLY.items():
        if told.get(option, known) != known:
            raise StateError(
                f"{beside}: {option} is {told[option]!r}; expected {known!r}, as in GPT-2; this network knows no other"
            )
    activation: Any = told.get("activation_function", "gelu_new")
    try:
        return Config(
            layers=len({name.split(".")[1] for name in given if name.startswith("h.")}),
            heads=told.get("n_head", max(width // 64, 1)), width=width, context=given["wpe.weight"].shape[0],
            hidden=given["h.0.mlp.c_fc.weight"].shape[1],
            activation=_ACTIVATIONS.get(activation, activation),
            dropout=told.get("resid_pdrop", 0.0), attention_dropout=told.get("attn_pdrop", 0.0),
            tie="lm_head.weight" not in given,
        )  # fmt: skip
    except (OptionError, TypeError) as error:
        raise StateError(f"{place}: {error}; correct the config.json beside it") from None
