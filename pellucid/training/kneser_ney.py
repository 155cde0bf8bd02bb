"""What a network that writes has to beat: how often each character followed the few before it (floor 6).

Interpolated Kneser-Ney n-grams (Kneser and Ney 1995, as compared by Chen and Goodman 1999), in NumPy alone:

    P_k(w | h) = (max(c(hw) - D_k, 0) + D_k * kinds(h) * P_k-1(w | h')) / sum of c(hv) over v,      P_0 = 1 / V

c counts how often hw stands in the training text at the highest order, and at lower ones how many different characters
stand before it; a stretch with which a text or line begins has none before it, and each time counts as one more (Heafield
2011). kinds(h) is how many different v have been seen after h, and h' is h without its first character.
D_k = n1 / (n1 + 2 n2), from how many stretches of that order count one and two.

Shapes: L characters, V vocabulary, G different stretches of one order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.examples import Examples, Passage
from ..data.loader import IGNORED
from ..data.text import decode_part, encode_part
from ..data.tokens import Characters, TextPreprocessor
from ..errors import OptionError
from .metrics import Metrics, text_metrics

ORDER = 5
Part = Passage | Examples
NAMES = {1: "unigram", 2: "bigram"}


@dataclass
class Order:
    """The stretches of k characters seen in training, numbered 0..G-1 by `codes`.

    codes: int64 (G,), ascending: first character * (stretches of k - 1) + number of the rest.
    share: (G,) max(c - D, 0) / total of its history.      back: of a history by its number, D * kinds / total; NaN for one
    that nothing was seen after.
    """

    codes: np.ndarray
    share: np.ndarray
    back: np.ndarray


class KneserNey:
    """An n-gram model of `order` over `vocabulary` tokens. `fit` it, then ask for `nats`. Raises OptionError.

    Texts are int64 tokens (L,) with `depth` (L,), how many tokens of its own line or text stand before each.
    """

    def __init__(self, order: int, vocabulary: int) -> None:
        if order < 1 or vocabulary < 1:
            raise OptionError(
                f"KneserNey: order {order}, vocabulary {vocabulary}; expected both at least 1; write KneserNey(5, 66)"
            )
        self.order, self.vocabulary = order, vocabulary
        self.orders: list[Order] = []

    def fit(self, tokens: np.ndarray, depth: np.ndarray) -> KneserNey:
        """Count the stretches of a training text."""
        self.orders = []
        codes = [np.zeros(1, np.int64)]  # of each order, in which the next one numbers its stretches
        numbers = [
            np.zeros(len(tokens), np.int64)
        ]  # (L,): of the stretch that ends at each place, -1 where it is too near the start
        for k in range(1, self.order + 1):
            code = _codes(tokens, numbers[-1], k, len(codes[-1]))
            whole = depth >= k - 1
            known, found = np.unique(code[whole], return_inverse=True)
            number = np.full(len(tokens), -1)
            number[whole] = found
            codes.append(known)
            numbers.append(number)
        for k in range(1, self.order + 1):
            here, size = numbers[k], len(codes[k])
            said = (here >= 0) & (depth > 0)  # what begins a line or text is never asked for
            if k == self.order:
                counts = np.bincount(here[said], minlength=size)
            else:  # different characters before, and beginnings
                counts = np.bincount(codes[k + 1] % size, minlength=size)
                counts += np.bincount(here[said & (depth == k - 1)], minlength=size)
            history = np.zeros(size, np.int64)
            history[here[1:][said[1:]]] = numbers[k - 1][:-1][said[1:]]
            self.orders.append(_order(codes[k], counts, history, len(codes[k - 1])))
        return self

    def nats(self, tokens: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """-log P of each token given those before it on its line or in its text, at most order - 1; float64 (L,)."""
        p = np.full(len(tokens), 1 / self.vocabulary)
        number = np.zeros(len(tokens), np.int64)
        for k, order in enumerate(self.orders, start=1):
            history = np.zeros_like(number) if k == 1 else np.concatenate([[-1], number[:-1]])
            history[depth < k - 1] = -1
            code = _codes(tokens, number, k, len(self.orders[k - 2].codes) if k > 1 else 1)
            at = np.searchsorted(order.codes, code).clip(max=len(order.codes) - 1)
            seen = (order.codes[at] == code) & (number >= 0) & (depth >= k - 1)
            number = np.where(seen, at, -1)
            back = np.where(history >= 0, order.back[history], np.nan)
            p = np.where(np.isnan(back), p, np.where(seen, order.share[at], 0.0) + back * p)
        return -np.log(p)


def _codes(tokens: np.ndarray, rest: np.ndarray, k: int, size: int) -> np.ndarray:
    """The codes (L,) of the stretches of k tokens that end at each place, from the numbers of their last k - 1.

    What a code says of a place whose stretch is not whole means nothing.
    """
    first = np.concatenate([np.zeros(k - 1, np.int64), tokens[: len(tokens) - k + 1]])[: len(tokens)]
    return first * size + rest


def _order(codes: np.ndarray, counts: np.ndarray, history: np.ndarray, histories: int) -> Order:
    """counts, history: (G,) of each stretch. histories: how many there are."""
    ones, twos = int((counts == 1).sum()), int((counts == 2).sum())
    discount = ones / (ones + 2 * twos) if ones else 0.5  # never none: what was not seen must stay possible
    total = np.bincount(history, counts, histories)
    kinds = np.bincount(history, counts > 0, histories)
    with np.errstate(invalid="ignore"):  # 0 / 0
        back = discount * kinds / total
    return Order(codes, np.maximum(counts - discount, 0) / total[history], back)


def running(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """A part as one row of tokens (L,) and their `depth` (L,); the first of a text or line, depth 0, is not scored."""
    if isinstance(part, Passage):
        return part.tokens.astype(np.int64), np.arange(len(part))
    rows = np.concatenate([part.inputs["tokens"][:, :1], part.target], axis=1)  # (N, T + 1)
    inside = rows != IGNORED
    return rows[inside], np.broadcast_to(np.arange(rows.shape[1]), rows.shape)[inside]


def text_baselines(known: TextPreprocessor, train: Part, test: Part, order: int = ORDER) -> dict[str, Metrics]:
    """What n-grams fitted to `train` make of `test`: "unigram", "bigram" and "kneser_ney_N", the scores of each as `text_metrics` has them.

    n: the characters scored, all but the first of a text, and of a line all and its end.
    In a text of byte pairs too, it is characters that they count.
    """
    if not isinstance(known.tokenizer, Characters):
        texts = [decode_part(known, part) for part in (train, test)]
        known = TextPreprocessor(Characters.fit(texts[0]), known.lines)
        train, test = (encode_part(known, text) for text in texts)
    result: dict[str, Metrics] = {}
    (tokens, depth), held = running(train), running(test)
    for k in sorted({1, 2, order}):
        nats = KneserNey(k, known.tokenizer.size).fit(tokens, depth).nats(*held)[held[1] > 0]
        result[NAMES.get(k, f"kneser_ney_{k}")] = text_metrics(nats, np.ones(len(nats)))
    return result
