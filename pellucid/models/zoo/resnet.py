"""ResNet, residual networks for image classification (floor 5).

After He et al. 2015, "Deep residual learning for image recognition" (arXiv 1512.03385), with torchvision's names. As there,
a Bottleneck has its stride in the 3 x 3 convolution, not in the 1 x 1 before it. With 1000 classes: ResNet-18 has
11,689,512 parameters, ResNet-34 21,797,672, ResNet-50 25,557,032, ResNet-101 44,549,160, ResNet-152 60,192,808, including
the scale and shift of every batch norm and the biases of the final layer.

Shapes: images (B, 3, H, W); C inner channels of a block, E = C * expansion output channels; K classes.
"""

from __future__ import annotations

from ... import nn
from ...tensor import Tensor


class BasicBlock(nn.Module):
    """x (B, in, H, W) -> (B, C, H/stride, W/stride): two 3 x 3 convolutions, plus x or `downsample(x)`."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))  # (B, C, H/stride, W/stride)
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """x (B, in, H, W) -> (B, 4C, H/stride, W/stride): 1 x 1, 3 x 3 and 1 x 1 convolutions, plus x or `downsample(x)`."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))  # (B, C, H, W)
        y = self.relu(self.bn2(self.conv2(y)))  # (B, C, H/stride, W/stride)
        y = self.bn3(self.conv3(y))  # (B, 4C, H/stride, W/stride)
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """images (B, 3, H, W), 224 x 224 in the paper -> logits (B, K); `layers`: blocks at each of the four sizes."""

    def __init__(self, block: type[BasicBlock | Bottleneck], layers: tuple[int, ...], num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        one, two, three, four = layers
        e = block.expansion
        self.layer1 = stage(block, 64, 64, one, 1)
        self.layer2 = stage(block, 64 * e, 128, two, 2)
        self.layer3 = stage(block, 128 * e, 256, three, 2)
        self.layer4 = stage(block, 256 * e, 512, four, 2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512 * e, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))  # (B, 64, H/4, W/4)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, E, H/32, W/32)
        return self.fc(self.avgpool(x).flatten(1))


def stage(
    block: type[BasicBlock | Bottleneck], in_channels: int, channels: int, blocks: int, stride: int
) -> nn.Sequential:  # fmt: skip
    """`blocks` blocks in sequence; the first one has the stride and changes the number of channels."""
    out_channels = channels * block.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
        )
    first = block(in_channels, channels, stride, downsample)
    return nn.Sequential(first, *(block(out_channels, channels) for _ in range(blocks - 1)))


def resnet18(num_classes: int = 1000) -> ResNet:
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes)


def resnet34(num_classes: int = 1000) -> ResNet:
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes)


def resnet50(num_classes: int = 1000) -> ResNet:
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes)


def resnet101(num_classes: int = 1000) -> ResNet:
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes)


def resnet152(num_classes: int = 1000) -> ResNet:
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes)
