"""Baselines of language models: interpolated Kneser-Ney n-grams of characters (floor 7).

After Kneser and Ney 1995, as compared by Chen and Goodman 1999, in NumPy alone:

    P_k(w | h) = (max(c(hw) - D_k, 0) + D_k * kinds(h) * P_k-1(w | h')) / sum of c(hv) over v,      P_0 = 1 / V

c counts how often hw stands in the training text at the highest order, and at lower ones how many different characters
stand before it; a stretch with which a text or line begins has none before it, and each time counts as one more (Heafield
2011). kinds(h) is how many different v have been seen after h, and h' is h without its first character.
D_k = n1 / (n1 + 2 n2), from how many stretches of that order count one and two.

Shapes: L characters, V vocabulary, G different stretches of one order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..data.loader import IGNORE_INDEX
from ..data.problem import Examples, TokenSequence
from ..data.text.read import decode_split, encode_split
from ..data.text.tokenize import CharacterTokenizer, TextPreprocessor
from ..errors import OptionError
from .comparison import paired_difference
from .metrics import Metrics, text_metrics

ORDER = 5
MOST = 10_000_000  # characters counted, of which each takes 150 bytes meanwhile
AT_ONCE = 1_000_000  # characters scored
Part = TokenSequence | Examples
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
        """Count the stretches of a training text; orders longer than all of its lines stay out."""
        self.orders = []
        codes = [np.zeros(1, np.int64)]  # of each order, in which the next one numbers its stretches
        numbers = [
            np.zeros(len(tokens), np.int64)
        ]  # (L,): of the stretch that ends at each place, -1 where it is too near the start
        for k in range(1, self.order + 1):
            code = _codes(tokens, numbers[-1], k, len(codes[-1]))
            whole = depth >= k - 1
            known, found = np.unique(code[whole], return_inverse=True)
            if not len(known):
                break
            number = np.full(len(tokens), -1)
            number[whole] = found
            codes.append(known)
            numbers.append(number)
        for k in range(1, len(codes)):
            here, size = numbers[k], len(codes[k])
            said = (here >= 0) & (depth > 0)  # what begins a line or text is never asked for
            if k == len(codes) - 1:
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
        found = []
        for start in range(0, len(tokens), AT_ONCE):
            begin, end = max(0, start - self.order + 1), start + AT_ONCE  # with the history of the first
            found.append(self._nats(tokens[begin:end], depth[begin:end])[start - begin :])
        return np.concatenate(found)

    def _nats(self, tokens: np.ndarray, depth: np.ndarray) -> np.ndarray:
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


def flat_tokens(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """A part as one row of tokens (L,) and their `depth` (L,); the first of a text or line, depth 0, is not scored."""
    if isinstance(part, TokenSequence):
        return part.tokens.astype(np.int64), np.arange(len(part))
    rows = np.concatenate([part.inputs["tokens"][:, :1], part.target], axis=1)  # (N, T + 1)
    inside = rows != IGNORE_INDEX
    return rows[inside], np.broadcast_to(np.arange(rows.shape[1]), rows.shape)[inside]


def text_baselines(
    known: TextPreprocessor, train: Part, test: Part, losses: np.ndarray, characters: np.ndarray, notes: list[str]
) -> dict[str, Metrics]:  # fmt: skip
    """What n-grams fitted to `train` make of `test`: "unigram", "bigram" and "kneser_ney_5", the scores of each as `text_metrics`
    has them, and as `gain` how much better the network is.

    losses, characters: (N,) of each window or line of `test`, in order, what the network made of it: nats, and how many
    characters. The n-grams are scored on the same ones. In a text of byte pairs too, it is characters that they count; at
    most MOST of them, of which `notes` tells.
    """
    if not isinstance(known.tokenizer, CharacterTokenizer):
        texts = [decode_split(known, part) for part in (train, test)]
        known = TextPreprocessor(CharacterTokenizer.fit(texts[0]), known.lines)
        train, test = (encode_split(known, text) for text in texts)
    (tokens, depth), held = flat_tokens(_end(train, notes)), flat_tokens(test)
    ends = np.cumsum(characters)
    result: dict[str, Metrics] = {}
    for k in (1, 2, ORDER):
        nats = KneserNey(k, known.tokenizer.size).fit(tokens, depth).nats(*held)[held[1] > 0]
        sums = np.diff(np.concatenate([[0.0], np.cumsum(nats[len(nats) - ends[-1] :])])[ends], prepend=0.0)  # (N,)
        name = NAMES.get(k, f"kneser_ney_{k}")
        gain = paired_difference("language", losses, sums, characters)
        result[name] = replace(text_metrics(sums, characters), gain=gain)
    return result


def _end(part: Part, notes: list[str]) -> Part:
    """The last MOST tokens of a part, or as many lines as have no more."""
    most = MOST if isinstance(part, TokenSequence) else MOST // part.target.shape[1]
    if len(part) <= most:
        return part
    what = "characters" if isinstance(part, TokenSequence) else "lines"
    notes.append(f"baselines: n-grams are counted in the last {most:,} of the {len(part):,} {what} of training")
    return (
        TokenSequence(part.tokens[-most:])
        if isinstance(part, TokenSequence)
        else part.take(np.arange(len(part))[-most:])
    )
