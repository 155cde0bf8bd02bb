"""PyTorch's side of bench/recipes.py: each recipe's network of torch's own layers, and a whole step of its training.

Parameters have the names that pellucid gives them, so that the same weights can be copied in; where torch has one layer for
what pellucid makes of others, the weights are laid out anew (`own_layout`). Letters as in pellucid/models.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from starts import Start
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

Turns = list[tuple[nn.Module, Callable[..., Tensor]]]
GROUPS = 8


class Network(nn.Module):
    """`values(*batch)` is the loss; `turns` are the moves of a step, each with the module that follows it."""

    def phases(self) -> Turns:
        return [(self, self.values)]

    def values(self, *batch: Tensor) -> Tensor:
        raise NotImplementedError


# ---- convolutional networks ----


class Convolution(nn.Module):
    def __init__(self, channels: int, out: int, pool: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.norm(self.pool(self.convolution(x))))


class Whitening(nn.Module):
    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, 2 * channels * size**2, size)
        self.convolution.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.convolution(x))


class CNN(Network):
    def __init__(self, start: Start) -> None:
        super().__init__()
        config, inputs = start.config, start.inputs
        *channels, height, width = inputs["image"]
        now, side = channels[0] if channels else 1, min(height, width)
        for name in ("mean", "std"):
            table = torch.tensor(inputs[name]).reshape(-1, 1, 1) if name in inputs else None
            self.register_buffer(name, table, persistent=False)
        self.whitening = Whitening(now, config["whiten"]) if config["whiten"] else nn.Identity()
        if config["whiten"]:
            now, side = 2 * now * config["whiten"] ** 2, side - config["whiten"] + 1
        self.stages = nn.Sequential()
        for out in config["channels"]:
            rest = [Convolution(out, out, False) for _ in range(config["depth"] - 1)]
            self.stages.append(nn.Sequential(Convolution(now, out, side >= 4), *rest))
            now, side = out, side // 2 if side >= 4 else side
        self.head = nn.Linear(now, start.outputs)
        self.smoothing = config["label_smoothing"]

    def values(self, image: Tensor, target: Tensor) -> Tensor:
        x = image.unsqueeze(1) if image.ndim == 3 else image
        if self.mean is not None:
            x = (x.float() - self.mean) / self.std
        y = self.head(self.stages(self.whitening(x)).mean((2, 3)))
        return F.cross_entropy(y, target, label_smoothing=self.smoothing)


# ---- recurrent networks and Transformer ----


class Layers(nn.Module):
    def __init__(self, size: int, config: dict[str, Any]) -> None:
        super().__init__()
        cell = {"lstm": nn.LSTM, "gru": nn.GRU}[config["cell"]]
        self.layers = nn.ModuleList(
            [cell(a, b, batch_first=True) for a, b in pairwise((size, *config["hidden_sizes"]))]
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x, _ = layer(x)
        return x


class Text(Network):
    def __init__(self, start: Start) -> None:
        super().__init__()
        self.embedding = nn.Embedding(start.outputs, start.config["embedding_dim"])
        self.recurrent = Layers(start.config["embedding_dim"], start.config)
        self.head = nn.Linear(start.config["hidden_sizes"][-1], start.outputs)

    def values(self, tokens: Tensor, target: Tensor) -> Tensor:
        y = self.head(self.recurrent(self.embedding(tokens)))  # (B, T, V)
        return F.cross_entropy(y.flatten(0, 1), target.flatten())


class Series(Network):
    def __init__(self, start: Start) -> None:
        super().__init__()
        self.recurrent = Layers(start.inputs["series"][1], start.config)
        self.head = nn.Linear(start.config["hidden_sizes"][-1], start.outputs)

    def values(self, series: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(self.head(self.recurrent(series)[:, -1]).squeeze(1), target)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.c_attn, self.c_proj, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x: Tensor) -> Tensor:
        parts = self.c_attn(x).chunk(3, 2)  # three of (B, T, C)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)  # (B, H, T, D)
        return self.c_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Hidden(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), Attention(width, heads)
        self.ln_2, self.mlp = nn.LayerNorm(width), Hidden(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(Network):
    def __init__(self, start: Start) -> None:
        super().__init__()
        width, config = start.config["d_model"], start.config
        self.wte, self.wpe = nn.Embedding(start.outputs, width), nn.Embedding(config["context_length"], width)
        self.h = nn.Sequential(*(Block(width, config["num_heads"]) for _ in range(config["num_layers"])))
        self.ln_f = nn.LayerNorm(width)

    def values(self, tokens: Tensor, target: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]  # (B, T, C)
        y = F.linear(self.ln_f(self.h(x)), self.wte.weight)
        return F.cross_entropy(y.flatten(0, 1), target.flatten())


# ---- networks that draw ----


class Canvas(nn.Module):
    """Grey images (B, H, W) -> (B, 1, H, W) between -1 and 1."""

    def __init__(self, start: Start) -> None:
        super().__init__()
        self.white = start.inputs["white"]

    def forward(self, image: Tensor) -> Tensor:
        return image.unsqueeze(1) * (2 / self.white) - 1


class Squares(nn.Module):
    """Holds a convolution under the name it has in pellucid."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.conv = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class ClassNorm(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm, self.styles = nn.BatchNorm2d(channels, affine=False), nn.Embedding(classes, 2 * channels)

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        scale, shift = self.styles(classes)[:, :, None, None].chunk(2, 1)
        return self.norm(x) * (scale + 1) + shift


class Drawer(nn.Module):
    def __init__(self, start: Start) -> None:
        super().__init__()
        config, (height, width) = start.config, start.inputs["image"]
        widths = [config["width"] * 2, config["width"]]  # 28 -> 14 -> 7
        self.start = (widths[0], height // 4, width // 4)
        self.classes = nn.Embedding(start.outputs, config["latent"])
        self.project = nn.Linear(config["latent"], math.prod(self.start), bias=False)
        self.norms = nn.ModuleList([ClassNorm(width, start.outputs) for width in widths])
        doubles = [nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, bias=False) for a, b in pairwise((*widths, 1))]
        self.upsamples = nn.ModuleList([Squares(layer) for layer in doubles])
        self.image_bias = nn.Parameter(torch.zeros(1))

    def forward(self, latent: Tensor, classes: Tensor) -> Tensor:
        x = self.project(latent * self.classes(classes)).reshape(-1, *self.start)
        for norm, double in zip(self.norms, self.upsamples, strict=True):
            x = double(F.relu(norm(x, classes)))
        return (x + self.image_bias.reshape(1, -1, 1, 1)).tanh()


class Critic(nn.Module):
    def __init__(self, start: Start) -> None:
        super().__init__()
        width, (height, across) = start.config["critic_width"], start.inputs["image"]
        halves = [nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise((1, width, 2 * width))]
        self.downsamples = nn.ModuleList([Squares(nn.utils.spectral_norm(layer)) for layer in halves])
        pixels = (height // 4) * (across // 4)
        self.scores = nn.utils.spectral_norm(nn.Linear(2 * width * (pixels + 1), 1 + start.outputs))

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        for halve in self.downsamples:
            x = F.leaky_relu(halve(x), 0.2)
        spread = (x.var(0, unbiased=False) + 1e-6).sqrt().mean((1, 2)).expand(x.shape[0], -1)
        scores = self.scores(torch.cat([x.flatten(1), spread * 4], 1))  # (B, 1 + K)
        return scores[:, 0] + scores[:, 1:].gather(1, classes.unsqueeze(1)).squeeze(1)


class GAN(Network):
    def __init__(self, start: Start) -> None:
        super().__init__()
        self.canvas, self.generator, self.critic = Canvas(start), Drawer(start), Critic(start)

    def phases(self) -> Turns:
        return [(self.critic, self.critic_step), (self.generator, self.generator_step)]

    def critic_step(self, image: Tensor, latent: Tensor, _: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            drawn = self.generator(latent, target)
        real, false = self.critic(self.canvas(image), target), self.critic(drawn, target)
        return F.softplus(-real).mean() + F.softplus(false).mean()

    def generator_step(self, image: Tensor, _: Tensor, latent: Tensor, target: Tensor) -> Tensor:
        return F.softplus(-self.critic(self.generator(latent, target), target)).mean()


class Residual(nn.Module):
    """The block of the U-Net."""

    def __init__(self, inputs: int, outputs: int, known: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, inputs), nn.GroupNorm(GROUPS, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.condition = nn.Linear(known, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        scale, shift = self.condition(known)[:, :, None, None].chunk(2, 1)
        y = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(y) * (scale + 1) + shift))


class PixelAttention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).unflatten(1, (3, -1)).transpose(2, 3).unbind(1)  # (B, H W, C) each
        mixed = F.scaled_dot_product_attention(q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1)).squeeze(1)
        return x + self.out(mixed.transpose(1, 2).reshape(x.shape))


class Floor(nn.Module):
    def __init__(self, inputs: int, width: int, depth: int, known: int, config: dict[str, Any]) -> None:
        super().__init__()
        inner = [width] * config["blocks"]
        self.attention = PixelAttention(width) if config["attention"] and depth == 1 else nn.Identity()
        self.down_blocks = nn.ModuleList([Residual(a, width, known) for a in [inputs, *inner[1:]]])
        self.lower = Floor(width, 2 * width, depth - 1, known, config) if depth > 1 else None
        self.up_conv = nn.Conv2d(2 * width, width, 1) if depth > 1 else nn.Identity()
        self.up_blocks = nn.ModuleList([Residual(width, width, known) for _ in inner])

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        for block in self.down_blocks:
            x = block(x, known)
        x = self.attention(x)
        if self.lower is not None:
            x = x + F.interpolate(self.up_conv(self.lower(F.avg_pool2d(x, 2), known)), scale_factor=2)
        for block in self.up_blocks:
            x = block(x, known)
        return x


class UNet(nn.Module):
    def __init__(self, start: Start) -> None:
        super().__init__()
        config = start.config
        width, known, self.patch = config["width"], 4 * config["width"], config["patch"]
        frequency = torch.from_numpy(np.geomspace(0.5, 32, 16, dtype=np.float32))
        self.register_buffer("frequency", frequency, persistent=False)
        self.noise_embedding, self.condition = nn.Linear(32, known), nn.Linear(known, known)
        self.class_embedding = nn.Embedding(start.outputs + 1, known)
        self.conv_in = nn.Conv2d(self.patch**2, width, 3, padding=1)
        self.levels = Floor(width, width, config["depth"], known, config)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.conv_out = nn.Conv2d(width, self.patch**2, 3, padding=1)

    def forward(self, x: Tensor, noise: Tensor, classes: Tensor) -> Tensor:
        angle = noise.unsqueeze(1) * self.frequency
        known = self.noise_embedding(torch.cat([angle.sin(), angle.cos()], 1)) + self.class_embedding(classes)
        known = F.silu(self.condition(F.silu(known)))
        x = self.levels(self.conv_in(F.pixel_unshuffle(x, self.patch)), known)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm(x))), self.patch)


class Diffusion(Network):
    def __init__(self, start: Start) -> None:
        super().__init__()
        self.canvas, self.unet = Canvas(start), UNet(start)
        self.nobody, self.config = start.outputs, start.config

    def values(self, image: Tensor, level: Tensor, chance: Tensor, normal: Tensor, target: Tensor) -> Tensor:
        noise = (level * self.config["noise_spread"] + self.config["noise_mean"]).exp()
        classes = torch.where(chance < self.config["class_dropout"], self.nobody, target)
        clean, deviation, total = self.canvas(image), noise[:, None, None, None], noise**2 + 0.25
        noisy = clean + normal * deviation
        column = lambda values: values[:, None, None, None]
        said = self.unet(noisy * column(total.rsqrt()), noise.log() / 4, classes)
        away = noisy * column(0.25 / total) + said * column(noise * 0.5 * total.rsqrt()) - clean
        return (away.square().mean((1, 2, 3)) * total / (noise * 0.5).square()).mean()


NETWORKS: dict[str, type[Any]] = {
    "cnn-image-grey": CNN, "cnn-image": CNN, "lstm-text": Text, "lstm-series": Series, "transformer-text": Transformer,
    "gan-image-grey": GAN, "diffusion-image-grey": Diffusion,
}  # fmt: skip


# ---- the same weights ----


def own_layout(start: Start) -> dict[str, Tensor]:
    """The weights at the start, as torch's layers hold them."""
    return {name: torch.from_numpy(layer_weight(start, name, array)).clone() for name, array in start.weights.items()}


def layer_weight(start: Start, name: str, array: np.ndarray) -> np.ndarray:
    if "downsamples" in name and name.endswith("weight_v"):  # a vector over the inputs of a kernel
        return layer_weight(start, name.replace("_v", "_orig"), array.reshape(1, -1, 2, 2)).ravel()
    if ".conv." in name and array.ndim == 4:
        a, b, *_ = array.shape
        if "downsamples" in name:  # (out, in y x, Y, X) -> (out, in, Y y, X x): a kernel of 4 pixels
            return array.reshape(a, b // 4, 2, 2, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(a, b // 4, 4, 4)
        # (out y x, in, Y, X) -> (in, out, Y y, X x), Y and X turned round, since the kernel spreads and does not gather
        parts = array.reshape(a // 4, 2, 2, b, 2, 2)[..., ::-1, ::-1]
        return parts.transpose(3, 0, 4, 1, 5, 2).reshape(b, a // 4, 4, 4)
    return array


# ---- the step ----


class Muon:
    """torch.optim.Muon takes matrices alone and iterates in bfloat16; this one moves filters as matrices, in float32."""

    def __init__(self, params: list[nn.Parameter], settings: dict[str, Any], wrap: Callable[[Any], Any]) -> None:
        self.param_groups = [{"params": params, "lr": 0.0}]
        self.buffers = [torch.zeros_like(p) for p in params]
        self.decay, self.orthogonal = settings["weight_decay"], wrap(orthogonal)

    @torch.no_grad()
    def step(self) -> None:
        params, lr = self.param_groups[0]["params"], self.param_groups[0]["lr"]
        gradients = [p.grad for p in params]
        torch._foreach_lerp_(self.buffers, gradients, 0.05)
        directions = torch._foreach_lerp(gradients, self.buffers, 0.95)
        torch._foreach_mul_(params, 1 - lr * self.decay)
        for p, direction in zip(params, directions, strict=True):
            matrix = direction.flatten(1)
            p.add_(self.orthogonal(matrix).reshape(p.shape), alpha=-lr * 0.2 * math.sqrt(max(matrix.shape)))


def orthogonal(x: Tensor) -> Tensor:
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.mT if tall else x


def make_optimizers(module: nn.Module, start: Start, wrap: Callable[[Any], Any]) -> list[Any]:
    settings = start.settings
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    betas, decay = (settings["momentum"], settings["beta2"]), settings["weight_decay"]
    parts: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, p in named:
        if name not in start.matrices:
            parts[name in start.decayed].append(p)
    groups = [{"params": parts[decays], "weight_decay": decay * decays} for decays in parts if parts[decays]]
    if settings["optimizer"] == "rmsprop":
        return [torch.optim.RMSprop(groups, foreach=True)]  # of which there is no fused one
    adamw = torch.optim.AdamW(groups, betas=betas, fused=True)
    if settings["optimizer"] != "muon":
        return [adamw]
    return [Muon([p for name, p in named if name in start.matrices], settings, wrap), adamw]


def as_it_is(function: Any) -> Any:
    return function


def make_step(start: Start, wrap: Callable[[Any], Any] = as_it_is, last: bool = False) -> Any:
    """step(*batch) -> loss, the sum over turns: a whole step. `wrap` may compile losses; last: channels last in memory."""
    torch.manual_seed(0)
    model = NETWORKS[start.recipe](start)
    model.load_state_dict(own_layout(start))
    if last:
        model.to(memory_format=torch.channels_last)
    moves = [
        ([p for p in module.parameters() if p.requires_grad], wrap(values), make_optimizers(module, start, wrap))
        for module, values in model.phases()
    ]
    newest = [*model.parameters(), *(b for b in model.state_dict().values() if b.is_floating_point())]
    newest = list({t.data_ptr(): t.detach() for t in newest}.values())
    averages = [t.clone() for t in newest]
    count = 0

    def step(*batch: Tensor) -> Tensor:
        nonlocal count
        losses = []
        for params, values, optimizers in moves:
            if len(moves) > 1:
                for p in model.parameters():
                    p.requires_grad_(False)
                for p in params:
                    p.requires_grad_(True)
            for p in params:
                p.grad = None
            loss = values(*batch)
            loss.backward()
            if start.settings["clip_grad_norm"]:
                nn.utils.clip_grad_norm_(params, start.settings["clip_grad_norm"], foreach=True)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = start.rate(count)
                optimizer.step()
            losses.append(loss.detach())
        if start.settings["ema_decay"]:
            torch._foreach_lerp_(averages, newest, start.renewed(count))
        count += 1
        return sum(losses[1:], losses[0])

    return step


def batches(start: Start, last: bool = False) -> list[tuple[Tensor, ...]]:
    def laid_out(array: np.ndarray) -> Tensor:
        x = torch.from_numpy(array)
        return x.to(memory_format=torch.channels_last) if last and x.ndim == 4 else x

    return [tuple(map(laid_out, batch)) for batch in start.batches]


def compiling() -> Callable[[Any], Any]:
    """A second network must not make the first one's shapes vary."""
    return functools.partial(torch.compile, dynamic=False)


def flops(start: Start) -> int:
    """Of the matrix products and convolutions of a step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the switch warns of a GPU's TF32
        # Without oneDNN, whose LSTM is one operation that the counter does not know.
        with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
            make_step(start)(*batches(start)[0])
    return int(counter.get_total_flops())
