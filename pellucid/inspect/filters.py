"""`first_filters(network)`: the weights of a network's first convolution, which can be looked at as images (floor 6)."""

from __future__ import annotations

import numpy as np

from .. import nn
from ..nn import Module


def first_filters(network: Module) -> np.ndarray | None:
    """(N, C, h, w) float32 of the first convolution; None without one, or where its filters are no images of pixels.

    They are where C is 1 or 3 and a side has two pixels at least.
    """
    layer = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    if layer is None or layer.weight.shape[1] not in (1, 3) or max(layer.weight.shape[2:]) < 2:
        return None
    return np.array(layer.weight.detach().numpy())
