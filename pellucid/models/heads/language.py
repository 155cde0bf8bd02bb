"""Language-model head: next-token loss, and generation by sampling one token after another (floor 5).

Shapes: B batch, T time, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import functional as F
from ...creation import tensor
from ...data.loader import IGNORE_INDEX
from ...errors import OptionError, format_shape
from ...grad_mode import no_grad
from ...random import Generator, multinomial
from ...tensor import Tensor
from ..base import Model, StepOutput


class LanguageModel(Model):
    """Predicts the next token: `forward(tokens (B, T))` gives logits (B, T, V); targets (B, T) are tokens or IGNORE_INDEX.

    vocab_size: V.      context_length: tokens of a training window.      max_length: the longest sequence that `forward`
    takes, or None without a limit.
    eval_context_length: tokens of an evaluation window, the first `burn_in` of which are read but not scored, as the window
    before has scored them.
    """

    input_names = ("tokens",)
    vocab_size: int
    context_length: int
    burn_in = 0
    max_length: int | None = None

    @property
    def eval_context_length(self) -> int:
        return self.context_length

    def answer(self, *inputs: Tensor) -> Tensor:
        """The log-probability (B, V) of each token to come after `tokens` (B, T)."""
        return self(*inputs)[:, -1].log_softmax(-1)

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Negative log-likelihood of the next tokens `target` (B,), in nats."""
        return F.nll_loss(output, target, reduction="none")

    def training_step(self, *batch: Tensor) -> StepOutput:
        tokens, target = batch
        logits = self(tokens)
        return {"loss": F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORE_INDEX)}

    def evaluation_step(self, *batch: Tensor) -> StepOutput:
        tokens, target = batch
        return {"loss": self.token_losses(tokens, target).sum(1), "count": (target != IGNORE_INDEX).float().sum(1)}

    def token_losses(self, tokens: Tensor, target: Tensor) -> Tensor:
        """Negative log-likelihood of each target in nats, (B, T); 0 where the target is IGNORE_INDEX."""
        logits = self(tokens).flatten(0, 1)  # (B * T, V)
        losses = F.cross_entropy(logits, target.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
        return losses.reshape(target.shape)

    def next_logits(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Logits (B, V) of the token after `tokens` (B, T), and a state; with it the next call takes new tokens only."""
        raise NotImplementedError(f"{type(self).__name__} does not define next_logits(tokens, state)")

    def generate(
        self, prompt: np.ndarray, length: int, *, temperature: float = 1.0, top_k: int = 0, stop: int | None = None,
        generator: Generator | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Continue the tokens `prompt` (T,) by `length` sampled tokens, or fewer where `stop` is sampled; int64 (length,).

        temperature: divides the logits; below 1 prefers likely tokens, 0 takes the likeliest. top_k: sample from the k
        likeliest tokens only; 0 for all. stop: the token that ends the text. Raises OptionError for an empty prompt.
        """
        prompt, generated = np.asarray(prompt, np.int64), list[int]()
        if prompt.ndim != 1 or not len(prompt):
            raise OptionError(f"prompt: {format_shape(prompt.shape)}; expected tokens (T,), at least one, for the model to continue; "
                              "begin with the token of a newline")  # fmt: skip
        tokens, state = tensor(prompt[None]), None
        with no_grad():
            while len(generated) < length and (stop is None or generated[-1:] != [stop]):
                logits, state = self.next_logits(tokens, state)  # (1, V)
                tokens = _sample_token(logits, temperature, top_k, generator)
                generated.append(int(tokens.item()))
        return np.array(generated, np.int64)


def _sample_token(logits: Tensor, temperature: float, top_k: int, generator: Generator | None) -> Tensor:
    """A token for each row of logits (B, V), int64 (B, 1)."""
    if temperature == 0:
        return logits.argmax(1, keepdim=True)
    if 0 < top_k < logits.shape[1]:
        threshold = np.sort(logits.array, axis=1)[:, -top_k, None]
        logits = logits.masked_fill(logits < tensor(threshold), -np.inf)
    return multinomial(F.softmax(logits / temperature, 1), 1, generator=generator)
