"""A generative adversarial network for small images: a generator and the critic it learns to convince (floor 5).

    latent (B, Z), by class -> Linear -> (B, C, P, Q) -> doubled until H x W -> image          the generator
    image -> halved until P x Q -> Linear -> score (B,) of its class, above 0 for "real"    the critic

Goodfellow et al. 2014 (arXiv 1406.2661), with convolutions after Radford et al. 2015 (arXiv 1511.06434) and a critic whose
layers have spectral norm 1 (Miyato et al. 2018, arXiv 1802.05957) and which is told the class (Miyato and Koyama 2018).
Shapes: B batch, Z latent, C channels, K classes, H x W pixels, P x Q the smallest sides. What an image is stands in `canvas.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np

from .. import functional as F
from .. import nn
from ..creation import cat, tensor, zeros
from ..errors import OptionError, suggestion
from ..grad_mode import no_grad
from ..ops.elementwise import length
from ..random import Generator, randn
from ..tensor import Tensor
from .base import ImageGenerator, Phase, Values, check_kinds, in_batches
from .blocks.image_scaling import Double, Halve, ImageScaling, checked_labels

INPUTS = ("pixels",)
LOSSES = ("logistic", "hinge")
SMALLEST = 8  # sides are halved until they are no longer than this, but once at least
SPREAD_WEIGHT = 4.0  # of the differences within a batch beside what each image shows
WATCHED = 640  # images of fixed latents that are compared with data when the network is judged


@dataclass(frozen=True)
class Config:
    """What makes one GAN differ from another; plain values, so that it can be saved as JSON.

    latent: Z.        width, critic_width: channels beside the full size, twice as many for each halving.
    conditional: whether it is told the classes; else it draws any.        loss: one of LOSSES.
    """

    latent: int = 64
    width: int = 32
    critic_width: int = 32
    conditional: bool = True
    loss: str = "logistic"

    def __post_init__(self) -> None:
        check_kinds(self)
        for name in ("latent", "width", "critic_width"):
            if getattr(self, name) < 1:
                default = next(field.default for field in fields(self) if field.name == name)
                raise OptionError(f"{name}: {getattr(self, name)}; expected a whole number from 1; write {default}")
        if self.loss not in LOSSES:
            raise OptionError(
                f"loss: {self.loss!r}; expected one of {', '.join(LOSSES)}.{suggestion(self.loss, LOSSES)}"
            )


class ClassNorm(nn.Module):
    """x (B, C, H, W) normalised over the batch, then scaled and shifted by its class's own numbers (de Vries et al. 2017)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.styles = nn.Embedding(classes, 2 * channels)
        nn.init.zeros_(self.styles.weight)

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        scale, shift = self.styles(classes).unsqueeze(-1).unsqueeze(-1).chunk(2, 1)  # (B, C, 1, 1) each
        return self.norm(x) * (scale + 1) + shift


class Drawer(nn.Module):
    """latent (B, Z), classes (B,) -> (B, C, H, W) between -1 and 1.

    The class weighs the latent, as in Odena et al. 2017 (arXiv 1610.09585). Where it stands beside the latent instead, the
    generator soon draws one image for each class, whatever the latent.
    """

    def __init__(self, canvas: ImageScaling, classes: int, config: Config) -> None:
        super().__init__()
        channels, height, width = canvas.shape
        self.sides, halvings = (height, width), halvings_of(canvas)
        widths = [config.width * 2**i for i in reversed(range(halvings))]
        self.start = (widths[0], -(-height // 2**halvings), -(-width // 2**halvings))
        self.classes = nn.Embedding(classes, config.latent)
        self.enter = nn.Linear(config.latent, int(np.prod(self.start)), bias=False)  # a norm follows
        self.norms = nn.ModuleList([ClassNorm(width, classes) for width in widths])
        self.doubles = nn.ModuleList([Double(a, b) for a, b in pairwise([*widths, channels])])
        self.ground = nn.Parameter(zeros(channels))

    def forward(self, latent: Tensor, classes: Tensor) -> Tensor:
        x = self.enter(latent * self.classes(classes)).reshape(-1, *self.start)
        for norm, double in zip(self.norms, self.doubles, strict=True):
            x = double(F.relu(norm(x, classes)))
        x = x[:, :, : self.sides[0], : self.sides[1]]
        return (x + self.ground.reshape(1, -1, 1, 1)).tanh()


class Critic(nn.Module):
    """images (B, C, H, W), classes (B,) -> scores (B,): one for being an image, plus one for being of its class.

    It also sees how much the images of a batch differ (Karras et al. 2018, arXiv 1710.10196): a generator that draws one
    image over and over is found out by that.
    """

    def __init__(self, canvas: ImageScaling, classes: int, config: Config) -> None:
        super().__init__()
        channels, h, w = canvas.shape
        sizes = [channels, *(config.critic_width * 2**i for i in range(halvings_of(canvas)))]
        self.halves = nn.ModuleList([Halve(a, b, nn.utils.spectral_norm) for a, b in pairwise(sizes)])
        for _ in self.halves:
            h, w = -(-h // 2), -(-w // 2)
        self.scores = nn.utils.spectral_norm(nn.Linear(sizes[-1] * (h * w + 1), 1 + classes))

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        for halve in self.halves:
            x = F.leaky_relu(halve(x), 0.2)
        spread = (
            (x.var(0, unbiased=False) + 1e-6).sqrt().mean((1, 2)).expand(x.shape[0], -1)
        )  # (B, C), all rows the same
        scores = self.scores(cat([x.flatten(1), spread * SPREAD_WEIGHT], 1))  # (B, 1 + K)
        return scores[:, 0] + scores[:, 1:].gather(1, classes.unsqueeze(1)).squeeze(1)


class GAN(ImageGenerator):
    """Generator and critic. A step has two turns: the critic learns to tell data from drawings, then the generator to pass."""

    def __init__(self, inputs: dict[str, Any], outputs: int, config: Config) -> None:
        super().__init__()
        self.canvas, self.classes, self.config = ImageScaling(inputs), outputs, config
        self.conditional = config.conditional
        self.told = outputs if config.conditional else 1  # classes that are told apart
        self.generator = Drawer(self.canvas, self.told, config)
        self.critic = Critic(self.canvas, self.told, config)
        # Fixed latents, so that what is judged depends on neither luck nor time.
        each = max(WATCHED // self.told, 4)
        latents = randn(self.told, each, config.latent, generator=Generator(1))
        self.register_buffer("watched", latents, persistent=False)  # (K, M, Z)
        self.register_buffer("named", tensor(np.arange(self.told).repeat(each)), persistent=False)  # (K M,)

    def forward(self, latent: Tensor, classes: Tensor) -> Tensor:
        """latent (B, Z), classes (B,) -> images as the data encode them."""
        return self.canvas.encoded(self.generator(latent, self._told(classes)))

    def _told(self, classes: Tensor) -> Tensor:
        return classes if self.conditional else classes * 0

    def turns(self) -> list[Phase]:
        return [
            Phase("critic", self.critic, self.critic_values),
            Phase("generator", self.generator, self.generator_values),
        ]

    def critic_values(self, image: Tensor, target: Tensor) -> Values:
        """How far the critic takes data for data and drawings for drawings; "right" is the share where it does."""
        classes = self._told(target)
        with no_grad():
            drawn = self.generator(randn(len(target), self.config.latent), classes)
        real = self.critic(self.canvas.seen(image), classes)
        false = self.critic(drawn, classes)
        if self.config.loss == "hinge":
            loss = F.relu(1 - real).mean() + F.relu(1 + false).mean()
        else:
            loss = F.softplus(-real).mean() + F.softplus(false).mean()
        with no_grad():
            right = ((real > 0).float().mean() + (false < 0).float().mean()) / 2
        return {"loss": loss, "right": right}

    def generator_values(self, image: Tensor, target: Tensor) -> Values:
        """How far the critic takes drawings for drawings, in the form whose gradient does not vanish while it is right."""
        classes = self._told(target)
        score = self.critic(self.generator(randn(len(target), self.config.latent), classes), classes)
        return {"loss": (-score if self.config.loss == "hinge" else F.softplus(-score)).mean()}

    def judge(self, *batch: Tensor) -> Values:
        """The energy score (Gneiting and Raftery 2007): least, on average, where drawings are distributed as the data are.

        For an image x and drawings d, d' of its class: mean |x - d| - mean |d - d'| / 2, in root mean squares of pixels.
        """
        image, target = batch
        groups, each, _ = self.watched.shape
        drawn = self.generator(self.watched.flatten(0, 1), self.named).reshape(groups, each, -1)
        away = distances(self.canvas.seen(image).flatten(1), drawn.flatten(0, 1))  # (B, K M)
        away = away.reshape(-1, groups, each).mean(2)  # (B, K)
        apart = distances(drawn, drawn).sum((1, 2)) / (each * (each - 1))  # (K,)
        score = away - apart / 2
        return {"loss": score.gather(1, self._told(target).unsqueeze(1)).squeeze(1)}

    def draw(
        self, labels: np.ndarray, generator: Generator | None = None, paint: Callable[..., Any] | None = None
    ) -> np.ndarray:
        wanted, run = checked_labels(labels, self.classes), paint or self.paint
        latents = randn(len(wanted), self.config.latent, generator=generator).array
        drawn = lambda rows: run(Tensor(latents[rows]), Tensor(wanted[rows])).array
        return in_batches(len(wanted), self.drawn_batch, drawn)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """(*, N, F) and (*, M, F) -> (*, N, M): root mean squares of the differences."""
    squared = (a * a).sum(-1).unsqueeze(-1) + (b * b).sum(-1).unsqueeze(-2) - (a @ b.mT) * 2
    return length(squared.clamp(min=0) / a.shape[-1])  # of a drawing from itself 0, which has no slope there


def halvings_of(canvas: ImageScaling) -> int:
    """How often both sides are halved until they are no longer than SMALLEST; at least once."""
    longest, count = max(canvas.shape[1:]), 1
    while -(-longest // 2**count) > SMALLEST:
        count += 1
    return count


def build(inputs: dict[str, Any], outputs: int, task: str, config: Config) -> GAN:
    """The network for `inputs`, a preprocessor's `input_spec()`; its weights come from the global random stream."""
    return GAN(inputs, outputs, config)
