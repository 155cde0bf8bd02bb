"""A diffusion model for small images: a U-Net that denoises, and the sampler that generates with it (floor 5).

    noisy image x, standard deviation s of its noise, class  ->  D(x; s), the mean of all images that x may come from

Preconditioning, loss weights and sampler are those of Karras et al. 2022 ("EDM", arXiv 2206.00364); the U-Net follows
Ho et al. 2020 (arXiv 2006.11239). Shapes: B batch, C channels, E embedding, K classes, S noise levels, H x W pixels.
`blocks/image_scaling.py` scales pixels.
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
from ..data.input_spec import ImageSpec, InputSpec
from ..errors import OptionError
from ..random import Generator, rand, randn
from ..tensor import Tensor
from .base import StepOutput, check_field_types, map_batches, require_spec
from .blocks.image_scaling import ImageScaling, check_labels, pixel_shuffle, pixel_unshuffle
from .heads.generation import ImageGenerator

SIGMA_DATA = 0.5  # standard deviation of the data, scaled to -1..1, as in the paper
NOISE_MEAN, NOISE_SPREAD = -1.2, 1.2  # mean and standard deviation of log noise in evaluation; the paper's for training
SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0  # the sampler's smallest and largest noise, and the curve of its schedule
EVAL_LEVELS = 16  # noise levels of evaluation, taken in turn, equally likely in training
GROUPS = 8  # of group norm


@dataclass(frozen=True)
class Config:
    """Hyperparameters of a diffusion model; plain values, so that they can be saved as JSON.

    width: channels at full size, doubled at each of the `depth` levels of the U-Net.    blocks: of a level, each way.
    noise_mean, noise_spread: mean and standard deviation of the log noise in training; by default the paper's.
    patch: side of the squares of pixels that enter as channels.    attention: whether the lowest level has self-attention.
    conditional: whether the network is given the class.    class_dropout: how often training hides the class, for
    classifier-free guidance.    sampling_steps: noise levels of the sampler; it evaluates the network 2 S - 1 times.
    guidance: scale of classifier-free guidance (Ho and Salimans 2022); 1 turns it off.
    """

    width: int = 32
    depth: int = 2
    blocks: int = 1
    patch: int = 2
    attention: bool = True
    noise_mean: float = NOISE_MEAN
    noise_spread: float = NOISE_SPREAD
    conditional: bool = True
    class_dropout: float = 0.1
    sampling_steps: int = 18
    guidance: float = 1.0

    def __post_init__(self) -> None:
        check_field_types(self)
        least = {"width": GROUPS, "depth": 1, "blocks": 1, "patch": 1, "sampling_steps": 2}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                default = next(field.default for field in fields(self) if field.name == name)
                raise OptionError(
                    f"{name}: {getattr(self, name)}; expected a whole number from {smallest}; write {default}"
                )
        if self.width % GROUPS:
            raise OptionError(f"width: {self.width}; expected a multiple of {GROUPS}; write 32")
        if not 0 <= self.class_dropout < 1:
            raise OptionError(f"class_dropout: {self.class_dropout}; expected 0 up to, but not including, 1; write 0.1")
        if not 0 <= self.guidance < math.inf:
            raise OptionError(f"guidance: {self.guidance}; expected a number from 0; write 1")
        if not math.isfinite(self.noise_mean) or not 0 <= self.noise_spread < math.inf:
            raise OptionError(f"noise_mean, noise_spread: {self.noise_mean}, {self.noise_spread}; expected a number, and a number from 0; "
                              f"write {NOISE_MEAN} and {NOISE_SPREAD}")  # fmt: skip


# ---- the network -----------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """x (B, in, H, W), condition (B, E) -> (B, out, H, W): a residual block of two convolutions."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, inputs), nn.GroupNorm(GROUPS, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = zero_init(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.condition = nn.Linear(embedding, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.condition(condition).unsqueeze(-1).unsqueeze(-1).chunk(2, 1)  # (B, out, 1, 1) each
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y) * (scale + 1) + shift))
        return self.skip(x) + y


class Attention(nn.Module):
    """Self-attention over pixels with a residual connection (Vaswani et al. 2017): (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x)).movedim(1, -1).flatten(1, 2).unflatten(-1, (3, -1))  # (B, H W, 3, C)
        q, k, v = qkv.unbind(2)
        attended = F.scaled_dot_product_attention(q, k, v)  # (B, H W, C)
        return x + self.out(attended.unflatten(1, x.shape[2:]).movedim(-1, 1))


class UNetLevel(nn.Module):
    """x (B, in, H, W), condition (B, E) -> (B, width, H, W): a level of the U-Net and all levels below it.

    The output of the level below, twice as wide at half the sides, is upsampled and added to what it was made from.
    """

    def __init__(self, inputs: int, width: int, depth: int, embedding: int, config: Config) -> None:
        super().__init__()
        inner = [width] * config.blocks
        self.down_blocks = nn.ModuleList([Block(channels, width, embedding) for channels in [inputs, *inner[1:]]])
        self.attention = Attention(width) if config.attention and depth == 1 else None
        self.lower = UNetLevel(width, 2 * width, depth - 1, embedding, config) if depth > 1 else None
        self.up_conv = nn.Conv2d(2 * width, width, 1) if depth > 1 else nn.Identity()
        self.up_blocks = nn.ModuleList([Block(width, width, embedding) for _ in inner])

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        for block in self.down_blocks:
            x = block(x, condition)
        if self.attention is not None:
            x = self.attention(x)
        if self.lower is not None:
            x = x + F.interpolate(self.up_conv(self.lower(F.avg_pool2d(x, 2), condition)), scale_factor=2)
        for block in self.up_blocks:
            x = block(x, condition)
        return x


class UNet(nn.Module):
    """x (B, C, H, W), a quarter of log noise (B,), classes (B,) -> (B, C, H, W); zeros before training."""

    def __init__(self, scaling: ImageScaling, classes: int, config: Config) -> None:
        super().__init__()
        self.patch, self.multiple = config.patch, config.patch * 2 ** (config.depth - 1)
        width, embedding = config.width, 4 * config.width
        self.register_buffer("frequency", tensor(np.geomspace(0.5, 32, 16, dtype=np.float32)), persistent=False)
        self.noise_embedding = nn.Linear(32, embedding)
        self.class_embedding = nn.Embedding(classes + 1, embedding)  # the last row: no class is given
        self.condition = nn.Linear(embedding, embedding)
        self.conv_in = nn.Conv2d(scaling.shape[0] * config.patch**2, width, 3, padding=1)
        self.levels = UNetLevel(width, width, config.depth, embedding, config)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.conv_out = zero_init(nn.Conv2d(width, scaling.shape[0] * config.patch**2, 3, padding=1))

    def forward(self, x: Tensor, noise: Tensor, classes: Tensor) -> Tensor:
        h, w = x.shape[2:]
        x = pixel_unshuffle(F.pad(x, (0, -w % self.multiple, 0, -h % self.multiple)), self.patch)
        angle = noise.unsqueeze(1) * self.frequency  # (B, 16)
        condition = self.noise_embedding(cat([angle.sin(), angle.cos()], 1)) + self.class_embedding(classes)
        condition = F.silu(self.condition(F.silu(condition)))  # (B, E)
        x = self.levels(self.conv_in(x), condition)
        return pixel_shuffle(self.conv_out(F.silu(self.norm(x))), self.patch)[:, :, :h, :w]


def zero_init(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with weights and bias set to zero, so that a residual block starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


# ---- the model -------------------------------------------------------------------------------------------------------


class Diffusion(ImageGenerator):
    """The denoiser D. Training draws a noise level for each image; evaluation uses fixed levels and fixed noise."""

    answer_name = "how badly it restores the image"

    def __init__(self, inputs: ImageSpec, outputs: int, config: Config) -> None:
        super().__init__()
        self.scaling, self.classes, self.config = ImageScaling(inputs), outputs, config
        self.conditional = config.conditional
        self.unet = UNet(self.scaling, outputs if config.conditional else 0, config)
        quantiles = [(i + 0.5) / EVAL_LEVELS for i in range(EVAL_LEVELS)]
        log_noise = [NOISE_MEAN + NOISE_SPREAD * NormalDist().inv_cdf(q) for q in quantiles]
        self.register_buffer("eval_noise", tensor(np.exp(log_noise).astype(np.float32)), persistent=False)  # (L,)
        fixed = randn(4 * EVAL_LEVELS, *self.scaling.shape, generator=Generator(1))
        self.register_buffer("fixed_noise", fixed, persistent=False)  # (4 L, C, H, W)

    def forward(self, x: Tensor, noise: Tensor, classes: Tensor) -> Tensor:
        """D(x; s): noisy images (B, C, H, W) of about -1 to 1, standard deviations (B,), classes (B,) -> denoised images."""
        c_skip, c_out, c_in, c_noise = preconditioning(noise)
        column = lambda values: values.reshape(-1, 1, 1, 1)
        return x * column(c_skip) + self.unet(x * column(c_in), c_noise, classes) * column(c_out)

    def answer(self, *inputs: Tensor) -> Tensor:
        """(B,): how badly D restores images of these classes from noise of the median level, always the same noise."""
        image, classes = inputs
        noise = self.eval_noise[EVAL_LEVELS // 2].expand(len(classes))
        normal = self.fixed_noise[:1].expand(len(classes), *self.scaling.shape)
        return self._losses(image, noise, normal, self._condition(classes))

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """`answer` is a loss itself."""
        return output

    def _losses(self, image: Tensor, noise: Tensor, normal: Tensor, classes: Tensor) -> Tensor:
        """(B,): the weighted squared error of D, mean over pixels; about 1 at each noise level before training."""
        clean = self.scaling.normalize(image)
        error = self(clean + normal * noise.reshape(-1, 1, 1, 1), noise, classes) - clean
        return (error * error).mean((1, 2, 3)) * loss_weight(noise)

    def training_step(self, *batch: Tensor) -> StepOutput:
        image, target = batch
        noise = (randn(len(target)) * self.config.noise_spread + self.config.noise_mean).exp()
        classes = where(rand(len(target)) < self.config.class_dropout, self.classes, target)
        normal = randn(len(target), *self.scaling.shape)
        return {"loss": self._losses(image, noise, normal, self._condition(classes)).mean()}

    def evaluation_step(self, *batch: Tensor) -> StepOutput:
        image, target = batch
        n = len(target)
        noise = self.eval_noise.repeat(-(-n // EVAL_LEVELS))[:n]
        normal = self.fixed_noise.repeat(-(-n // len(self.fixed_noise)), 1, 1, 1)[:n]
        return {"loss": self._losses(image, noise, normal, self._condition(target))}

    def _condition(self, classes: Tensor) -> Tensor:
        """`classes` (B,), or zeros where the network is not conditional."""
        return classes if self.conditional else classes * 0

    def generator_forward(self, *batch: Tensor) -> Tensor:
        """D with classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): D(none) + scale (D(class) - D(none))."""
        x, noise, classes = batch
        scale = self.config.guidance
        if scale == 1 or not self.conditional:
            return self(x, noise, self._condition(classes))
        both = self(cat([x, x]), cat([noise, noise]), cat([classes, classes * 0 + self.classes]))
        with_class, without = both.chunk(2)
        return without + (with_class - without) * scale

    def sample(
        self,
        labels: np.ndarray,
        generator: Generator | None = None,
        generator_forward: Callable[..., Any] | None = None,
    ) -> np.ndarray:
        labels, run = check_labels(labels, self.classes), generator_forward or self.generator_forward
        levels = sigma_schedule(self.config.sampling_steps)
        start = randn(len(labels), *self.scaling.shape, generator=generator).array

        def generate(rows: range) -> np.ndarray:
            classes = Tensor(labels[rows])
            denoise = lambda x, level: run(x, tensor(np.full(len(rows), level, np.float32)), classes)
            x = heun_sampler(denoise, Tensor(start[rows]) * float(levels[0]), levels)
            return self.scaling.denormalize(x).array

        return map_batches(len(labels), self.sample_batch_size, generate)


# ---- the formulas of Karras et al. 2022 ------------------------------------------------------------------------------


def preconditioning(noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Table 1: c_skip, c_out, c_in and c_noise, (B,) each, for noise (B,); they give the U-Net's input and target variance 1."""
    total = noise * noise + SIGMA_DATA**2
    return SIGMA_DATA**2 / total, noise * SIGMA_DATA * total.rsqrt(), total.rsqrt(), noise.log() / 4


def loss_weight(noise: Tensor) -> Tensor:
    """1 / c_out^2, (B,): it gives all noise levels the same loss before training."""
    return (noise * noise + SIGMA_DATA**2) / (noise * SIGMA_DATA).square()


def sigma_schedule(steps: int) -> np.ndarray:
    """Equation 5 and a last 0, (S + 1,): from SIGMA_MAX down to SIGMA_MIN, equally spaced after the power 1 / RHO."""
    if steps < 2:
        raise OptionError(f"sampling_steps: {steps}; expected at least 2 noise levels; write 18")
    high, low = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
    return np.append((high + np.arange(steps) / (steps - 1) * (low - high)) ** RHO, 0.0)


def heun_sampler(denoise: Callable[[Tensor, float], Tensor], x: Tensor, levels: np.ndarray) -> Tensor:
    """Algorithm 1: from noise x of standard deviation levels[0] to an image, by Heun's method and a last Euler step.

    denoise(x, level) gives D(x; level), of the shape of x.
    """
    for level, next_level in pairwise(levels.tolist()):
        slope = (x - denoise(x, level)) / level
        euler = x + slope * (next_level - level)
        if next_level > 0:
            slope = (slope + (euler - denoise(euler, next_level)) / next_level) / 2
            euler = x + slope * (next_level - level)
        x = euler
    return x


def build(inputs: InputSpec, outputs: int, task: str, config: Config) -> Diffusion:
    """The network for `inputs`, a preprocessor's `input_spec()`; its weights come from the global random stream."""
    return Diffusion(require_spec("diffusion", inputs, ImageSpec), outputs, config)
