"""A question: one example put to a network, and the numbers of its answer that views explain (floor 6).

Every family, and a user's own `nn.Module`, is asked alike. What is explained is `score`, one number of the answer: a logit, a
predicted number, the log-probability of a token, a critic's score. How wrong the answer is stands in `losses`.

Shapes: B batch (1 for the example itself), K outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import functional as F
from ..errors import OptionError, format_shape
from ..models.base import Model
from ..nn import Module
from ..tensor import Tensor

Losses = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Question:
    """network: in any mode; views put it into eval mode and back.

    inputs: Tensors (1, ...), in the order in which `forward` takes them.      names: of each.
    target: the right answer (1, ...), None where it is not known.
    forward: (*inputs) -> (B, K) or (B,); of a `Model`, its `answer`.      losses: (output, target) -> (B,).
    """

    network: Module
    inputs: tuple[Tensor, ...]
    target: Tensor | None = None
    names: tuple[str, ...] = ()
    forward: Callable[..., Tensor] = field(default=F.relu, repr=False)
    losses: Losses = field(default=F.mse_loss, repr=False)

    @classmethod
    def of(cls, network: Module, inputs: Any, target: Any = None, losses: Losses | None = None) -> Question:
        """The question that `inputs`, a Tensor or a tuple of them with a batch axis of one, put to `network`.

        target: the right answer: a class, a number, or a Tensor (1, ...).
        losses: from output and target to the loss of each example (B,); without it a `Model` brings its own, and another
        network has cross-entropy where the target is a class, else the squared error.
        Raises OptionError for inputs that are not one example.
        """
        given = inputs if isinstance(inputs, tuple) else (inputs,)
        tensors = tuple(value if isinstance(value, Tensor) else Tensor(np.asarray(value)) for value in given)
        for value in tensors:
            if not value.ndim or value.shape[0] != 1:
                raise OptionError(
                    f"inputs: a Tensor {format_shape(value.shape)}; expected one example, with a batch axis of 1; "
                    "write x[:1]"
                )
        if target is not None and not isinstance(target, Tensor):
            array = np.asarray(target)
            target = Tensor(
                array.astype(np.int64 if array.dtype.kind in "iub" else np.float32).reshape(1, *array.shape)
            )
        named = getattr(network, "input_names", ())
        names = tuple(named[i] if i < len(named) else f"input {i}" for i in range(len(tensors)))
        if isinstance(network, Model):
            return cls(network, tensors, target, names, network.answer, losses or network.losses)
        return cls(network, tensors, target, names, network, losses or default_losses)

    def output(self) -> Tensor:
        """The answer (1, K) or (1,), on the tape where gradients are on. Raises OptionError where it is no Tensor of one example."""
        output = self.forward(*self.inputs)
        if not isinstance(output, Tensor) or output.ndim < 1:
            came = f"a Tensor {format_shape(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise OptionError(
                f"question: {type(self.network).__name__} answers with {came}; expected a Tensor (1, K) or (1,); put it into an "
                "nn.Module whose forward gives that alone, such as network(x)[0]"
            )
        return output

    def loss(self, output: Tensor) -> Tensor:
        """The loss of `output` (B, ...) for each example, (B,).

        Raises OptionError where the right answer is not known, or `losses` gives another shape.
        """
        if self.target is None:
            raise OptionError(
                "target: not given; expected the right answer, as a loss needs one; pass target=, or data with the answers in them"
            )
        target = self.target if len(output) == 1 else self.target.expand(len(output), *self.target.shape[1:])
        found = self.losses(output, target)
        if isinstance(found, Tensor) and found.shape == () and len(output) == 1:  # the mean over one example
            return found.reshape(1)
        if not isinstance(found, Tensor) or found.shape != (len(output),):
            came = f"a Tensor {format_shape(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise OptionError(
                f"losses: {came} for {len(output)} examples; expected the loss of each, {format_shape((len(output),))}; "
                'write reduction="none", and take the mean over other axes'
            )
        return found

    def repeated(self, count: int) -> tuple[Tensor, ...]:
        """The inputs `count` times over, (count, ...)."""
        return tuple(value.expand(count, *value.shape[1:]) for value in self.inputs)


def score(output: Tensor, index: int = 0) -> Tensor:
    """The number (B,) of each answer that is explained: of (B, K) the column `index`, of (B,) itself."""
    return output if output.ndim == 1 else output.flatten(1)[:, index]


def said(output: Tensor) -> int:
    """The index of the largest score of one answer (1, K); 0 where an answer is one number."""
    array = output.detach().numpy()
    return 0 if array.ndim == 1 else int(array.reshape(-1).argmax())


def default_losses(output: Tensor, target: Tensor) -> Tensor:
    """(B,): cross-entropy for classes (B,) beside logits (B, K), else the squared error, mean over the axes after the first."""
    if output.ndim == 2 and target.ndim == 1 and target.dtype.kind in "iu":
        return F.cross_entropy(output, target, reduction="none")
    if output.shape != target.shape:
        raise OptionError(
            f"losses: the output is {format_shape(output.shape)} and the target {format_shape(target.shape)}; expected classes (B,) "
            "beside logits (B, K), or equal shapes; pass losses=, a function of both"
        )
    squared = (output - target) ** 2
    return squared if squared.ndim == 1 else squared.flatten(1).mean(1)
