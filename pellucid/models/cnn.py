"""The convolutional neural network (CNN), for image classification (floor 5).

    image -> stages: [3x3 convolution, max pooling to half, batch norm, GELU, then 3x3 convolution, batch norm, GELU ...]
          -> global average pooling -> logits (B, K)

Pooling right after the first convolution of a stage, before norm and GELU, saves three quarters of their work (the layout of
airbench, Jordan 2024, arXiv 2404.00498). Shapes: B batch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import functional as F
from .. import nn
from ..data.input_spec import ImageSpec, InputSpec
from ..errors import OptionError, suggestion
from ..grad_mode import no_grad
from ..nn.activation import ACTIVATIONS
from ..random import rand
from ..tensor import Tensor
from .base import StepOutput
from .blocks.augmentation import Augmentation, ImageInput
from .heads.prediction import PredictionModel

WHITENING_EPSILON = 5e-4  # added to each eigenvalue, so that whitening does not amplify noise (Jordan 2024)


@dataclass(frozen=True)
class Config(Augmentation):
    """Hyperparameters of a CNN; plain values, so that they can be saved as JSON. Augmentation adds its own.

    channels: of each stage.      depth: convolutions in a stage.      activation: a key of ACTIVATIONS.
    whiten: whiten patches of so many pixels a side before the first stage, by the statistics of training images (Page 2018);
    0 for no whitening.      dropout: before the last layer.
    residual: add skip connections from the second convolution of a stage on (He et al. 2015).
    flip_tta: horizontal-flip test-time augmentation; average the logits of the image and of its mirror image in evaluation.
    label_smoothing: share of a class label spread over all classes (Szegedy et al. 2015).
    mixup: mix up to this share of another image, and of its label, into each training image (Zhang et al. 2018).
    """

    channels: tuple[int, ...] = (32, 64, 128)
    depth: int = 2
    whiten: int = 0
    activation: str = "gelu"
    residual: bool = False
    dropout: float = 0.0
    flip_tta: bool = False
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
            raise OptionError(f"depth: {self.depth}; expected at least 1 convolution in a stage; write 2")
        if self.activation not in ACTIVATIONS:
            raise OptionError(f"activation: {self.activation!r}; expected one of {', '.join(ACTIVATIONS)}."
                              f"{suggestion(self.activation, ACTIVATIONS)}")  # fmt: skip
        if self.whiten < 0:
            raise OptionError(f"whiten: {self.whiten}; expected pixels a side, or 0 for none; write 2")
        for name in ("dropout", "label_smoothing", "mixup"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name}: {getattr(self, name)}; expected 0 up to, but not including, 1; write 0.1")


class ConvBlock(nn.Module):
    """3x3 convolution (B, C, H, W) -> (B, D, H, W), max pooling to half the size if `pool`, batch norm, activation."""

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
    """(B, C, H, W) -> (B, 2 C k k, H - k + 1, W - k + 1): a convolution that whitens patches of k x k pixels.

    The filters are the principal axes of training patches, each divided by the standard deviation along it, and their
    negatives (Page 2018; Jordan 2024). They are set once and not learned; the bias is learned.
    """

    def __init__(self, channels: int, size: int, activation: str) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, 2 * channels * size**2, size)
        self.convolution.weight.requires_grad_(False)
        self.activation = ACTIVATIONS[activation]()

    def fit(self, images: np.ndarray) -> None:
        """Set the filters by `images`, float32 (N, C, H, W), scaled as the layer reads them."""
        size = self.convolution.weight.shape[-1]
        windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), (2, 3))[:, :, ::2, ::2]
        patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1] * size**2).astype(np.float64)
        eigenvalues, axes = np.linalg.eigh(patches.T @ patches / len(patches))
        filters = (axes / np.sqrt(eigenvalues + WHITENING_EPSILON)).T.reshape(-1, images.shape[1], size, size)
        self.convolution.weight.assign(np.concatenate([filters, -filters]).astype(np.float32))
        nn.init.zeros_(self.convolution.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.convolution(x))


class CNN(PredictionModel):
    """The network: images as the preprocessor encodes them -> logits (B, K)."""

    input_names = ("image",)
    eval_batch_size = 512

    def __init__(self, inputs: ImageSpec, outputs: int, config: Config) -> None:
        super().__init__()
        self.label_smoothing, self.flip_tta, self.mixup = config.label_smoothing, config.flip_tta, config.mixup
        self.image = ImageInput(inputs, config)
        channels, side = self.image.channels, min(self.image.height, self.image.width)
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
            first = ConvBlock(channels, out, config, pool, False)
            rest = [ConvBlock(out, out, config, False, config.residual) for _ in range(config.depth - 1)]
            stages.append(nn.Sequential(first, *rest))
            channels, side = out, side // 2 if pool else side
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(channels, outputs)

    def features(self, image: Tensor) -> Tensor:
        """The input of the last layer: (B, C), the last stage averaged over the image."""
        return self._features(self.image(image))

    def _features(self, x: Tensor) -> Tensor:
        return self.stages(x if self.whitening is None else self.whitening(x)).mean((2, 3))

    def initialize_from_data(self, *batch: Tensor) -> None:
        if self.whitening is not None:
            self.eval()
            self.whitening.fit(self.image(batch[0]).array)

    def training_step(self, *batch: Tensor) -> StepOutput:
        if not self.mixup:
            return super().training_step(*batch)
        image, target = batch
        x, classes = self.image(image), F.one_hot(target, self.head.out_features).float()
        share = rand(len(x)) * self.mixup  # (B,), of the image at the mirrored place in the batch
        y = self._logits(x.lerp(x.flip(0), share.reshape(-1, 1, 1, 1)))
        values = {"loss": self.loss(y, classes.lerp(classes.flip(0), share.unsqueeze(1)))}
        with no_grad():
            values["accuracy"] = (y.detach().argmax(1) == target).float().mean()
        return values

    def _logits(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self._features(x)))

    def forward(self, image: Tensor) -> Tensor:
        x = self.image(image)
        y = self._logits(x)
        if self.flip_tta and not self.training:
            y = (y + self.head(self._features(x.flip(-1)))) / 2
        return y


def build(inputs: InputSpec, outputs: int, task: str, config: Config) -> CNN:
    """The network for `inputs`, an image preprocessor's `input_spec()`; its weights come from the global random stream."""
    if task != "classification" or not isinstance(inputs, ImageSpec):
        raise OptionError(
            f"model: cnn for {task} of {inputs.title}; expected classification of images; write --model mlp"
        )
    return CNN(inputs, outputs, config)
