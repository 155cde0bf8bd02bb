"""`attention_maps(network, *inputs)`: the weights of every attention layer, from one forward pass (floor 6).

`functional.scaled_dot_product_attention` hands its weights to `attention_watcher`; here they are collected, layer by layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.origin import module_path
from ..errors import OptionError
from ..functional.attention import attention_watcher
from ..nn import Module
from ..tensor import Tensor
from .undisturbed import undisturbed


@dataclass(frozen=True)
class AttentionFigure:
    """The attention of a network over one text: its tokens as they are spelled, and (H, T, T) of each layer by its path."""

    tokens: list[str]
    maps: dict[str, np.ndarray]


def attention_figure(network: Module, tokens: Tensor, spelled: list[str]) -> AttentionFigure | None:
    """The attention over `tokens` (1, T), `spelled` one by one; None for a network without attention."""
    try:
        maps = attention_maps(network, tokens)
    except OptionError:
        return None
    return AttentionFigure(list(spelled), {path: np.array(heads.detach().numpy()[0]) for path, heads in maps.items()})


def attention_maps(network: Module, *inputs: Any, **options: Any) -> dict[str, Tensor]:
    """{layer path: (B, H, T, S)}: the weight that each of T queries gives to each of S values; rows sum to 1.

    Runs `network(*inputs, **options)` once, in eval mode and off the tape, and leaves the network, its modes and the random
    numbers as they were (but its own state, such as a cache, moves on). A layer that attends more than once has
    "path (2)" and so on for the later times. The maps are those before dropout. Raises OptionError where nothing attends.
    """
    paths = {network._path_of(module): name or type(module).__name__ for name, module in network.named_modules()}
    maps: dict[str, Tensor] = {}

    def collect(weights: Tensor) -> None:
        path = name = paths.get(module_path.get(), type(network).__name__)
        times = 1
        while name in maps:
            times += 1
            name = f"{path} ({times})"
        maps[name] = weights.detach()

    token = attention_watcher.set(collect)
    try:
        with undisturbed(network):
            network(*inputs, **options)
    finally:
        attention_watcher.reset(token)
    if not maps:
        raise OptionError(
            f"attention_maps: {type(network).__name__} called no attention; expected layers that go through "
            "functional.scaled_dot_product_attention, as nn.MultiheadAttention does; build them with it"
        )
    return maps
