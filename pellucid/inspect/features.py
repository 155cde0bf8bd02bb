"""What units answer to: filters, the strongest examples, and inputs made to drive a unit (floor 6).

A unit is a channel of a convolution, or a column of a layer's output. Over pixels or steps its largest value counts.

Shapes: N examples, U units, C channels, H x W pixels, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn
from ..autograd import grad
from ..compiler.compile import compile as compiled
from ..errors import OptionError, format_shape
from ..nn import Module
from ..nn.activation import ACTIVATIONS
from ..tensor import Tensor
from .cache import first_tensor, run_with_cache, unknown_layer
from .filters import first_filters
from .undisturbed import undisturbed

BATCH = 256  # examples at once
PURE = 25  # strongest examples whose labels are counted
DECAY, BLUR, BLUR_EVERY, STEP = 0.995, 0.5, 4, 0.5  # of `maximize`, in shares of the box and pixels
KINDS = tuple(kind for kind in ACTIVATIONS.values() if kind is not nn.Identity)
RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)


def filters(network: Module, size: Sequence[int] | None = None) -> np.ndarray | None:
    """The weights of the first layer as pictures (N, C, h, w): those of a convolution, or of a Linear that reads pixels.

    size: of the pictures that the network reads, (H, W) or (C, H, W); a Linear's weights are pictures where it has as many
    inputs. None where the first layer reads no pixels.
    """
    found = first_filters(network)
    if found is not None or size is None:
        return found
    first = next((m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)), None)
    channels, height, width = (1, *size) if len(size) == 2 else size
    if not isinstance(first, nn.Linear) or first.weight.shape[1] != channels * height * width:
        return None
    return np.array(first.weight.detach().numpy()).reshape(-1, channels, height, width)


def unit_layers(network: Module, *inputs: Any, forward: Callable[..., Any] | None = None) -> list[str]:
    """The paths of the hidden layers whose units mean most, in the order of the calls: after each activation function; of a
    network without them its recurrent layers, else the items of its lists of layers.
    """
    modules = dict(network.named_modules())
    _, cache = run_with_cache(network, *inputs, forward=forward)
    called = [path for path, value in cache.items() if path in modules and value.ndim >= 2]
    lists = {
        f"{path}.{i}" if path else str(i)
        for path, m in modules.items()
        if isinstance(m, nn.ModuleList)
        for i in range(len(m))
    }
    for fits in (
        lambda path: isinstance(modules[path], KINDS),
        lambda path: isinstance(modules[path], RECURRENT),
        lambda path: path in lists,
        lambda path: path != "" and not list(modules[path].children()),
    ):
        found = [path for path in called if fits(path)]
        if found:
            return found
    return [""]


def activations(
    network: Module, layers: Sequence[str], inputs: Sequence[np.ndarray], forward: Callable[..., Any] | None = None
) -> dict[str, np.ndarray]:
    """{path: (N, ...)} of the outputs of `layers` over N examples, in batches."""
    count = len(inputs[0])
    batch = min(BATCH, count)
    found: dict[str, list[np.ndarray]] = {path: [] for path in layers}
    axes = _batch_axes(network, layers, inputs, forward)
    for start in range(0, count, batch):
        rows = [Tensor(np.asarray(value[start : start + batch])) for value in inputs]
        _, cache = run_with_cache(network, *rows, layers=layers, forward=forward)
        for path in layers:
            if path not in cache:
                raise unknown_layer("activations", path, cache)
            found[path].append(np.moveaxis(cache[path].numpy(), axes[path], 0))
    return {path: np.concatenate(values) for path, values in found.items()}


def _batch_axes(network: Module, layers: Sequence[str], inputs: Sequence[np.ndarray], forward: Any) -> dict[str, int]:
    """The axis of each output that counts examples: the one that differs between one example and two."""
    shapes = []
    for count in (1, 2):
        rows = [Tensor(np.repeat(np.asarray(value[:1]), count, 0)) for value in inputs]
        _, cache = run_with_cache(network, *rows, layers=layers, forward=forward)
        shapes.append({path: value.shape for path, value in cache.items()})
    return {
        path: next((i for i, (a, b) in enumerate(zip(shape, shapes[1][path], strict=True)) if a != b), 0)
        for path, shape in shapes[0].items()
    }


def by_unit(values: np.ndarray, network: Module) -> tuple[np.ndarray, np.ndarray | None]:
    """(N, U) of a layer's outputs (N, ...), the largest over pixels or steps; and of sequences the step (N, U) of it."""
    if values.ndim == 4:
        return values.max((2, 3)), None
    if values.ndim == 3 and not getattr(network, "folds", 0):
        return values.max(1), values.argmax(1)
    return values.reshape(len(values), -1), None


@dataclass(frozen=True)
class TopExamples:
    """The examples for which a unit is largest, the strongest first.

    rows: their indices (k,).      values: of the unit there.      steps: where in a sequence; None otherwise.
    labels: their classes; None without them.      purity: the share of the commonest class among the 25 strongest.
    """

    layer: str
    unit: int
    rows: np.ndarray
    values: np.ndarray
    steps: np.ndarray | None = None
    labels: np.ndarray | None = None
    purity: float | None = None

    @property
    def commonest(self) -> int | None:
        """The commonest class among `labels`."""
        return None if self.labels is None else int(np.bincount(self.labels).argmax())


def top_examples(
    network: Module, layer: str, unit: int, data: Any, k: int = 9, labels: np.ndarray | None = None
) -> TopExamples:
    """The k examples of `data`, an array or a tuple of them (N, ...), that drive a unit most. The network stays as it was."""
    inputs = data if isinstance(data, tuple) else (data,)
    arrays = [value.numpy() if isinstance(value, Tensor) else np.asarray(value) for value in inputs]
    values, steps = by_unit(activations(network, [layer], arrays)[layer], network)
    check_unit(layer, unit, values.shape[1])
    return strongest(layer, unit, values, steps, labels, k)


def strongest(
    layer: str, unit: int, values: np.ndarray, steps: np.ndarray | None, labels: np.ndarray | None, k: int = 9
) -> TopExamples:
    """`top_examples` from values (N, U) that are there already."""
    order = np.argsort(-values[:, unit], kind="stable")
    rows = order[:k]
    pure = None if labels is None else float(np.bincount(labels[order[:PURE]]).max() / min(PURE, len(order)))
    return TopExamples(
        layer, unit, rows, values[rows, unit], None if steps is None else steps[rows, unit],
        None if labels is None else labels[rows], pure,
    )  # fmt: skip


def purity(values: np.ndarray, labels: np.ndarray) -> float:
    """The mean purity of the units of values (N, U) that ever differ from their least."""
    live = np.flatnonzero(values.max(0) > values.min(0))
    counts = [np.bincount(labels[np.argsort(-values[:, u], kind="stable")[:PURE]]).max() for u in live]
    return float(np.mean(counts)) / min(PURE, len(values)) if counts else 0.0


def check_unit(layer: str, unit: int, count: int) -> None:
    """Raise OptionError where a layer has no such unit."""
    if not 0 <= unit < count:
        raise OptionError(
            f"unit {unit} of {layer!r}: it has {count} units; expected 0 to {count - 1}; choose one of them"
        )


@dataclass(frozen=True)
class Maximized:
    """images: (U, ...), an input for each unit.      values: of the unit for it.      start: of the unit for the random start."""

    images: np.ndarray
    values: np.ndarray
    start: np.ndarray


def maximize(
    network: Module,
    layer: str,
    units: int | Sequence[int],
    size: Sequence[int],
    *,
    box: tuple[float, float] = (0.0, 1.0),
    steps: int = 200,
    seed: int = 0,
    more: Sequence[Any] = (),
    forward: Callable[..., Tensor] | None = None,
) -> Maximized:
    """Inputs (U, *size) that drive each unit of a layer, "" for the output: gradient ascent within `box`, with decay and a blur
    every 4th step (Erhan et al. 2009). What they show is suggestive: pictures that no data have.

    more: further inputs (U, ...), kept as they are.      The network stays as it was. Raises OptionError for a layer or unit
    that is not there.
    """
    wanted = [units] if isinstance(units, int) else list(units)
    low, high = box
    chance = np.random.default_rng(seed)
    x = (low + (high - low) * 0.1 * chance.random((len(wanted), *size))).astype(np.float32)
    rest = tuple(value if isinstance(value, Tensor) else Tensor(np.asarray(value)) for value in more)
    slope = _slope(network, layer, wanted, rest, forward or network)
    with undisturbed(network, grad=True):
        first = slope(Tensor(x))[1].numpy()
        for k in range(steps):
            up = slope(Tensor(x))[0].numpy()
            norm = np.sqrt((up.reshape(len(up), -1) ** 2).sum(1)).reshape(-1, *[1] * len(size))
            x = x + (high - low) * STEP * up / (norm + 1e-9)
            x = np.clip(low + (x - low) * DECAY, low, high)
            x = (blurred(x) if k % BLUR_EVERY == BLUR_EVERY - 1 else x).astype(np.float32)
        last = slope(Tensor(x))[1].numpy()
    return Maximized(x, last, first)


def _slope(
    network: Module, layer: str, wanted: list[int], rest: tuple[Tensor, ...], forward: Callable[..., Tensor]
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """What gives, compiled, the gradient of each unit's value with respect to its input, and the value (U,)."""
    modules = dict(network.named_modules())
    if layer not in modules:
        raise unknown_layer("maximize", layer, modules)
    places = Tensor(np.array(wanted, np.int64)[:, None])

    before = isinstance(modules[layer], KINDS)  # a unit that is off has no slope, but what it is made from has

    def values(found: Tensor) -> Tensor:
        if found.ndim == 1:
            return found
        found = found.amax((2, 3)) if found.ndim == 4 else found.amax(1) if found.ndim == 3 else found
        check_unit(layer, max(wanted), found.shape[1])
        return found.gather(1, places).squeeze(1)

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_(True)
        seen: list[tuple[Any, Any]] = []
        hook = modules[layer].register_forward_hook(lambda _, given, output: seen.append((given[0], output)))
        try:
            whole = forward(x, *rest)
        finally:
            hook.remove()
        given, output = (whole, whole) if layer == "" else (seen[0][0], first_tensor(seen[0][1]))
        if output is None:
            raise unknown_layer("maximize", layer, [path for path in modules if path != layer])
        drive = values(given if before else output)
        return grad(drive.sum(), x)[0].detach(), values(output).detach()

    run: Callable[[Tensor], tuple[Tensor, Tensor]] = compiled(both)
    return run


def blurred(images: np.ndarray) -> np.ndarray:
    """Images (..., H, W) after a Gaussian blur of half a pixel, their edges repeated."""
    if images.ndim < 3 or min(images.shape[-2:]) < 3:
        return images
    side = np.exp(-0.5 / BLUR**2)
    kernel = np.array([side, 1.0, side]) / (1 + 2 * side)
    for axis in (-2, -1):
        width = [(0, 0)] * images.ndim
        width[axis] = (1, 1)
        padded = np.moveaxis(np.pad(images, width, mode="edge"), axis, -1)
        images = np.moveaxis(sum(w * padded[..., i : padded.shape[-1] - 2 + i] for i, w in enumerate(kernel)), -1, axis)
    return images


def unreadable(size: Sequence[int]) -> str:
    """Why there is no picture that drives a unit."""
    return f"no pictures that drive a unit: the network reads {format_shape(tuple(size))}, no pixels"
