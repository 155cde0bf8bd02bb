"""AlexNet, the convolutional network that won ImageNet in 2012, and its later single-tower version (floor 5).

`AlexNet2012` is Krizhevsky, Sutskever and Hinton 2012, "ImageNet classification with deep convolutional neural networks":
five convolutions, three of which (2, 4 and 5) have two groups, as the paper split their maps between two GPUs.
60,965,224 parameters. `AlexNet` is Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks"
(arXiv 1404.5997): one tower, no local response normalization, torchvision's names. 61,100,840 parameters.

Shapes: images (B, 3, H, W), K classes. The two networks give logits (B, K).
"""

from __future__ import annotations

from ... import nn
from ...tensor import Tensor


class AlexNet2012(nn.Module):
    """The network of 2012: images (B, 3, 224, 224) -> logits (B, K).

    The paper's first layer gives 55 x 55 positions from 224 x 224 pixels, which needs a padding of 2; 227 x 227 without padding
    gives the same. Weights start normal with standard deviation 0.01; biases start at 1 in convolutions 2, 4, 5 and the hidden
    layers, at 0 elsewhere.
    """

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        # The paper multiplies alpha by a sum over 5 channels, LocalResponseNorm by their mean.
        response = lambda: nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 96, 11, stride=4, padding=2), nn.ReLU(), response(), nn.MaxPool2d(3, 2),  # (B, 96, 27, 27)
            nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), response(), nn.MaxPool2d(3, 2),  # (B, 256, 13, 13)
            nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),  # (B, 256, 6, 6)
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Linear(256 * 6 * 6, 4096), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4096, 4096), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(4096, num_classes),
        )  # fmt: skip
        layers = [module for module in self.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        for number, layer in enumerate(layers, 1):
            nn.init.normal_(layer.weight, 0.0, 0.01)
            nn.init.constant_(layer.bias, 1.0 if number in (2, 4, 5, 6, 7) else 0.0)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image).flatten(1))


class AlexNet(nn.Module):
    """The single-tower network: images (B, 3, H, W) of at least 63 x 63 -> logits (B, K); torchvision's names."""

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4096, 4096),
            nn.ReLU(), nn.Linear(4096, num_classes),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(image)).flatten(1))
