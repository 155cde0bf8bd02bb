"""`attention_maps(network, *inputs)`: the weights of every attention layer, from one forward pass; and their rollout (floor 6).

`functional.scaled_dot_product_attention` hands its weights to `attention_watcher`; here they are collected, layer by layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.origin import module_path
from ..errors import OptionError, format_shape
from ..functional.attention import attention_watcher
from ..nn import Module
from ..tensor import Tensor
from .cache import free_name
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
    return maps_of(network, lambda: network(*inputs, **options))


def maps_of(network: Module, run: Callable[[], object]) -> dict[str, Tensor]:
    """The maps of what `run` calls of `network`, as `attention_maps` gives them."""
    name_of = layer_names(network)
    maps: dict[str, Tensor] = {}

    def collect(weights: Tensor) -> None:
        maps[free_name(name_of(), maps)] = weights.detach()

    token = attention_watcher.set(collect)
    try:
        with undisturbed(network):
            run()
    finally:
        attention_watcher.reset(token)
    if not maps:
        raise OptionError(
            f"attention_maps: {type(network).__name__} called no attention; expected layers that go through "
            "functional.scaled_dot_product_attention, as nn.MultiheadAttention does; build them with it"
        )
    return maps


def layer_names(network: Module) -> Callable[[], str]:
    """What gives, while `network` runs, the path of the layer that runs."""
    paths = {network._path_of(module): name or type(module).__name__ for name, module in network.named_modules()}
    return lambda: paths.get(module_path.get(), type(network).__name__)


def with_heads(weights: np.ndarray) -> np.ndarray:
    """Weights (B, H, T, S), where a layer with one head gave (B, T, S)."""
    return weights if weights.ndim == 4 else weights.reshape(len(weights), 1, *weights.shape[-2:])


def attention_rollout(network: Module, *inputs: Any) -> Tensor:
    """(B, T, T): how much of each input position reaches each of T outputs through all layers (Abnar and Zuidema 2020).

    It multiplies the maps, mean over heads, each mixed half and half with the residual connection. Values and feed-forward
    layers are left out, so it is a story of where things may flow, not of what does. Rows sum to 1.
    Raises OptionError where nothing attends, or positions do not stay the same from layer to layer.
    """
    maps = {path: value.numpy() for path, value in attention_maps(network, *inputs).items()}
    return Tensor(rollout(maps))


def rollout(maps: Mapping[str, np.ndarray]) -> np.ndarray:
    """The rollout (B, T, T) of maps (B, H, T, T), the first layer first."""
    whole: np.ndarray | None = None
    for path, weights in maps.items():
        mean = with_heads(weights).mean(1)
        if mean.shape[1] != mean.shape[2] or (whole is not None and whole.shape != mean.shape):
            raise OptionError(
                f"attention_rollout: {path} has maps {format_shape(mean.shape)}; expected as many queries as keys, in each layer "
                "the same; look at attention_maps instead"
            )
        mixed = (mean + np.eye(mean.shape[1], dtype=mean.dtype)) / 2
        mixed = mixed / mixed.sum(-1, keepdims=True)  # queries that may look at nothing give zeros
        whole = mixed if whole is None else mixed @ whole
    assert whole is not None
    return whole
