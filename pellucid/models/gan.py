"""A generative adversarial network (GAN) for small images: a generator trained against a critic (floor 5).

    latent (B, Z), class -> Linear -> (B, C, P, Q) -> upsampled until H x W -> image               the generator
    image -> downsampled until P x Q -> Linear -> score (B,) of its class, above 0 for "real"      the critic

Goodfellow et al. 2014 (arXiv 1406.2661), with convolutions after Radford et al. 2015 (arXiv 1511.06434). The critic's layers
have spectral norm 1 (Miyato et al. 2018, arXiv 1802.05957), and it is conditioned by projection (Miyato and Koyama 2018).
Shapes: B batch, Z latent, C channels, K classes, H x W pixels, P x Q the smallest sides. `blocks/image_scaling.py` scales pixels.
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
from ..data.input_spec import ImageSpec, InputSpec
from ..errors import OptionError, suggestion
from ..grad_mode import no_grad
from ..ops.elementwise import length
from ..random import Generator, randn
from ..tensor import Tensor
from .base import Phase, StepOutput, check_field_types, map_batches, require_spec
from .blocks.image_scaling import Downsample, ImageScaling, Upsample, check_labels
from .heads.generation import ImageGenerator

LOSSES = ("logistic", "hinge")
SMALLEST_SIDE = 8  # sides are halved until they are no longer than this, but at least once
BATCH_STD_WEIGHT = 4.0  # scale of the minibatch standard deviation beside the features of each image
EVAL_SAMPLES = 640  # images of fixed latents that evaluation compares with the data


@dataclass(frozen=True)
class Config:
    """Hyperparameters of a GAN; plain values, so that they can be saved as JSON.

    latent: Z.        width, critic_width: channels at the level next to full size, doubled at each level below.
    conditional: whether both networks are given the class; else the class of a sample cannot be chosen.
    loss: one of LOSSES.
    """

    latent: int = 64
    width: int = 32
    critic_width: int = 32
    conditional: bool = True
    loss: str = "logistic"

    def __post_init__(self) -> None:
        check_field_types(self)
        for name in ("latent", "width", "critic_width"):
            if getattr(self, name) < 1:
                default = next(field.default for field in fields(self) if field.name == name)
                raise OptionError(f"{name}: {getattr(self, name)}; expected a whole number from 1; write {default}")
        if self.loss not in LOSSES:
            raise OptionError(
                f"loss: {self.loss!r}; expected one of {', '.join(LOSSES)}.{suggestion(self.loss, LOSSES)}"
            )


class ConditionalBatchNorm(nn.Module):
    """Batch norm of x (B, C, H, W) with a scale and shift for each class (de Vries et al. 2017)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.styles = nn.Embedding(classes, 2 * channels)
        nn.init.zeros_(self.styles.weight)

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        scale, shift = self.styles(classes).unsqueeze(-1).unsqueeze(-1).chunk(2, 1)  # (B, C, 1, 1) each
        return self.norm(x) * (scale + 1) + shift


class GeneratorNetwork(nn.Module):
    """latent (B, Z), classes (B,) -> images (B, C, H, W) from -1 to 1.

    The class embedding multiplies the latent, as in Odena et al. 2017 (arXiv 1610.09585). Concatenated with the latent
    instead, training soon collapses to one image for each class, whatever the latent.
    """

    def __init__(self, scaling: ImageScaling, classes: int, config: Config) -> None:
        super().__init__()
        channels, height, width = scaling.shape
        self.sides, halvings = (height, width), count_halvings(scaling)
        widths = [config.width * 2**i for i in reversed(range(halvings))]
        self.start = (widths[0], -(-height // 2**halvings), -(-width // 2**halvings))
        self.classes = nn.Embedding(classes, config.latent)
        self.project = nn.Linear(config.latent, int(np.prod(self.start)), bias=False)  # a norm follows
        self.norms = nn.ModuleList([ConditionalBatchNorm(width, classes) for width in widths])
        self.upsamples = nn.ModuleList([Upsample(a, b) for a, b in pairwise([*widths, channels])])
        self.image_bias = nn.Parameter(zeros(channels))

    def forward(self, latent: Tensor, classes: Tensor) -> Tensor:
        x = self.project(latent * self.classes(classes)).reshape(-1, *self.start)
        for norm, upsample in zip(self.norms, self.upsamples, strict=True):
            x = upsample(F.relu(norm(x, classes)))
        x = x[:, :, : self.sides[0], : self.sides[1]]
        return (x + self.image_bias.reshape(1, -1, 1, 1)).tanh()


class Critic(nn.Module):
    """images (B, C, H, W), classes (B,) -> scores (B,): one for being real, plus one for being of the class.

    It also reads the standard deviation over the batch (Karras et al. 2018, arXiv 1710.10196), which gives away a generator
    that makes the same image again and again (mode collapse).
    """

    def __init__(self, scaling: ImageScaling, classes: int, config: Config) -> None:
        super().__init__()
        channels, h, w = scaling.shape
        sizes = [channels, *(config.critic_width * 2**i for i in range(count_halvings(scaling)))]
        self.downsamples = nn.ModuleList([Downsample(a, b, nn.utils.spectral_norm) for a, b in pairwise(sizes)])
        for _ in self.downsamples:
            h, w = -(-h // 2), -(-w // 2)
        self.scores = nn.utils.spectral_norm(nn.Linear(sizes[-1] * (h * w + 1), 1 + classes))

    def forward(self, x: Tensor, classes: Tensor, alone: bool = False) -> Tensor:
        """alone: score each image as if it were a batch of its own, over which nothing deviates."""
        for downsample in self.downsamples:
            x = F.leaky_relu(downsample(x), 0.2)
        variance = (x * 0).sum(0) if alone else x.var(0, unbiased=False)
        batch_std = (variance + 1e-6).sqrt().mean((1, 2)).expand(x.shape[0], -1)  # (B, C), equal rows
        scores = self.scores(cat([x.flatten(1), batch_std * BATCH_STD_WEIGHT], 1))  # (B, 1 + K)
        return scores[:, 0] + scores[:, 1:].gather(1, classes.unsqueeze(1)).squeeze(1)


class GAN(ImageGenerator):
    """Generator and critic. A training step has two phases: the critic learns to tell real from generated images, then the
    generator learns to raise the critic's score of its images."""

    answer_name = "the critic"

    def __init__(self, inputs: ImageSpec, outputs: int, config: Config) -> None:
        super().__init__()
        self.scaling, self.classes, self.config = ImageScaling(inputs), outputs, config
        self.conditional = config.conditional
        self.num_conditions = outputs if config.conditional else 1
        self.generator = GeneratorNetwork(self.scaling, self.num_conditions, config)
        self.critic = Critic(self.scaling, self.num_conditions, config)
        # Evaluation uses fixed latents, so that its result depends on the weights alone.
        each = max(EVAL_SAMPLES // self.num_conditions, 4)
        latents = randn(self.num_conditions, each, config.latent, generator=Generator(1))
        self.register_buffer("fixed_latents", latents, persistent=False)  # (K, M, Z)
        self.register_buffer(
            "fixed_classes", tensor(np.arange(self.num_conditions).repeat(each)), persistent=False
        )  # (K M,)

    def forward(self, latent: Tensor, classes: Tensor) -> Tensor:
        """latent (B, Z), classes (B,) -> images in the data's encoding."""
        return self.scaling.denormalize(self.generator(latent, self._condition(classes)))

    def _condition(self, classes: Tensor) -> Tensor:
        """`classes` (B,), or zeros where the network is not conditional."""
        return classes if self.conditional else classes * 0

    def answer(self, *inputs: Tensor) -> Tensor:
        """The critic's score (B,) of images (B, ...) of classes (B,), each alone: above 0 where it takes them for real."""
        image, classes = inputs
        return self.critic(self.scaling.normalize(image), self._condition(classes), alone=True)

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """The critic's loss (B,) of scores of real images."""
        return F.relu(1 - output) if self.config.loss == "hinge" else F.softplus(-output)

    def phases(self) -> list[Phase]:
        return [
            Phase("critic", self.critic, self.critic_step),
            Phase("generator", self.generator, self.generator_step),
        ]

    def critic_step(self, image: Tensor, target: Tensor) -> StepOutput:
        """The critic's loss on real and generated images; "accuracy" is the share that it tells apart."""
        classes = self._condition(target)
        with no_grad():
            generated = self.generator(randn(len(target), self.config.latent), classes)
        real = self.critic(self.scaling.normalize(image), classes)
        fake = self.critic(generated, classes)
        if self.config.loss == "hinge":
            loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        else:
            loss = F.softplus(-real).mean() + F.softplus(fake).mean()
        with no_grad():
            accuracy = ((real > 0).float().mean() + (fake < 0).float().mean()) / 2
        return {"loss": loss, "accuracy": accuracy}

    def generator_step(self, image: Tensor, target: Tensor) -> StepOutput:
        """The generator's non-saturating loss: its gradient does not vanish while the critic is right."""
        classes = self._condition(target)
        score = self.critic(self.generator(randn(len(target), self.config.latent), classes), classes)
        return {"loss": (-score if self.config.loss == "hinge" else F.softplus(-score)).mean()}

    def evaluation_step(self, *batch: Tensor) -> StepOutput:
        """The energy score (Gneiting and Raftery 2007): smallest, on average, where samples are distributed as the data are.

        For an image x and samples s, s' of its class: mean |x - s| - mean |s - s'| / 2, in root mean squares of pixels.
        """
        image, target = batch
        groups, each, _ = self.fixed_latents.shape
        samples = self.generator(self.fixed_latents.flatten(0, 1), self.fixed_classes).reshape(groups, each, -1)
        to_samples = distances(self.scaling.normalize(image).flatten(1), samples.flatten(0, 1))  # (B, K M)
        to_samples = to_samples.reshape(-1, groups, each).mean(2)  # (B, K)
        between_samples = distances(samples, samples).sum((1, 2)) / (each * (each - 1))  # (K,)
        score = to_samples - between_samples / 2
        return {"loss": score.gather(1, self._condition(target).unsqueeze(1)).squeeze(1)}

    def sample(
        self,
        labels: np.ndarray,
        generator: Generator | None = None,
        generator_forward: Callable[..., Any] | None = None,
    ) -> np.ndarray:
        labels, run = check_labels(labels, self.classes), generator_forward or self.generator_forward
        latents = randn(len(labels), self.config.latent, generator=generator).array
        generate = lambda rows: run(Tensor(latents[rows]), Tensor(labels[rows])).array
        return map_batches(len(labels), self.sample_batch_size, generate)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """(*, N, F) and (*, M, F) -> (*, N, M): root mean squares of the differences."""
    squared = (a * a).sum(-1).unsqueeze(-1) + (b * b).sum(-1).unsqueeze(-2) - (a @ b.mT) * 2
    return length(squared.clamp(min=0) / a.shape[-1])  # 0 from a sample to itself, where the gradient is 0


def count_halvings(scaling: ImageScaling) -> int:
    """How often both sides are halved until they are no longer than SMALLEST_SIDE; at least once."""
    longest, count = max(scaling.shape[1:]), 1
    while -(-longest // 2**count) > SMALLEST_SIDE:
        count += 1
    return count


def build(inputs: InputSpec, outputs: int, task: str, config: Config) -> GAN:
    """The network for `inputs`, a preprocessor's `input_spec()`; its weights come from the global random stream."""
    return GAN(require_spec("gan", inputs, ImageSpec), outputs, config)
