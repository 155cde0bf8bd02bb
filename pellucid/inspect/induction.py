"""`induction_heads(network)`: heads that look for what came after the same token before, and so copy (floor 6).

The network reads random tokens that repeat with a period (Olsson et al. 2022, arXiv 2209.11895). An induction head attends to
the token after an earlier occurrence of the present one. Nothing but that repetition can be known of such a text.

Shapes: B sequences, T tokens, H heads, P period.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import OptionError
from ..models.heads.language import LanguageModel
from ..nn import Module
from ..tensor import Tensor
from .attention import maps_of
from .control import shuffled_weights
from .result import Check, Result, Table
from .undisturbed import undisturbed

FOUND = 0.5  # of a head's attention, from which it is called an induction head: more than everywhere else together
LONGEST = 64  # tokens of a sequence
PERIODS = (0.4, 0.3, 0.22)  # shares of the sequence


@dataclass(frozen=True)
class HeadScores:
    """Of a head: its attention to the token after an earlier occurrence of the present one, and to the token before."""

    layer: str
    head: int
    induction: float
    previous: float
    shuffled: float


@dataclass(frozen=True)
class InductionHeads(Result):
    """scores: of each head, the first layer first.      even: the induction score of a head that looks everywhere alike.

    repeated, new: the loss of tokens that repeat, and of those that came for the first time, in nats; None where the network
    gives no logits.      sequences, length: of the texts.
    """

    scores: tuple[HeadScores, ...]
    even: float
    repeated: float | None
    new: float | None
    sequences: int
    length: int

    @property
    def found(self) -> list[HeadScores]:
        """The induction heads, the strongest first."""
        return sorted((s for s in self.scores if s.induction >= FOUND), key=lambda s: -s.induction)

    @property
    def best(self) -> HeadScores:
        return max(self.scores, key=lambda s: s.induction)

    def headline(self) -> str:
        if not self.found:
            best = self.best
            return (
                f"No induction head: the best, head {best.head} of {best.layer}, has {best.induction:.2f} of its attention on what "
                f"came after the same token before (looking everywhere alike {self.even:.2f})."
            )
        names = ", ".join(f"head {s.head} of {s.layer} ({s.induction:.2f})" for s in self.found[:4])
        return f"Induction heads, with their attention on what came after the same token before: {names}."

    def tables(self) -> Sequence[Table]:
        head = ("layer", "head", "after the same token", "token before", "with shuffled weights")
        rows = [(s.layer, s.head, s.induction, s.previous, s.shuffled) for s in self.scores]
        return [Table(f"Attention on {self.sequences} random texts of {self.length} tokens that repeat", head, rows)]

    @property
    def checks(self) -> Sequence[Check]:  # type: ignore[override]
        best, control = self.best, max(s.shuffled for s in self.scores)
        said = f"the best head {best.induction:.3f} over {self.sequences} texts, found from {FOUND}"
        beside = f"with shuffled weights at most {control:.3f}, alike everywhere {self.even:.3f}"
        checks = [Check("induction", "measured", f"{said}, and no shuffled one is", control < FOUND, beside)]
        if self.repeated is not None:
            said = f"repeated tokens {self.repeated:.3f} nats"
            checks.append(Check("what it does", "open", said, True, f"new ones {self.new:.3f}"))
        return checks


def induction_heads(
    network: Module,
    vocab_size: int | None = None,
    length: int | None = None,
    sequences: int = 24,
    seed: int = 0,
    forward: Callable[[Tensor], Any] | None = None,
) -> InductionHeads:
    """The induction score of every head of a causal network of tokens (B, T), on random tokens that repeat.

    vocab_size, length: of a `LanguageModel` by default its own vocabulary, and up to 64 tokens. Raises OptionError where they
    are missing, or nothing attends.
    """
    if isinstance(network, LanguageModel):
        vocab_size = vocab_size or network.vocab_size
        length = length or min(network.max_length or network.context_length, LONGEST)
    if vocab_size is None or length is None:
        raise OptionError(
            f"induction_heads: {type(network).__name__} without vocab_size and length; expected how many tokens there are and how "
            "many it reads; pass both"
        )
    if length < 8 or vocab_size < 4:
        raise OptionError(
            f"induction_heads: {vocab_size} tokens, {length} at once; expected at least 4, and 8 at once, so that a text can repeat"
        )
    texts = repeated_texts(vocab_size, length, sequences, seed)
    call = forward or network
    scores, previous, losses = _scores(network, call, texts)
    with shuffled_weights(network, seed):
        control, _, _ = _scores(network, call, texts)
    even = float(np.mean([_even(targets) for _, targets in texts]))
    return InductionHeads(
        tuple(HeadScores(path, h, *map(float, (scores[path][h], previous[path][h], control[path][h]))) for path in scores for h in range(len(scores[path]))),
        even, *losses, sequences, length,
    )  # fmt: skip


Texts = tuple[np.ndarray, np.ndarray]  # tokens (B, T), and (T, T) True from each query to what followed the same token


def repeated_texts(vocab_size: int, length: int, sequences: int, seed: int = 0) -> list[Texts]:
    """Random texts of three periods; within a period tokens differ where there are enough of them."""
    chance = np.random.default_rng(seed)
    found = []
    for share in PERIODS:
        period = min(max(2, round(share * length)), vocab_size)
        starts = [chance.permutation(vocab_size)[:period] for _ in range(-(-sequences // len(PERIODS)))]
        tokens = np.stack([np.resize(start, length) for start in starts]).astype(np.int64)
        q, k = np.arange(length)[:, None], np.arange(length)[None]
        found.append((tokens, (k <= q) & (k >= 1) & ((q - (k - 1)) % period == 0) & (k - 1 < q)))
    return found


def _even(targets: np.ndarray) -> float:
    """The score of a head that gives the same weight to each token so far."""
    rows = targets.any(1)
    return float((targets.sum(1) / np.arange(1, len(targets) + 1))[rows].mean())


def _scores(
    network: Module, call: Callable[[Tensor], Any], texts: Sequence[Texts]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], tuple[float | None, float | None]]:
    """(induction, previous token) of each layer (H,), mean over the periods; the losses of repeated and new tokens."""
    induction: dict[str, list[np.ndarray]] = {}
    previous: dict[str, list[np.ndarray]] = {}
    losses: list[tuple[float, float]] = []
    for tokens, targets in texts:
        outputs: list[Any] = []
        with undisturbed(network):
            maps = maps_of(network, lambda tokens=tokens, outputs=outputs: outputs.append(call(Tensor(tokens))))  # type: ignore[misc]
        rows: np.ndarray = np.asarray(targets.any(1))
        for path, weights in maps.items():
            w = weights.numpy()  # (B, H, T, T)
            induction.setdefault(path, []).append((w * targets)[:, :, rows].sum(-1).mean((0, 2)))
            before = np.diagonal(w, -1, 2, 3)  # (B, H, T - 1)
            previous.setdefault(path, []).append(before.mean((0, 2)))
        losses += _losses(outputs[0], tokens, rows)
    mean = lambda found: {path: np.mean(values, 0) for path, values in found.items()}
    pair = tuple(np.mean(losses, 0).tolist()) if losses else (None, None)
    return mean(induction), mean(previous), pair


def _losses(output: Any, tokens: np.ndarray, repeats: np.ndarray) -> list[tuple[float, float]]:
    """The loss of the token after each query that repeats, and of the others, where the output is logits (B, T, V)."""
    if not isinstance(output, Tensor) or output.ndim != 3:
        return []
    logp = output.log_softmax(-1).numpy()[:, :-1]
    nats = -np.take_along_axis(logp, tokens[:, 1:, None], 2)[..., 0]
    return [(float(nats[:, repeats[:-1]].mean()), float(nats[:, ~repeats[:-1]].mean()))]
