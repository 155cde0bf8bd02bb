"""JAX's side of bench/recipes.py, by hand: each recipe's loss as a function of weights by name, and a whole step as one jit.

Weights have pellucid's names and shapes; images go through with channels last, as XLA likes them on a processor. The GAN,
with two turns and a critic that moves buffers, is left out. Letters as in pellucid/models.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.nn import gelu, sigmoid, silu
from networks import jax_convolution, jax_pool
from starts import Start

Weights = dict[str, Any]
Loss = Callable[..., tuple[Any, Weights]]  # (start, weights, running, *batch) -> (loss, running)
RUNNING = ("running_mean", "running_var")  # what a step changes by the way, by the ends of their names
FIXED = "whitening.convolution.weight"
GROUPS = 8


def linear(w: Weights, name: str, x: Any) -> Any:
    return x @ w[name + ".weight"].T + w[name + ".bias"]


def cross_entropy(logits: Any, target: Any, smoothing: float = 0.0) -> Any:
    """logits (N, K), target (N,)."""
    logs = jax.nn.log_softmax(logits)
    own = jnp.take_along_axis(logs, target[:, None], 1).mean()
    return -(1 - smoothing) * own - smoothing * logs.mean()


# ---- convolutional networks: (B, H, W, C) ----


def batch_norm(w: Weights, running: Weights, name: str, x: Any) -> tuple[Any, Weights]:
    mean, variance, count = x.mean((0, 1, 2)), x.var((0, 1, 2)), x.size // x.shape[-1]
    seen = {"running_mean": mean, "running_var": variance * count / (count - 1)}
    moved = {f"{name}.{key}": 0.9 * running[f"{name}.{key}"] + 0.1 * value for key, value in seen.items()}
    scale = w[name + ".weight"] * lax.rsqrt(variance + 1e-5)
    return (x - mean) * scale + w[name + ".bias"], running | moved


def cnn(start: Start, w: Weights, running: Weights, image: Any, target: Any) -> tuple[Any, Weights]:
    config, inputs = start.config, start.inputs
    x = image[..., None]
    if "mean" in inputs:
        x = (image.astype(jnp.float32).transpose(0, 2, 3, 1) - np.array(inputs["mean"])) / np.array(inputs["std"])
    x = x.astype(jnp.float32)
    if config["whiten"]:
        x = gelu(jax_convolution(x, w[FIXED], 0) + w["whitening.convolution.bias"], approximate=False)
    for i in range(len(config["channels"])):
        for j in range(config["depth"]):
            name, pool = f"stages.{i}.{j}", j == 0 and x.shape[1] >= 4
            x = jax_convolution(x, w[name + ".convolution.weight"], 1)
            even = x.shape[1] // 2 * 2
            x = jax_pool(x[:, :even, :even]) if pool else x
            x, running = batch_norm(w, running, name + ".norm", x)
            x = gelu(x, approximate=False)
    return cross_entropy(linear(w, "head", x.mean((1, 2))), target, config["label_smoothing"]), running


# ---- recurrent networks and Transformer ----


def recurrent(start: Start, w: Weights, x: Any) -> Any:
    """(B, T, C) -> (T, B, H). The input's product stands inside the loop, no slower in XLA than before it."""
    x = x.swapaxes(0, 1)
    for i, size in enumerate(start.config["hidden_sizes"]):
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        weights = [w[f"recurrent.layers.{i}.{name}"] for name in names]
        nothing = jnp.zeros((x.shape[1], size), jnp.float32)
        cell, first = (lstm, (nothing, nothing)) if start.config["cell"] == "lstm" else (gru, (nothing,))
        _, x = lax.scan(lambda state, x, cell=cell, weights=weights: cell(weights, state, x), first, x)
    return x


def lstm(weights: list[Any], state: Any, x: Any) -> Any:
    from_input, from_state, bias1, bias2 = weights
    h, c = state
    enter, keep, new, leave = jnp.split(x @ from_input.T + h @ from_state.T + (bias1 + bias2), 4, 1)
    c = sigmoid(keep) * c + sigmoid(enter) * jnp.tanh(new)
    h = sigmoid(leave) * jnp.tanh(c)
    return (h, c), h


def gru(weights: list[Any], state: Any, x: Any) -> Any:
    from_input, from_state, bias1, bias2 = weights
    (h,) = state
    said, known = (jnp.split(part, 3, 1) for part in (x @ from_input.T + bias1, h @ from_state.T + bias2))
    new = jnp.tanh(said[2] + sigmoid(said[0] + known[0]) * known[2])
    keep = sigmoid(said[1] + known[1])
    h = (1 - keep) * new + keep * h
    return (h,), h


def text(start: Start, w: Weights, running: Weights, tokens: Any, target: Any) -> tuple[Any, Weights]:
    hidden = recurrent(start, w, w["embedding.weight"][tokens]).swapaxes(0, 1)  # (B, T, H)
    logits = linear(w, "head", hidden)
    return cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1)), running


def series(start: Start, w: Weights, running: Weights, window: Any, target: Any) -> tuple[Any, Weights]:
    return jnp.square(linear(w, "head", recurrent(start, w, window)[-1])[:, 0] - target).mean(), running


def transformer(start: Start, w: Weights, running: Weights, tokens: Any, target: Any) -> tuple[Any, Weights]:
    """Attention as plain products: jax.nn.dot_product_attention was slower on a processor."""
    config, (_, length) = start.config, tokens.shape

    def norm(name: str, x: Any) -> Any:
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) * lax.rsqrt(variance + 1e-5) * w[name + ".weight"] + w[name + ".bias"]

    def attention(name: str, x: Any) -> Any:
        parts = linear(w, name + ".c_attn", x).reshape(*x.shape[:2], 3, config["num_heads"], -1)
        q, k, v = parts.transpose(2, 0, 3, 1, 4)  # (B, H, T, D)
        scores = q @ k.swapaxes(2, 3) * q.shape[-1] ** -0.5
        mixed = jax.nn.softmax(jnp.where(left, scores, -jnp.inf)) @ v
        return linear(w, name + ".c_proj", mixed.swapaxes(1, 2).reshape(x.shape))

    left = jnp.tril(jnp.ones((length, length), bool))
    x = w["wte.weight"][tokens] + w["wpe.weight"][:length]
    for i in range(config["num_layers"]):
        x = x + attention(f"h.{i}.attn", norm(f"h.{i}.ln_1", x))
        hidden = gelu(linear(w, f"h.{i}.mlp.c_fc", norm(f"h.{i}.ln_2", x)), approximate=True)
        x = x + linear(w, f"h.{i}.mlp.c_proj", hidden)
    logits = norm("ln_f", x) @ w["wte.weight"].T
    return cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1)), running


# ---- the diffusion model: (B, H, W, C) ----


def convolution(w: Weights, name: str, x: Any) -> Any:
    kernel = w[name + ".weight"]
    return jax_convolution(x, kernel, kernel.shape[-1] // 2) + w[name + ".bias"]


def group_norm(w: Weights, name: str, x: Any) -> Any:
    parts = x.reshape(*x.shape[:3], GROUPS, -1)
    mean, variance = parts.mean((1, 2, 4), keepdims=True), parts.var((1, 2, 4), keepdims=True)
    return ((parts - mean) * lax.rsqrt(variance + 1e-5)).reshape(x.shape) * w[name + ".weight"] + w[name + ".bias"]


def residual(w: Weights, name: str, x: Any, known: Any) -> Any:
    scale, shift = jnp.split(linear(w, name + ".condition", known)[:, None, None], 2, 3)
    y = convolution(w, name + ".conv1", silu(group_norm(w, name + ".norm1", x)))
    y = convolution(w, name + ".conv2", silu(group_norm(w, name + ".norm2", y) * (scale + 1) + shift))
    past = convolution(w, name + ".skip", x) if name + ".skip.weight" in w else x
    return past + y


def pixel_attention(w: Weights, name: str, x: Any) -> Any:
    parts = convolution(w, name + ".qkv", group_norm(w, name + ".norm", x))
    q, k, v = jnp.split(parts.reshape(len(x), -1, parts.shape[-1]), 3, 2)  # (B, H W, C) each
    mixed = jax.nn.softmax(q @ k.swapaxes(1, 2) * q.shape[-1] ** -0.5) @ v
    return x + convolution(w, name + ".out", mixed.reshape(x.shape))


def floor(w: Weights, name: str, x: Any, known: Any, config: dict[str, Any], depth: int) -> Any:
    for i in range(config["blocks"]):
        x = residual(w, f"{name}.down_blocks.{i}", x, known)
    if config["attention"] and depth == 1:
        x = pixel_attention(w, name + ".attention", x)
    if depth > 1:
        b, h, across, c = x.shape
        half = x.reshape(b, h // 2, 2, across // 2, 2, c).mean((2, 4))
        below = convolution(w, name + ".up_conv", floor(w, name + ".lower", half, known, config, depth - 1))
        x = x + below.repeat(2, 1).repeat(2, 2)
    for i in range(config["blocks"]):
        x = residual(w, f"{name}.up_blocks.{i}", x, known)
    return x


def unet(start: Start, w: Weights, x: Any, noise: Any, classes: Any) -> Any:
    config, (b, h, across, _) = start.config, x.shape
    patch = config["patch"]
    angle = noise[:, None] * np.geomspace(0.5, 32, 16, dtype=np.float32)
    known = linear(w, "unet.noise_embedding", jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], 1))
    known = silu(linear(w, "unet.condition", silu(known + w["unet.class_embedding.weight"][classes])))
    x = x.reshape(b, h // patch, patch, across // patch, patch).transpose(0, 1, 3, 2, 4)
    x = convolution(w, "unet.conv_in", x.reshape(b, h // patch, across // patch, patch**2))
    x = silu(group_norm(w, "unet.norm", floor(w, "unet.levels", x, known, config, config["depth"])))
    x = convolution(w, "unet.conv_out", x).reshape(b, h // patch, across // patch, patch, patch)
    return x.transpose(0, 1, 3, 2, 4).reshape(b, h, across, 1)


def diffusion(
    start: Start, w: Weights, running: Weights, image: Any, level: Any, chance: Any, normal: Any, target: Any
) -> tuple[Any, Weights]:
    noise = jnp.exp(level * start.config["noise_spread"] + start.config["noise_mean"])
    classes = jnp.where(chance < start.config["class_dropout"], start.outputs, target)
    total, column = noise**2 + 0.25, lambda values: values[:, None, None, None]
    clean = image[..., None] * (2 / start.inputs["white"]) - 1
    noisy = clean + normal.reshape(clean.shape) * column(noise)
    said = unet(start, w, noisy * column(lax.rsqrt(total)), jnp.log(noise) / 4, classes)
    away = noisy * column(0.25 / total) + said * column(noise * 0.5 * lax.rsqrt(total)) - clean
    return (jnp.square(away).mean((1, 2, 3)) * total / jnp.square(noise * 0.5)).mean(), running


LOSSES: dict[str, Loss] = {
    "cnn-image-grey": cnn, "cnn-image": cnn, "lstm-text": text, "lstm-series": series, "transformer-text": transformer,
    "diffusion-image-grey": diffusion,
}  # fmt: skip


# ---- the step ----


def orthogonal(x: Any) -> Any:
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / jnp.maximum(jnp.sqrt(jnp.square(x).sum()), 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * (gram @ gram)) @ x
    return x.T if tall else x


def make_update(start: Start) -> Callable[..., Any]:
    """update(name, w, g, state, lr, count) -> (w, state) of one parameter."""
    settings = start.settings
    beta1, beta2, decay = settings["momentum"], settings["beta2"], settings["weight_decay"]

    def update(name: str, w: Any, g: Any, state: Any, lr: Any, count: Any) -> Any:
        if name in start.matrices:
            buffer = 0.95 * state[0] + 0.05 * g
            matrix = (0.05 * g + 0.95 * buffer).reshape(len(g), -1)
            far = lr * 0.2 * math.sqrt(max(matrix.shape))
            return w * (1 - lr * decay) - far * orthogonal(matrix).reshape(w.shape), (buffer,)
        m, v = beta1 * state[0] + (1 - beta1) * g, beta2 * state[1] + (1 - beta2) * g * g
        kept = w * (1 - lr * decay) if name in start.decayed else w
        moved = kept - lr * (m / (1 - beta1**count)) / (jnp.sqrt(v / (1 - beta2**count)) + 1e-8)
        return moved, (m, v)

    return update


def make_step(start: Start) -> Any:
    """step(*batch) -> loss: a whole step. Raises KeyError for the GAN."""
    loss_of, update, clip = LOSSES[start.recipe], make_update(start), start.settings["clip_grad_norm"]
    numbers = {name: jnp.array(w) for name, w in start.weights.items() if w.dtype == np.float32}
    running = {name: w for name, w in numbers.items() if name.endswith(RUNNING)}
    fixed = {name: w for name, w in numbers.items() if name == FIXED}
    weights = {name: w for name, w in numbers.items() if name not in running and name not in fixed}
    moments = {name: (jnp.zeros_like(w), jnp.zeros_like(w)) for name, w in weights.items()}
    averages = {name: jnp.array(w) for name, w in numbers.items()}

    def whole(state: Any, lr: Any, renewed: Any, count: Any, *batch: Any) -> Any:
        weights, running, moments, averages = state
        of = lambda weights: loss_of(start, weights | fixed, running, *batch)
        (loss, running), gradients = jax.value_and_grad(of, has_aux=True)(weights)
        if clip:
            norm = jnp.sqrt(sum(jnp.square(g).sum() for g in gradients.values()))
            gradients = {name: g * jnp.minimum(clip / (norm + 1e-6), 1) for name, g in gradients.items()}
        moved = {name: update(name, w, gradients[name], moments[name], lr, count) for name, w in weights.items()}
        weights, moments = ({name: both[i] for name, both in moved.items()} for i in range(2))
        if start.settings["ema_decay"]:
            newest = weights | running | fixed
            averages = {name: a + renewed * (newest[name] - a) for name, a in averages.items()}
        return (weights, running, moments, averages), loss

    compiled, state, count = jax.jit(whole, donate_argnums=0), (weights, running, moments, averages), 0

    def step(*batch: Any) -> Any:
        nonlocal state, count
        rates = (np.float32(number) for number in (start.rate(count), start.renewed(count), count + 1))
        state, loss = compiled(state, *rates, *batch)
        count += 1
        return jax.block_until_ready(loss)

    return step


def batches(start: Start) -> list[tuple[Any, ...]]:
    narrow = lambda array: array.astype(np.int32) if array.dtype == np.int64 else array
    return [tuple(jax.device_put(narrow(array)) for array in batch) for batch in start.batches]
