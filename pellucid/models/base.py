"""What a family's network owes to training, and what families share: answering, writing, drawing (floor 5).

Training knows nothing of families. A step takes each `Turn` of the network: run its `values` forward, send the loss back to
the parameters of its module, let their optimizer move them. Validation and test add up what `judge` says of each example.

Shapes: B batch, T time, V vocabulary, K classes, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np

from .. import functional as F
from .. import nn
from ..creation import cat, tensor
from ..data.loader import IGNORE_INDEX
from ..errors import OptionError, format_shape
from ..grad_mode import no_grad
from ..random import Generator, multinomial
from ..tensor import Tensor

Values = dict[str, Tensor]


@dataclass(frozen=True)
class Phase:
    """One move of a training step: a loss, and the module whose parameters follow it.

    values: gives {"loss": (), ...} of a batch; what else it holds is shown beside the loss.
    name: "" where a step has one turn; else what its values are called by, as in `critic_loss`.
    """

    name: str
    module: nn.Module
    values: Callable[..., Values]


class Model(nn.Module):
    """A network that can be trained. A batch is the arrays `order` names, in that order, then the target."""

    order: tuple[str, ...] = ()
    judged_batch = 2048  # the most examples to judge, or to answer for, at once

    def prepare(self, *batch: Tensor) -> None:
        """Look at some training examples before the first step, to set what is not learned. By default, nothing."""

    def turns(self) -> list[Phase]:
        """The moves of a step, in order. One, but for networks that train against each other."""
        return [Phase("", self, self.values)]

    def values(self, *batch: Tensor) -> Values:
        """Of a training batch: "loss", the number to make small, and others worth watching, all means."""
        raise NotImplementedError(f"{type(self).__name__} does not define values(*batch)")

    def judge(self, *batch: Tensor) -> Values:
        """Of a batch that is not learned from: each value (B,), added up over an example's scored positions.

        "count" (B,) says how many positions these are, and is left out where it is one. "loss" is always there.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define judge(*batch)")


KINDS = {int: "a whole number", float: "a number", str: "a word", tuple: "a list", bool: "true or false"}


def check_kinds(config: Any) -> None:
    """Raise OptionError where a field of the dataclass `config` is of another kind than its default: a word for a number."""
    for field in fields(config):
        value, kind = getattr(config, field.name), type(field.default)
        accepted = {int: (int, np.integer), float: (int, float, np.number), tuple: (tuple, list, str)}.get(kind, kind)
        fits = isinstance(value, accepted)
        if field.default is not MISSING and (not fits or (isinstance(value, bool) and kind is not bool)):
            raise OptionError(
                f"{field.name}: {value!r} is a {type(value).__name__}; expected {KINDS.get(kind, kind.__name__)}; "
                f"write {field.default}"
            )


class PredictionModel(Model):
    """Answers a question: `forward(*inputs)` gives logits (B, K) of classes, or numbers (B,) for a regression."""

    label_smoothing = 0.0  # the share of a class label spread over all classes (Szegedy et al. 2015), in training

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of logits (B, K) with classes (B,), or the mean square of (B,) against (B,)."""
        if output.ndim == 1:
            return F.mse_loss(output, target)
        return F.cross_entropy(output, target, label_smoothing=self.label_smoothing if self.training else 0.0)

    def values(self, *batch: Tensor) -> Values:
        *inputs, target = batch
        output = self(*inputs)
        values = {"loss": self.loss(output, target)}
        if output.ndim > 1:
            with no_grad():
                values["accuracy"] = (output.detach().argmax(1) == target).float().mean()
        return values

    def judge(self, *batch: Tensor) -> Values:
        *inputs, target = batch
        output = self(*inputs)
        if output.ndim == 1:
            return {"loss": F.mse_loss(output, target, reduction="none")}
        right = (output.argmax(1) == target).float()
        return {"loss": F.cross_entropy(output, target, reduction="none"), "accuracy": right}


class LanguageModel(Model):
    """Says what comes next in a text: `forward(tokens (B, T))` gives logits (B, T, V); targets (B, T), IGNORE_INDEX or a token.

    context: tokens in a training window.      judged_context, warm: windows of that many tokens when judged, the first
    `warm` of which are read but not scored, since the window before has scored them.      most_tokens: as many as it can look
    at, where there is an end to them.
    """

    order = ("tokens",)
    vocabulary: int
    context: int
    warm = 0
    most_tokens: int | None = None

    @property
    def judged_context(self) -> int:
        return self.context

    def values(self, *batch: Tensor) -> Values:
        tokens, target = batch
        logits = self(tokens)
        return {"loss": F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORE_INDEX)}

    def judge(self, *batch: Tensor) -> Values:
        tokens, target = batch
        return {"loss": self.losses(tokens, target).sum(1), "count": (target != IGNORE_INDEX).float().sum(1)}

    def losses(self, tokens: Tensor, target: Tensor) -> Tensor:
        """How surprised it is by each target, in nats (B, T); 0 where it is IGNORE_INDEX."""
        logits = self(tokens).flatten(0, 1)  # (B * T, V)
        losses = F.cross_entropy(logits, target.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
        return losses.reshape(target.shape)

    def next_logits(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Logits (B, V) of the token after `tokens` (B, T), and a state: with it the next call takes new tokens only."""
        raise NotImplementedError(f"{type(self).__name__} does not define next_logits(tokens, state)")

    def write(
        self, prompt: np.ndarray, length: int, *, temperature: float = 1.0, top_k: int = 0, stop: int | None = None,
        generator: Generator | None = None,
    ) -> np.ndarray:  # fmt: skip
        """`length` tokens after the tokens `prompt` (T,), drawn one by one, or fewer where `stop` comes; int64 (length,).

        temperature: below 1 likelier tokens are preferred; 0 takes the likeliest. top_k: only the k likeliest; 0 for all.
        stop: the token that is the last. Raises OptionError for a prompt of no tokens.
        """
        prompt, drawn = np.asarray(prompt, np.int64), list[int]()
        if prompt.ndim != 1 or not len(prompt):
            raise OptionError(f"prompt: {format_shape(prompt.shape)}; expected tokens (T,), one at least, since what is written follows "
                              "something; begin with the token of a newline")  # fmt: skip
        fed, state = tensor(prompt[None]), None
        with no_grad():
            while len(drawn) < length and (stop is None or drawn[-1:] != [stop]):
                logits, state = self.next_logits(fed, state)  # (1, V)
                fed = _draw(logits, temperature, top_k, generator)
                drawn.append(int(fed.item()))
        return np.array(drawn, np.int64)


def _draw(logits: Tensor, temperature: float, top_k: int, generator: Generator | None) -> Tensor:
    """A token for each row of logits (B, V), int64 (B, 1)."""
    if temperature == 0:
        return logits.argmax(1, keepdim=True)
    if 0 < top_k < logits.shape[1]:
        least = np.sort(logits.array, axis=1)[:, -top_k, None]
        logits = logits.masked_fill(logits < tensor(least), -np.inf)
    return multinomial(F.softmax(logits / temperature, 1), 1, generator=generator)


class ImageGenerator(Model):
    """Draws images like those it has seen. A batch is (images, classes (B,)), images as the preprocessor encodes them."""

    order = ("image",)
    classes: int
    conditional = True  # whether it is told which class to draw
    drawn_batch = 250  # the most images to draw at once

    def paint(self, *batch: Tensor) -> Tensor:
        """The part of `draw` that is worth compiling. By default, the network itself."""
        return self(*batch)

    def draw(
        self, labels: np.ndarray, generator: Generator | None = None, paint: Callable[..., Any] | None = None
    ) -> np.ndarray:
        """An image for each of the class numbers `labels` (N,): float32 (N, H, W) or (N, C, H, W), in the encoding's scale.

        paint: called in place of the method, `compile(network.paint)` say; who draws again and again keeps it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define draw(labels, generator, paint)")


def in_batches(n: int, most: int, take: Callable[[range], np.ndarray]) -> np.ndarray:
    """`take(rows)` for all of n rows, at most so many at a time, joined along the first axis; without gradients."""
    # Batches of one size need one program. The last may begin with rows that the one before it has had.
    size = -(-n // -(-n // most))
    starts = [min(i, n - size) for i in range(0, n, size)]
    with no_grad():
        parts = [take(range(i, i + size)) for i in starts]
    return np.concatenate([*parts[:-1], parts[-1][len(parts) * size - n :]])


def joined(parts: list[Tensor]) -> Tensor:
    """Parts (B, F) side by side."""
    return parts[0] if len(parts) == 1 else cat(parts, 1)
