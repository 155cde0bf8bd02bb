"""Image-generation head: what a model that samples images offers (floor 5).

Shapes: N images, B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...random import Generator
from ...tensor import Tensor
from ..base import Model


class ImageGenerator(Model):
    """Samples images like the training images. A batch is (images, classes (B,)), images as the preprocessor encodes them.

    `answer` takes the classes too: it says how well an image fits its class.
    """

    input_names = ("image",)
    answer_name = "how well the image fits its class"  # what `answer` gives, for people
    classes: int
    conditional = True  # whether the class to generate is an input
    sample_batch_size = 250  # the most images to generate in one batch

    def generator_forward(self, *batch: Tensor) -> Tensor:
        """The part of `sample` that is worth compiling; `forward` by default."""
        return self(*batch)

    def sample(
        self,
        labels: np.ndarray,
        generator: Generator | None = None,
        generator_forward: Callable[..., Any] | None = None,
    ) -> np.ndarray:
        """An image for each of the classes `labels` (N,): float32 (N, H, W) or (N, C, H, W), scaled as the data are encoded.

        generator_forward: called in place of the method, `compile(network.generator_forward)` for example; keep it to
        sample again without compiling again. Raises OptionError for labels that are no classes of the network.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define sample(labels, generator, generator_forward)")
