"""`head_ablation(network, *inputs)`: how much worse a network answers without each of its attention heads (floor 6).

A head's result is replaced before the output projection reads it: by zeros, or by its own mean over examples and positions,
which leaves what does not depend on the text. `edited_heads` does it, for every layer that goes through
`functional.scaled_dot_product_attention`.

Shapes: B batch, H heads, T queries, D channels of a head, V outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import functional as F
from ..data.loader import IGNORE_INDEX
from ..errors import OptionError
from ..functional.attention import attention_editor
from ..models.base import Model
from ..models.heads.language import LanguageModel
from ..nn import Module
from ..tensor import Tensor
from .attention import layer_names
from .cache import free_name, unknown_layer
from .question import Losses, default_losses
from .result import Check, Result, Table
from .undisturbed import undisturbed

Edit = Callable[[np.ndarray], np.ndarray]  # of the results (B, H, T, D) of a layer's heads
RANDOM_DRAWS = 3  # of channels, for the control
LEAST_EXAMPLES = 8  # from which examples, and not positions, are the unit of the interval


@contextmanager
def edited_heads(network: Module, edits: Mapping[str, Edit]) -> Iterator[None]:
    """A block in which the results of heads are replaced by what a function makes of them; for eager runs.

    edits: by the layer's path, as `attention_maps` has it. Raises OptionError at the end for a layer that never attended.
    """
    name_of, calls = layer_names(network), dict[str, None]()

    def editor(result: Tensor) -> Tensor:
        name = free_name(name_of(), calls)
        calls[name] = None
        if name not in edits:
            return result
        values = result.numpy()
        four = values if values.ndim == 4 else values.reshape(len(values), 1, *values.shape[-2:])
        return Tensor(np.ascontiguousarray(edits[name](four)).astype(values.dtype).reshape(values.shape))

    hook = network.register_forward_pre_hook(lambda _, __: calls.clear())
    before = attention_editor.get()
    attention_editor.set(editor)
    try:
        yield
    finally:
        attention_editor.set(before)
        hook.remove()
    for name in edits:
        if name not in calls:
            raise unknown_layer("edited_heads", name, calls)


@dataclass(frozen=True)
class HeadEffect:
    """What one head is worth: the rise of the loss without it, and half the width of its 95% interval.

    zero: its results are zeros.      mean: they are their mean.      accuracy: the fall of the share right, with zeros.
    """

    layer: str
    head: int
    zero: float
    zero_error: float
    mean: float
    mean_error: float
    accuracy: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the interval of `zero` leaves out 0."""
        return abs(self.zero) > self.zero_error


@dataclass(frozen=True)
class HeadAblation(Result):
    """effects: of each head, the first layer first.      loss, accuracy: of the whole network.      n: numbers they are means of.

    unit: what is counted.      unchanged: the change of the loss where each head gets its own result.
    random: the mean rise without as many channels of the same layer, drawn at random, as the strongest head has; None with one head.
    """

    effects: tuple[HeadEffect, ...]
    loss: float
    accuracy: float | None
    n: int
    unit: str
    unchanged: float
    random: float | None

    @property
    def strongest(self) -> HeadEffect:
        return max(self.effects, key=lambda effect: abs(effect.zero))

    def of(self, layer: str, head: int) -> HeadEffect:
        """The effect of one head."""
        return next(effect for effect in self.effects if (effect.layer, effect.head) == (layer, head))

    def headline(self) -> str:
        best = self.strongest
        if self.n == 1:
            return f"On one example, without head {best.head} of {best.layer} the loss moves by {best.zero:+.3g}, from {self.loss:.3g}."
        if not any(effect.clear for effect in self.effects):
            return (
                f"No head is missed clearly: without any one of {len(self.effects)} the loss moves within its interval."
            )
        way = "rises" if best.zero > 0 else "falls"
        return f"Head {best.head} of {best.layer} counts most: without it the loss {way} by {abs(best.zero):.3g}, from {self.loss:.3g}."

    def tables(self) -> Sequence[Table]:
        right = self.accuracy is not None
        head = ("layer", "head", "rise of the loss", "+-", "its mean instead", "+-")
        rows = [
            (
                e.layer,
                e.head,
                e.zero,
                finite(e.zero_error),
                e.mean,
                finite(e.mean_error),
                *([e.accuracy] if right else []),
            )
            for e in sorted(self.effects, key=lambda e: -abs(e.zero))
        ]
        title = f"Without each head, {self.n} {self.unit}, loss {self.loss:.4g}" + (
            f", accuracy {self.accuracy:.3f}" if right else ""
        )
        return [Table(title, (*head, "fall of the accuracy") if right else head, rows)]

    @property
    def checks(self) -> Sequence[Check]:  # type: ignore[override]
        best = self.strongest
        same = Check(
            "each head by itself",
            "proven",
            f"the loss moves by {self.unchanged:.3g}, must be 0",
            self.unchanged == 0,
            f"without head {best.head} of {best.layer} by {best.zero:.3g}",
        )
        if self.random is None:
            return [same]
        said = (
            f"{best.zero:+.3g} +- {best.zero_error:.2g} over {self.n} {self.unit}{'' if best.clear else ', not clear'}"
        )
        control = f"as many channels of that layer at random {self.random:+.3g}"
        return [same, Check("the strongest head", "measured", said, best.clear, control)]

    def remarks(self) -> Sequence[str]:
        return ("This says what this network does without the head, not what training without it would have given.",)


def head_ablation(
    network: Module,
    *inputs: Any,
    target: Any = None,
    losses: Losses | None = None,
    most_heads: int | None = None,
) -> HeadAblation:
    """How the loss over examples moves when a head is left out, one after the other. The network stays as it was.

    inputs: Tensors with a batch axis, as `forward` takes them (of a `Model`, `answer`; of a language model tokens (B, T)).
    target: the right answers; of a language model by default the next tokens, else what the network itself says. losses: as in `Question.of`.
    most_heads: stop after so many, the first layers first. Raises OptionError where nothing attends, or the loss is not known.
    """
    tensors = tuple(value if isinstance(value, Tensor) else Tensor(np.asarray(value)) for value in inputs)
    measure = _Measure.of(network, tensors, target, losses)
    means: dict[str, np.ndarray] = {}

    def keep(path: str) -> Edit:
        def edit(values: np.ndarray) -> np.ndarray:
            means[path] = values.mean((0, 2), keepdims=True)  # (1, H, 1, D)
            return values

        return edit

    whole, right = measure()
    layers = _attending(network, measure)
    same, _ = measure({path: keep(path) for path in layers})
    heads = [(path, head) for path in layers for head in range(means[path].shape[1])][:most_heads]
    effects = []
    for path, head in heads:
        zeroed, right_zeroed = measure({path: _replaced(head, np.zeros((), np.float32))})
        averaged, _ = measure({path: _replaced(head, means[path][:, head])})
        zero, mean = _rise(zeroed - whole), _rise(averaged - whole)
        fall = None if right is None or right_zeroed is None else float(right.mean() - right_zeroed.mean())
        effects.append(HeadEffect(path, head, *zero, *mean, fall))
    best = max(effects, key=lambda effect: abs(effect.zero))
    return HeadAblation(
        effects=tuple(effects),
        loss=float(_units(whole).mean()),
        accuracy=None if right is None else float(right.mean()),
        n=len(_units(whole)),
        unit="examples" if len(whole) >= LEAST_EXAMPLES or whole.ndim == 1 else "positions",
        unchanged=float(np.nanmax(np.abs(same - whole))),
        random=_random_rise(measure, whole, best.layer, means[best.layer].shape[1:4:2]),
    )


@dataclass(frozen=True)
class _Measure:
    """The loss of each example and position, (B, ...), and where answers are classes which are right, with heads edited."""

    network: Module
    forward: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    target: Tensor
    losses: Losses

    @classmethod
    def of(cls, network: Module, inputs: tuple[Tensor, ...], target: Any, losses: Losses | None) -> _Measure:
        language = isinstance(network, LanguageModel)
        if target is None and language:
            tokens = inputs[0].numpy()
            target = np.concatenate([tokens[:, 1:], np.full_like(tokens[:, :1], IGNORE_INDEX)], 1)
        forward = network.answer if isinstance(network, Model) and not language else network
        losses = losses or (network.losses if isinstance(network, Model) and not language else default_losses)
        if target is None:
            target = _own_answer(network, forward, inputs)
        right = target if isinstance(target, Tensor) else Tensor(np.asarray(target))
        return cls(network, forward, inputs, right, losses)

    def __call__(self, edits: Mapping[str, Edit] | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        with undisturbed(self.network):
            if edits is None:
                output = self.forward(*self.inputs)
            else:
                with edited_heads(self.network, edits):
                    output = self.forward(*self.inputs)
        if self.target.dtype.kind in "iu" and output.ndim > 2 and output.shape[:-1] == self.target.shape:
            return self._by_position(output)
        classes = output.ndim == 2 and self.target.ndim == 1 and self.target.dtype.kind in "iu"
        right = output.numpy().argmax(1) == self.target.numpy() if classes else None
        return self.losses(output, self.target).numpy().astype(np.float64), right

    def _by_position(self, output: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Of outputs (B, T, V): NaN where the target is left out."""
        flat = F.cross_entropy(
            output.flatten(0, -2), self.target.flatten(), ignore_index=IGNORE_INDEX, reduction="none"
        )
        counted = self.target.numpy() != IGNORE_INDEX
        losses = np.where(counted, flat.numpy().reshape(self.target.shape).astype(np.float64), np.nan)
        return losses[:, counted.any(0)], (output.numpy().argmax(-1) == self.target.numpy())[counted]


def _own_answer(network: Module, forward: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
    """What the network says is likeliest, (B, ...), to stand for right answers that are not known."""
    with undisturbed(network):
        output = forward(*inputs)
    if output.ndim < 2:
        raise OptionError(
            "head_ablation: no target; expected the right answers, as the loss of a number needs them; pass target="
        )
    return output.argmax(-1)


def _attending(network: Module, measure: _Measure) -> list[str]:
    """The layers that attend, in the order of their calls."""
    seen, name_of = dict[str, None](), layer_names(network)

    def watch(result: Tensor) -> Tensor:
        seen[free_name(name_of(), seen)] = None
        return result

    token = attention_editor.set(watch)
    try:
        with undisturbed(network):
            measure.forward(*measure.inputs)
    finally:
        attention_editor.reset(token)
    if not seen:
        raise no_attention(network)
    return list(seen)


def no_attention(network: Module) -> OptionError:
    """The error for a network in which nothing attends."""
    return OptionError(
        f"{type(network).__name__} has no attention; expected a network with layers that attend, as a transformer "
        "has; see `pellucid explain` for what mattered to this one"
    )


def finite(value: float) -> float | None:
    """`value`, or None where it is not finite: an interval of one example."""
    return value if np.isfinite(value) else None


def _replaced(head: int, by: np.ndarray) -> Edit:
    """What puts `by` in place of the results of one head."""

    def edit(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[:, head] = by
        return values

    return edit


def _scaled(by: np.ndarray) -> Edit:
    """What multiplies the results of a layer's heads by `by`."""
    return lambda values: values * by


def _random_rise(measure: _Measure, whole: np.ndarray, path: str, size: tuple[int, ...]) -> float | None:
    """The mean rise without D random channels of the H D of a layer; None with one head."""
    heads, channels = size
    if heads == 1:
        return None
    rises = []
    for seed in range(RANDOM_DRAWS):
        chosen = np.random.default_rng(seed).permutation(heads * channels)[:channels]
        keep = np.ones(heads * channels, np.float32)
        keep[chosen] = 0
        losses, _ = measure({path: _scaled(keep.reshape(1, heads, 1, channels))})
        rises.append(_rise(losses - whole)[0])
    return float(np.mean(rises))


def _units(values: np.ndarray) -> np.ndarray:
    """(n,): the mean of each example; with few of them each position."""
    if len(values) < LEAST_EXAMPLES:
        flat: np.ndarray = values.reshape(-1)
        return np.asarray(flat[~np.isnan(flat)])
    rows: np.ndarray = values.reshape(len(values), -1)
    return np.asarray(np.nanmean(rows[~np.isnan(rows).all(1)], 1))


def _rise(differences: np.ndarray) -> tuple[float, float]:
    """The mean, and half the width of its 95% interval."""
    values = _units(differences)
    error = 1.96 * float(values.std(ddof=1)) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return float(values.mean()), float(error)
