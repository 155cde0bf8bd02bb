"""Five networks for bench/families.py: each with its start, its data, its flops, and its form in JAX.

A network is written once in the names that pellucid and PyTorch share (`module`), and once for JAX (`jax`), which has
no layers. `start` lists the same numbers for all, in the order of `module(...).parameters()`. B batch, T time, C
channels, V vocabulary, S side of an image. Running the sides is left to families.py. Imports NumPy alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

CLASSES, VOCABULARY = 10, 65


def uniform() -> Callable[..., np.ndarray]:
    """uniform()(outputs, inputs, ...): within +-1/sqrt(inputs), as PyTorch's Linear and Conv2d begin."""
    random = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        bound = float(np.prod(shape[1:])) ** -0.5
        return random.uniform(-bound, bound, shape).astype(np.float32)

    return draw


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def filled(library: Any, model: Any, start: list[np.ndarray]) -> Any:
    """The model with its parameters at `start`."""
    with library.no_grad():
        for parameter, weight in zip(model.parameters(), start, strict=True):
            if tuple(parameter.shape) != weight.shape:
                raise ValueError(f"a parameter is {tuple(parameter.shape)}, its start {weight.shape}")
            parameter.copy_(library.tensor(weight))
    return model


@dataclass(frozen=True)
class Network(ABC):
    """jax(weights, running, x) -> (logits, running), both lists as `start` and `running` give them."""

    batch: int
    width: int

    @abstractmethod
    def start(self) -> list[np.ndarray]: ...

    @abstractmethod
    def module(self, library: Any) -> Any: ...

    @abstractmethod
    def jax(self, weights: list[Any], running: list[Any], x: Any) -> tuple[Any, list[Any]]: ...

    @abstractmethod
    def batches(self, count: int) -> list[tuple[np.ndarray, np.ndarray]]: ...

    @property
    @abstractmethod
    def flops(self) -> int:
        """Of one step: its matrix products and convolutions, forward and both gradients, nothing else."""

    def running(self) -> list[np.ndarray]:
        """What a step changes besides the weights: batch norm's running means and variances."""
        return []


# ---- images ----


@dataclass(frozen=True)
class Images(Network):
    """A network of 3x3 convolutions: x (B, C, S, S) and labels (B,)."""

    side: int
    channels = 1

    def batches(self, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Dense random numbers around 0, so that every unit is at work (see common.make_task)."""
        random = np.random.default_rng(1)
        shape = (self.batch, self.channels, self.side, self.side)
        return [
            (random.random(shape, np.float32) * 2 - 1, random.integers(0, CLASSES, self.batch)) for _ in range(count)
        ]

    def convolution(self, inputs: int, outputs: int, side: int) -> int:
        """Flops of a 3x3 convolution forward, all images, `side` that of its output."""
        return 2 * self.batch * side**2 * outputs * inputs * 9


@dataclass(frozen=True)
class Cnn(Images):
    """Two convolutions C and 2C without padding, one max pool, two Linear: LeNet's kind, the first network of many."""

    batch: int = 128
    width: int = 32
    side: int = 28

    @property
    def flat(self) -> int:
        return 2 * self.width * ((self.side - 4) // 2) ** 2

    def start(self) -> list[np.ndarray]:
        c, draw = self.width, uniform()
        return [
            draw(c, 1, 3, 3), zeros(c), draw(2 * c, c, 3, 3), zeros(2 * c),
            draw(128, self.flat), zeros(128), draw(CLASSES, 128), zeros(CLASSES),
        ]  # fmt: skip

    def module(self, library: Any) -> Any:
        nn, c = library.nn, self.width
        model = nn.Sequential(
            nn.Conv2d(1, c, 3), nn.ReLU(), nn.Conv2d(c, 2 * c, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(self.flat, 128), nn.ReLU(), nn.Linear(128, CLASSES),
        )  # fmt: skip
        return filled(library, model, self.start())

    def jax(self, weights: list[Any], running: list[Any], x: Any) -> tuple[Any, list[Any]]:
        from jax.nn import relu

        first, bias1, second, bias2, third, bias3, last, bias4 = weights
        x = relu(jax_convolution(x.transpose(0, 2, 3, 1), first, 0) + bias1)
        x = jax_pool(relu(jax_convolution(x, second, 0) + bias2))
        return relu(jax_flat(x) @ third.T + bias3) @ last.T + bias4, running

    @property
    def flops(self) -> int:
        """The images need no gradient: the first convolution counts twice, all else three times."""
        c, side = self.width, self.side
        first = self.convolution(1, c, side - 2)
        linear = 2 * self.batch * (self.flat * 128 + 128 * CLASSES)
        return 3 * (first + self.convolution(c, 2 * c, side - 4) + linear) - first


@dataclass(frozen=True)
class DeepCnn(Images):
    """Six convolutions with padding, batch norm and ReLU, C C (pool) 2C 2C (pool) 4C 4C (pool), one Linear: VGG's kind.

    The filters start ten times as large as elsewhere. Batch norm makes their size immaterial to what the network says;
    but AdamW's first steps turn small ones so far that rounding grows a thousandfold in three steps, and any two runs
    in float32 drift apart, PyTorch's own two layouts by 6e-3.
    """

    batch: int = 128
    width: int = 32
    side: int = 32
    channels = 3

    @property
    def layers(self) -> list[tuple[int, int, int]]:
        """Of each convolution: channels in, channels out, side."""
        c, side = self.width, self.side
        outputs = [c, c, 2 * c, 2 * c, 4 * c, 4 * c]
        return list(zip([3, *outputs], outputs, [side, side, side // 2, side // 2, side // 4, side // 4], strict=False))

    @property
    def flat(self) -> int:
        return 4 * self.width * (self.side // 8) ** 2

    def start(self) -> list[np.ndarray]:
        draw = uniform()
        weights = []
        for inputs, outputs, _ in self.layers:
            weights += [10 * draw(outputs, inputs, 3, 3), ones(outputs), zeros(outputs)]
        return [*weights, draw(CLASSES, self.flat), zeros(CLASSES)]

    def running(self) -> list[np.ndarray]:
        return [part(outputs) for _, outputs, _ in self.layers for part in (zeros, ones)]

    def module(self, library: Any) -> Any:
        nn, layers = library.nn, []
        for i, (inputs, outputs, _) in enumerate(self.layers):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] * (i % 2)
        return filled(library, nn.Sequential(*layers, nn.Flatten(), nn.Linear(self.flat, CLASSES)), self.start())

    def jax(self, weights: list[Any], running: list[Any], x: Any) -> tuple[Any, list[Any]]:
        from jax.nn import relu

        x, moved = x.transpose(0, 2, 3, 1), []
        for i in range(6):
            kernel, scale, shift = weights[3 * i : 3 * i + 3]
            x = jax_convolution(x, kernel, 1)
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            count = x.size // x.shape[-1]
            moved += [
                0.9 * running[2 * i] + 0.1 * mean,
                0.9 * running[2 * i + 1] + 0.1 * variance * count / (count - 1),
            ]
            x = relu((x - mean) * (scale * (variance + 1e-5) ** -0.5) + shift)
            x = jax_pool(x) if i % 2 else x
        return jax_flat(x) @ weights[-2].T + weights[-1], moved

    @property
    def flops(self) -> int:
        """The images need no gradient: the first convolution counts twice, all else three times."""
        convolutions = [self.convolution(*layer) for layer in self.layers]
        return 3 * (sum(convolutions) + 2 * self.batch * self.flat * CLASSES) - convolutions[0]


def jax_convolution(x: Any, kernel: Any, padding: int) -> Any:
    """x (B, S, S, C): on a processor XLA was a little faster with channels last than with channels first."""
    from jax import lax

    sides = [(padding, padding)] * 2
    return lax.conv_general_dilated(x, kernel, (1, 1), sides, dimension_numbers=("NHWC", "OIHW", "NHWC"))


def jax_pool(x: Any) -> Any:
    """The largest of 2x2, x (B, S, S, C): the gradient of a maximum is faster than reduce_window's."""
    b, s, _, c = x.shape
    return x.reshape(b, s // 2, 2, s // 2, 2, c).max((2, 4))


def jax_flat(x: Any) -> Any:
    """(B, S, S, C) -> (B, C S S), in the order in which the others flatten."""
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


# ---- characters ----


@dataclass(frozen=True)
class Characters(Network):
    """A network that names the next character at every place: x (B, T) and y (B, T), numbers below V."""

    time: int

    def batches(self, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
        random = np.random.default_rng(1)
        rows = random.integers(0, VOCABULARY, (count, self.batch, self.time + 1))
        return [(row[:, :-1].copy(), row[:, 1:].copy()) for row in rows]

    @property
    def places(self) -> int:
        return self.batch * self.time


@dataclass(frozen=True)
class Lstm(Characters):
    """Embedding, one LSTM, Linear."""

    batch: int = 64
    width: int = 256
    time: int = 64

    def start(self) -> list[np.ndarray]:
        c, draw = self.width, uniform()
        gates = [draw(4 * c, c), draw(4 * c, c), zeros(4 * c), zeros(4 * c)]
        return [draw(VOCABULARY, c), *gates, draw(VOCABULARY, c), zeros(VOCABULARY)]

    def module(self, library: Any) -> Any:
        nn = library.nn

        class Recurrent(nn.Module):
            def __init__(self, width: int) -> None:
                super().__init__()
                self.embedding = nn.Embedding(VOCABULARY, width)
                self.lstm = nn.LSTM(width, width, batch_first=True)
                self.head = nn.Linear(width, VOCABULARY)

            def forward(self, x: Any) -> Any:
                hidden, _ = self.lstm(self.embedding(x))  # (B, T, C)
                return self.head(hidden)  # (B, T, V)

        return filled(library, Recurrent(self.width), self.start())

    def jax(self, weights: list[Any], running: list[Any], x: Any) -> tuple[Any, list[Any]]:
        """The input's product stands inside the loop: in XLA no slower than one product before it."""
        from jax import lax
        from jax import numpy as jnp
        from jax.nn import sigmoid

        embedding, from_input, from_state, bias1, bias2, head, bias = weights

        def cell(state: Any, x: Any) -> Any:
            h, c = state
            gates = x @ from_input.T + h @ from_state.T + (bias1 + bias2)
            enter, keep, new, leave = jnp.split(gates, 4, 1)
            c = sigmoid(keep) * c + sigmoid(enter) * jnp.tanh(new)
            h = sigmoid(leave) * jnp.tanh(c)
            return (h, c), h

        nothing = jnp.zeros((self.batch, self.width), jnp.float32)
        _, hidden = lax.scan(cell, (nothing, nothing), embedding[x.T])  # (T, B, C)
        return hidden.swapaxes(0, 1) @ head.T + bias, running

    @property
    def flops(self) -> int:
        """Four gates from input and state, and the head, each three times; the embedding is no product."""
        c = self.width
        return 3 * 2 * self.places * (2 * c * 4 * c + c * VOCABULARY)


@dataclass(frozen=True)
class Gpt(Characters):
    """A Transformer that reads to the left: `layers` blocks of attention and MLP, layer norms before each."""

    batch: int = 12
    width: int = 128
    time: int = 64
    layers: int = 4
    heads: int = 4

    def start(self) -> list[np.ndarray]:
        c, draw = self.width, uniform()
        weights = [draw(VOCABULARY, c), draw(self.time, c)]
        for _ in range(self.layers):
            weights += [ones(c), zeros(c), draw(3 * c, c), zeros(3 * c), draw(c, c), zeros(c)]
            weights += [ones(c), zeros(c), draw(4 * c, c), zeros(4 * c), draw(c, 4 * c), zeros(c)]
        return [*weights, ones(c), zeros(c), draw(VOCABULARY, c)]

    def module(self, library: Any) -> Any:
        return filled(library, transformer(library, self), self.start())

    def jax(self, weights: list[Any], running: list[Any], x: Any) -> tuple[Any, list[Any]]:
        """Attention as plain products: jax.nn.dot_product_attention was slower on a processor."""
        import jax
        from jax import numpy as jnp

        def norm(x: Any, scale: Any, shift: Any) -> Any:
            mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
            return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale + shift

        def attention(x: Any, into: Any, bias1: Any, out: Any, bias2: Any) -> Any:
            parts = (x @ into.T + bias1).reshape(*x.shape[:2], 3, self.heads, -1)  # (B, T, 3, N, H)
            q, k, v = parts.transpose(2, 0, 3, 1, 4)  # (B, N, T, H)
            scores = q @ k.swapaxes(2, 3) * q.shape[-1] ** -0.5  # (B, N, T, T)
            mixed = jax.nn.softmax(jnp.where(left, scores, -jnp.inf)) @ v
            return mixed.swapaxes(1, 2).reshape(x.shape) @ out.T + bias2

        left = jnp.tril(jnp.ones((self.time, self.time), bool))
        tokens, positions, *blocks, scale, shift, head = weights
        x = tokens[x] + positions
        for i in range(0, len(blocks), 12):
            x = x + attention(norm(x, *blocks[i : i + 2]), *blocks[i + 2 : i + 6])
            up, bias1, down, bias2 = blocks[i + 8 : i + 12]
            inner = jax.nn.gelu(norm(x, *blocks[i + 6 : i + 8]) @ up.T + bias1, approximate=False)
            x = x + inner @ down.T + bias2
        return norm(x, scale, shift) @ head.T, running

    @property
    def flops(self) -> int:
        """The Linears and the two products of attention, what the mask lets through; three times."""
        c = self.width
        linear = self.places * (self.layers * 12 * c**2 + c * VOCABULARY)
        attention = self.batch * self.layers * 2 * c * self.time * (self.time + 1) // 2
        return 3 * 2 * (linear + attention)


def transformer(library: Any, size: Gpt) -> Any:
    """x (B, T) -> (B, T, V)."""
    nn, c = library.nn, size.width

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1 = nn.LayerNorm(c)
            self.qkv = nn.Linear(c, 3 * c)
            self.out = nn.Linear(c, c)
            self.norm2 = nn.LayerNorm(c)
            self.mlp = nn.Sequential(nn.Linear(c, 4 * c), nn.GELU(), nn.Linear(4 * c, c))

        def attention(self, x: Any) -> Any:
            parts = self.qkv(x).split(c, 2)  # three of (B, T, C)
            q, k, v = (part.reshape(*x.shape[:2], size.heads, -1).transpose(1, 2) for part in parts)  # (B, N, T, H)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(mixed.transpose(1, 2).reshape(x.shape))  # (B, T, C)

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(VOCABULARY, c)
            self.positions = nn.Embedding(size.time, c)
            self.blocks = nn.Sequential(*[Block() for _ in range(size.layers)])
            self.norm = nn.LayerNorm(c)
            self.head = nn.Linear(c, VOCABULARY, bias=False)

        def forward(self, x: Any) -> Any:
            x = self.tokens(x) + self.positions.weight  # (B, T, C)
            return self.head(self.norm(self.blocks(x)))

    return Transformer()


NETWORKS: dict[str, Network] = {
    "cnn": Cnn(),
    "cnn2": DeepCnn(),
    "lstm": Lstm(),
    "gpt": Gpt(),
    "gpt2": Gpt(batch=32, width=384, time=256, layers=6, heads=6),
}
