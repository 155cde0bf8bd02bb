"""The convolutional network, for images: its configuration and network (floor 5).

    image -> [3x3 convolution, max pooling to half, batch norm, GELU, then 3x3 convolution, batch norm, GELU ...] a stage
          -> the mean over what is left of the picture -> classes (B, K)

Pooling straight after the first convolution of a stage, before norm and GELU, saves three quarters of their work (the
layout of airbench, Jordan 2024, arXiv 2404.00498). B batch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import functional as F
from .. import nn
from ..errors import OptionError, suggestion
from ..grad_mode import no_grad
from ..nn.activation import ACTIVATIONS
from ..random import rand
from ..tensor import Tensor
from .base import PredictionModel, Values
from .blocks.augmentation import Augmentation, ImageInput

INPUTS = ("image",)
EVEN = 5e-4  # added to the variance along each axis, so that noise is not blown up (Jordan 2024)


@dataclass(frozen=True)
class Config(Augmentation):
    """What makes one CNN differ from another; plain values, so that it can be saved as JSON.

    channels: of each stage.      depth: convolutions of a stage.      activation: a key of ACTIVATIONS.
    whiten: before all stages, patches of so many pixels a side are whitened (Page 2018), by what training images are like.
    dropout: before the last layer.      residual: from the second convolution of a stage on, add what came in (He 2015).
    And how far training images are moved, as `Movements` says.
    mirror: in evaluation, the mean of the answers for the image and its mirror image.
    label_smoothing: the share of a class label spread over all classes (Szegedy et al. 2015).
    mixup: in training, up to that share of each image, and as much of its label, is another image's (Zhang et al. 2018).
    """

    channels: tuple[int, ...] = (32, 64, 128)
    depth: int = 2
    whiten: int = 0
    activation: str = "gelu"
    residual: bool = False
    dropout: float = 0.0
    mirror: bool = False
    label_smoothing: float = 0.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "channels", tuple(self.channels))
        if not self.channels or not all(isinstance(n, int) and n >= 1 for n in self.channels):
            raise OptionError(
                f"channels: {self.channels}; expected whole numbers from 1, one for each stage; write 32,64,128"
            )
        if self.depth < 1:
            raise OptionError(f"depth: {self.depth}; expected at least 1 convolution a stage; write 2")
        if self.activation not in ACTIVATIONS:
            raise OptionError(f"activation: {self.activation!r}; expected one of {', '.join(ACTIVATIONS)}."
                              f"{suggestion(self.activation, ACTIVATIONS)}")  # fmt: skip
        if self.whiten < 0:
            raise OptionError(f"whiten: {self.whiten}; expected pixels a side, or 0 for none; write 2")
        for name in ("dropout", "label_smoothing", "mixup"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name}: {getattr(self, name)}; expected 0 up to, but not including, 1; write 0.1")


class Convolution(nn.Module):
    """3x3 convolution (B, C, H, W) -> (B, D, H, W), pooled to half its size if `pool`, batch norm, activation."""

    def __init__(self, channels: int, out: int, config: Config, pool: bool, residual: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2) if pool else None
        self.norm = nn.BatchNorm2d(out)
        self.activation = ACTIVATIONS[config.activation]()
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolution(x)
        if self.pool is not None:
            y = self.pool(y)
        y = self.activation(self.norm(y))
        return x + y if self.residual else y


class Whitening(nn.Module):
    """(B, C, H, W) -> (B, 2 C k k, H - k + 1, W - k + 1): how far each patch lies along each of the ways patches differ.

    The filters are the principal axes of training patches, each with its opposite, divided by the deviation along it
    (Page 2018; Jordan 2024). They are set once and not learned; the bias is.
    """

    def __init__(self, channels: int, size: int, activation: str) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, 2 * channels * size**2, size)
        self.convolution.weight.requires_grad_(False)
        self.activation = ACTIVATIONS[activation]()

    def fit(self, images: np.ndarray) -> None:
        """images: float32 (N, C, H, W), as the layer is given them."""
        size = self.convolution.weight.shape[-1]
        windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), (2, 3))[:, :, ::2, ::2]
        patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1] * size**2).astype(np.float64)
        values, axes = np.linalg.eigh(patches.T @ patches / len(patches))
        filters = (axes / np.sqrt(values + EVEN)).T.reshape(-1, images.shape[1], size, size)
        self.convolution.weight.assign(np.concatenate([filters, -filters]).astype(np.float32))
        nn.init.zeros_(self.convolution.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.convolution(x))


class CNN(PredictionModel):
    """The network: images as the preprocessor encodes them -> logits (B, K)."""

    order = ("image",)
    judged_batch = 512

    def __init__(self, inputs: dict[str, Any], outputs: int, config: Config) -> None:
        super().__init__()
        self.label_smoothing, self.mirror, self.mixup = config.label_smoothing, config.mirror, config.mixup
        self.pictures = ImageInput(inputs, config)
        channels, side = self.pictures.channels, min(self.pictures.height, self.pictures.width)
        if config.whiten > side:
            raise OptionError(
                f"whiten: {config.whiten}; expected at most the {side} pixels of the images' shorter side; write 2"
            )
        self.whitening = Whitening(channels, config.whiten, config.activation) if config.whiten else None
        if config.whiten:
            channels, side = 2 * channels * config.whiten**2, side - config.whiten + 1
        stages = []
        for out in config.channels:
            pool = side >= 4
            first = Convolution(channels, out, config, pool, False)
            rest = [Convolution(out, out, config, False, config.residual) for _ in range(config.depth - 1)]
            stages.append(nn.Sequential(first, *rest))
            channels, side = out, side // 2 if pool else side
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(channels, outputs)

    def features(self, image: Tensor) -> Tensor:
        """What the last layer reads: (B, C), the mean of the last stage over the picture."""
        return self._features(self.pictures(image))

    def _features(self, x: Tensor) -> Tensor:
        return self.stages(x if self.whitening is None else self.whitening(x)).mean((2, 3))

    def prepare(self, *batch: Tensor) -> None:
        if self.whitening is not None:
            self.eval()
            self.whitening.fit(self.pictures(batch[0]).array)

    def values(self, *batch: Tensor) -> Values:
        if not self.mixup:
            return super().values(*batch)
        image, target = batch
        x, classes = self.pictures(image), F.one_hot(target, self.head.out_features).float()
        share = (
            rand(len(x)) * self.mixup
        )  # (B,), of the image as far from the end of the batch as this one from its beginning
        y = self._answer(x.lerp(x.flip(0), share.reshape(-1, 1, 1, 1)))
        values = {"loss": self.loss(y, classes.lerp(classes.flip(0), share.unsqueeze(1)))}
        with no_grad():
            values["accuracy"] = (y.detach().argmax(1) == target).float().mean()
        return values

    def _answer(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self._features(x)))

    def forward(self, image: Tensor) -> Tensor:
        x = self.pictures(image)
        y = self._answer(x)
        if self.mirror and not self.training:
            y = (y + self.head(self._features(x.flip(-1)))) / 2
        return y


def build(inputs: dict[str, Any], outputs: int, task: str, config: Config) -> CNN:
    """The network for `inputs`, an image preprocessor's `input_spec()`; its weights come from the global random stream."""
    if task != "classification" or "image" not in inputs:
        raise OptionError(
            f"model: cnn, for {task} of {', '.join(inputs)}; expected classification of images; write --model mlp"
        )
    return CNN(inputs, outputs, config)
