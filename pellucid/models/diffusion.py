"""A diffusion model for small images: a U-Net that takes noise away, and the sampler that draws with it (floor 5).

    noisy image x, deviation s of its noise, class  ->  D(x; s), the mean of all images that x may have come from

Preconditioning, weights of the loss and sampler are those of Karras et al. 2022 ("EDM", arXiv 2206.00364); the U-Net is of
Ho et al. 2020 (arXiv 2006.11239). Shapes: B batch, C channels, E embedding, K classes, S noise levels, H x W pixels.
What an image is stands in `canvas.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from .. import functional as F
from .. import nn
from ..creation import cat, tensor, where
from ..errors import OptionError
from ..random import Generator, rand, randn
from ..tensor import Tensor
from .base import ImageGenerator, Values, check_kinds, in_batches
from .blocks.image_scaling import ImageScaling, checked_labels, pixels, squares

INPUTS = ("pixels",)
DATA = 0.5  # deviation of the data between -1 and 1, as the paper takes it
MEAN, SPREAD = -1.2, 1.2  # of the logarithm of the noise levels that are judged, the paper's for training
LEAST, MOST, CURVE = 0.002, 80.0, 7.0  # the sampler's last and first noise levels, and how they crowd towards the last
JUDGED = 16  # noise levels that examples are judged at, in turn, each as likely as the others in training
GROUPS = 8  # of channels, normalised together


@dataclass(frozen=True)
class Config:
    """What makes one diffusion model differ from another; plain values, so that it can be saved as JSON.

    width: channels at full size, twice as many on each of the `depth` floors below.    blocks: of a floor, each way.
    noise_mean, noise_spread: of the logarithm of the noise levels that are trained on; the paper's for photographs.
    patch: squares of so many pixels a side enter as one.    attention: whether the lowest floor has it.
    dropped: how often the class is kept from the network in training.    steps: noise levels of the sampler, 2 steps - 1
    evaluations.    guidance: how far drawings go from what is drawn without a class towards their own, and past it above 1.
    """

    width: int = 32
    depth: int = 2
    blocks: int = 1
    patch: int = 2
    attention: bool = True
    noise_mean: float = MEAN
    noise_spread: float = SPREAD
    conditional: bool = True
    dropped: float = 0.1
    steps: int = 18
    guidance: float = 1.0

    def __post_init__(self) -> None:
        check_kinds(self)
        least = {"width": GROUPS, "depth": 1, "blocks": 1, "patch": 1, "steps": 2}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                default = next(field.default for field in fields(self) if field.name == name)
                raise OptionError(
                    f"{name}: {getattr(self, name)}; expected a whole number from {smallest}; write {default}"
                )
        if self.width % GROUPS:
            raise OptionError(f"width: {self.width}; expected a multiple of {GROUPS}; write 32")
        if not 0 <= self.dropped < 1 or not 0 <= self.guidance < math.inf:
            raise OptionError(f"dropped, guidance: {self.dropped}, {self.guidance}; expected 0 up to, but not including, 1, and "
                              "a number from 0; write 0.1 and 1")  # fmt: skip
        if not math.isfinite(self.noise_mean) or not 0 <= self.noise_spread < math.inf:
            raise OptionError(f"noise_mean, noise_spread: {self.noise_mean}, {self.noise_spread}; expected a number, and one from 0; "
                              f"write {MEAN} and {SPREAD}")  # fmt: skip


# ---- the network -----------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """x (B, in, H, W), what is known (B, E) -> (B, out, H, W): two convolutions beside a way past them."""

    def __init__(self, inputs: int, outputs: int, known: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, inputs), nn.GroupNorm(GROUPS, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nothing(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.known = nn.Linear(known, 2 * outputs)
        self.past = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        scale, shift = self.known(known).unsqueeze(-1).unsqueeze(-1).chunk(2, 1)  # (B, out, 1, 1) each
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y) * (scale + 1) + shift))
        return self.past(x) + y


class Attention(nn.Module):
    """x (B, C, H, W): every pixel looks at all others (Vaswani et al. 2017), added to what it was."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nothing(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.norm(x)).movedim(1, -1).flatten(1, 2).unflatten(-1, (3, -1))  # (B, H W, 3, C)
        q, k, v = parts.unbind(2)
        mixed = F.scaled_dot_product_attention(q, k, v)  # (B, H W, C)
        return x + self.out(mixed.unflatten(1, x.shape[2:]).movedim(-1, 1))


class Floor(nn.Module):
    """x (B, in, H, W), what is known (B, E) -> (B, width, H, W): a floor of the U-Net and all floors below it.

    What comes up from below, twice as wide at half the sides, is added to what went down.
    """

    def __init__(self, inputs: int, width: int, depth: int, known: int, config: Config) -> None:
        super().__init__()
        inner = [width] * config.blocks
        self.first = nn.ModuleList([Block(a, width, known) for a in [inputs, *inner[1:]]])
        self.attention = Attention(width) if config.attention and depth == 1 else None
        self.below = Floor(width, 2 * width, depth - 1, known, config) if depth > 1 else None
        self.rise = nn.Conv2d(2 * width, width, 1) if depth > 1 else nn.Identity()
        self.last = nn.ModuleList([Block(width, width, known) for _ in inner])

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        for block in self.first:
            x = block(x, known)
        if self.attention is not None:
            x = self.attention(x)
        if self.below is not None:
            x = x + F.interpolate(self.rise(self.below(F.avg_pool2d(x, 2), known)), scale_factor=2)
        for block in self.last:
            x = block(x, known)
        return x


class UNet(nn.Module):
    """x (B, C, H, W), a quarter of log noise (B,), classes (B,) -> (B, C, H, W), starting as zeros."""

    def __init__(self, canvas: ImageScaling, classes: int, config: Config) -> None:
        super().__init__()
        self.patch, self.multiple = config.patch, config.patch * 2 ** (config.depth - 1)
        width, known = config.width, 4 * config.width
        self.register_buffer("frequency", tensor(np.geomspace(0.5, 32, 16, dtype=np.float32)), persistent=False)
        self.noise = nn.Linear(32, known)
        self.classes = nn.Embedding(classes + 1, known)  # the last: no class told
        self.mix = nn.Linear(known, known)
        self.enter = nn.Conv2d(canvas.shape[0] * config.patch**2, width, 3, padding=1)
        self.floor = Floor(width, width, config.depth, known, config)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.leave = nothing(nn.Conv2d(width, canvas.shape[0] * config.patch**2, 3, padding=1))

    def forward(self, x: Tensor, noise: Tensor, classes: Tensor) -> Tensor:
        h, w = x.shape[2:]
        x = squares(F.pad(x, (0, -w % self.multiple, 0, -h % self.multiple)), self.patch)
        angle = noise.unsqueeze(1) * self.frequency  # (B, 16)
        known = self.noise(cat([angle.sin(), angle.cos()], 1)) + self.classes(classes)
        known = F.silu(self.mix(F.silu(known)))  # (B, E)
        x = self.floor(self.enter(x), known)
        return pixels(self.leave(F.silu(self.norm(x))), self.patch)[:, :, :h, :w]


def nothing(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer, starting as one that gives zeros: a block is then at first what goes past it."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


# ---- the model -------------------------------------------------------------------------------------------------------


class Diffusion(ImageGenerator):
    """The denoiser D, trained at noise levels drawn anew for each image, and judged at fixed ones with fixed noise."""

    def __init__(self, inputs: dict[str, Any], outputs: int, config: Config) -> None:
        super().__init__()
        self.canvas, self.classes, self.config = ImageScaling(inputs), outputs, config
        self.conditional = config.conditional
        self.unet = UNet(self.canvas, outputs if config.conditional else 0, config)
        deviations = [MEAN + SPREAD * NormalDist().inv_cdf((i + 0.5) / JUDGED) for i in range(JUDGED)]
        self.register_buffer(
            "judged_noise", tensor(np.exp(deviations).astype(np.float32)), persistent=False
        )  # (JUDGED,)
        fixed = randn(4 * JUDGED, *self.canvas.shape, generator=Generator(1))
        self.register_buffer("fixed", fixed, persistent=False)  # (4 JUDGED, C, H, W)

    def forward(self, x: Tensor, noise: Tensor, classes: Tensor) -> Tensor:
        """D(x; s): noisy images (B, C, H, W) between about -1 and 1, deviations (B,), classes (B,) -> images without noise."""
        passed, scale, enters, told = preconditioning(noise)
        column = lambda values: values.reshape(-1, 1, 1, 1)
        return x * column(passed) + self.unet(x * column(enters), told, classes) * column(scale)

    def _losses(self, image: Tensor, noise: Tensor, normal: Tensor, classes: Tensor) -> Tensor:
        """(B,): the weighted squared error of D, mean over pixels; at each noise level about 1 where D has learned nothing."""
        clean = self.canvas.seen(image)
        away = self(clean + normal * noise.reshape(-1, 1, 1, 1), noise, classes) - clean
        return (away * away).mean((1, 2, 3)) * loss_weight(noise)

    def values(self, *batch: Tensor) -> Values:
        image, target = batch
        noise = (randn(len(target)) * self.config.noise_spread + self.config.noise_mean).exp()
        classes = where(rand(len(target)) < self.config.dropped, self.classes, target)
        return {"loss": self._losses(image, noise, randn(len(target), *self.canvas.shape), self._told(classes)).mean()}

    def judge(self, *batch: Tensor) -> Values:
        image, target = batch
        n = len(target)
        noise = self.judged_noise.repeat(-(-n // JUDGED))[:n]
        normal = self.fixed.repeat(-(-n // len(self.fixed)), 1, 1, 1)[:n]
        return {"loss": self._losses(image, noise, normal, self._told(target))}

    def _told(self, classes: Tensor) -> Tensor:
        return classes if self.conditional else classes * 0

    def paint(self, *batch: Tensor) -> Tensor:
        """D with classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): D(none) + guidance (D(class) - D(none))."""
        x, noise, classes = batch
        much = self.config.guidance
        if much == 1 or not self.conditional:
            return self(x, noise, self._told(classes))
        both = self(cat([x, x]), cat([noise, noise]), cat([classes, classes * 0 + self.classes]))
        own, none = both.chunk(2)
        return none + (own - none) * much

    def draw(
        self, labels: np.ndarray, generator: Generator | None = None, paint: Callable[..., Any] | None = None
    ) -> np.ndarray:
        wanted, run = checked_labels(labels, self.classes), paint or self.paint
        levels = noise_levels(self.config.steps)
        start = randn(len(wanted), *self.canvas.shape, generator=generator).array

        def drawn(rows: range) -> np.ndarray:
            classes = Tensor(wanted[rows])
            at = lambda x, level: run(x, tensor(np.full(len(rows), level, np.float32)), classes)
            return self.canvas.encoded(sample(at, Tensor(start[rows]) * float(levels[0]), levels)).array

        return in_batches(len(wanted), self.drawn_batch, drawn)


# ---- the formulas of Karras et al. 2022 ------------------------------------------------------------------------------


def preconditioning(noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Table 1: c_skip, c_out, c_in and c_noise of deviations (B,), with which the U-Net's input and target have variance 1."""
    total = noise * noise + DATA**2
    return DATA**2 / total, noise * DATA * total.rsqrt(), total.rsqrt(), noise.log() / 4


def loss_weight(noise: Tensor) -> Tensor:
    """1 / c_out^2: with it, all noise levels begin with the same loss."""
    return (noise * noise + DATA**2) / (noise * DATA).square()


def noise_levels(steps: int) -> np.ndarray:
    """Equation 5 and a last 0, (S + 1,): from MOST down to LEAST in even steps of the root CURVE."""
    if steps < 2:
        raise OptionError(f"steps: {steps}; expected at least 2 noise levels; write 18")
    high, low = MOST ** (1 / CURVE), LEAST ** (1 / CURVE)
    return np.append((high + np.arange(steps) / (steps - 1) * (low - high)) ** CURVE, 0.0)


def sample(denoise: Callable[[Tensor, float], Tensor], x: Tensor, levels: np.ndarray) -> Tensor:
    """Algorithm 1: from noise x of deviation levels[0] to an image, by Heun's rule and a last step of Euler's.

    denoise(x, level) gives the mean of the images that x may have come from.
    """
    for now, after in pairwise(levels.tolist()):
        slope = (x - denoise(x, now)) / now
        ahead = x + slope * (after - now)
        if after > 0:
            slope = (slope + (ahead - denoise(ahead, after)) / after) / 2
            ahead = x + slope * (after - now)
        x = ahead
    return x


def build(inputs: dict[str, Any], outputs: int, task: str, config: Config) -> Diffusion:
    """The network for `inputs`, a preprocessor's `input_spec()`; its weights come from the global random stream."""
    return Diffusion(inputs, outputs, config)
