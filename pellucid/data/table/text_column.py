"""Columns of text: words, pairs of words and groups of letters, hashed into buckets and weighted by TF-IDF (floor 4).

A row becomes at most `length` buckets and as many weights, padded with bucket 0 and weight 0, so that every row has one
shape. A network adds up what it has learned about each bucket (`nn.EmbeddingBag`). A Transformer would read the same column
as a sequence of tokens: another encoding of a `TextColumn`, chosen where `TableSpec.texts` is read.

The hash is CRC-32 of the UTF-8 bytes, which is the same on every machine and in every process.

Shapes: N rows, L buckets of a row at most.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..description_text import shell_word
from .delimited import MISSING_INPUT

BUCKETS = 1 << 14
GROUPS = (3, 4, 5)  # letters of a group, blanks at both ends of its word counted
LONGEST_WORD = 40  # letters of a word that are looked at
MAX_LENGTH = 512  # buckets of a row
MAX_VALUES = 50_000_000  # buckets of all rows together: a larger table has shorter rows
COUNTED = 20_000  # training rows that document frequencies are counted in, evenly spread
RARE_FROM = 50  # training rows from which a bucket that only one of them has is left out: nothing can be learned of it
WHOLE = 0.98  # of the training rows that fit in L buckets

SAMPLED = 1000  # different values that show whether a column is text
TEXT_FROM = 20  # different values
REPEATED = 0.1  # different values, as a share of the rows, from which words are told apart rather than whole values
FEWEST_WORDS = 3  # of at least half of the values

# A letter or digit with the marks that belong to it. Scripts of India and South East Asia write vowels as marks.
LETTER = r"(?:[^\W_]|[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u064b-\u065f\u0900-\u109f])"
# Scripts without blanks between words, and pictures: each character is a word.
ALONE = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u2600-\u27bf\U0001f000-\U0001faff]"
WORD = re.compile(rf"{ALONE}|(?:(?!{ALONE}){LETTER})+(?:'(?:(?!{ALONE}){LETTER})+)*")
PLAIN_WORD = re.compile(rf"(?!{ALONE})(?:(?!\d){LETTER}|['’-])+")
AROUND = ".,;:!?…()[]\"'“”‘’«»¿¡-–—।"  # punctuation about a word


@dataclass
class TextColumn:
    """A column of text. rows: those counted in. documents: how many of them have each bucket, (buckets,), from bucket 1 on.

    length: L.
    """

    name: str
    rows: int
    documents: list[int]
    length: int

    @property
    def buckets(self) -> int:
        """How many there are, the padding not counted."""
        return len(self.documents)

    def encode(self, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Text (N,), None where missing -> buckets int32 (N, L) and weights float32 (N, L).

        A weight is (1 + ln count) * (1 + ln((1 + rows) / (1 + documents))), and the weights of a row are divided by the root of
        their squares' sum. Of a longer text the words come first, then the pairs, then the groups. A row without known
        words is all zeros.
        """
        documents = np.array([0, *self.documents], np.float64)
        inverse = np.where(documents >= self._least, np.log((1 + self.rows) / (1 + documents)) + 1, 0.0)
        index = np.zeros((len(column), self.length), np.int32)
        weights = np.zeros((len(column), self.length), np.float32)
        hasher = Hasher(self.buckets)
        for i, text in enumerate(column.tolist()):
            own, times = hasher.counts(text)
            known = np.flatnonzero(inverse[own])[: self.length]
            weight = (1 + np.log(times[known])) * inverse[own[known]]
            index[i, : len(known)] = own[known]
            weights[i, : len(known)] = weight / max(float(np.sqrt(weight @ weight)), 1e-12)
        return index, weights

    def unseen(self, column: np.ndarray) -> list[str]:
        """A line about the texts (N,) without a word, pair or group of letters that training knew, where there are some."""
        empty = np.flatnonzero(~self.encode(column)[1].any(axis=1)).tolist()
        rows = [i for i in empty if column[i] is not None and column[i].lower() not in MISSING_INPUT]
        if not rows:
            return []
        return [f"column {self.name}: {len(rows):,} of {len(column):,} rows hold no word that training knew, "
                f"{column[rows[0]][:40]!r} first; they count as missing"]  # fmt: skip

    @property
    def _least(self) -> int:
        return 2 if self.rows >= RARE_FROM else 1


def encode_texts(texts: Sequence[TextColumn], columns: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """T columns, each text (N,) -> {"text": int32 (N, T, L), "text_weights": float32 (N, T, L)}, L that of the longest."""
    length = max(column.length for column in texts)
    index = np.zeros((len(columns[0]), len(texts), length), np.int32)
    weights = np.zeros(index.shape, np.float32)
    for t, (text, column) in enumerate(zip(texts, columns, strict=True)):
        index[:, t, : text.length], weights[:, t, : text.length] = text.encode(column)
    return {"text": index, "text_weights": weights}


class Hasher:
    """Texts as counts of buckets 1 ... `buckets`; a word met again is looked up."""

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets
        self._words: dict[str, tuple[int, np.ndarray]] = {}  # a word -> its bucket, and those of its groups of letters

    def counts(self, text: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Buckets int32 (n,) in the order words, pairs, groups, and how often each comes, int64 (n,); none for a missing value."""
        if text is None or text.lower() in MISSING_INPUT:
            return np.zeros(0, np.int32), np.zeros(0, np.int64)
        words = words_of(text)
        found = [self._word(word) for word in words]
        pairs = [self._bucket(f"p{one} {other}") for one, other in itertools.pairwise(words)]
        first = np.array([*(word for word, _ in found), *pairs], np.int32)
        buckets, at, times = np.unique(
            np.concatenate([first, *(groups for _, groups in found)]), return_index=True, return_counts=True
        )
        order = np.argsort(at)
        return buckets[order], times[order]

    def _word(self, word: str) -> tuple[int, np.ndarray]:
        if word not in self._words:
            padded = f" {word} "
            groups = [padded[i : i + n] for n in GROUPS for i in range(len(padded) - n + 1)] if len(word) > 1 else []
            self._words[word] = (
                self._bucket("w" + word),
                np.array([self._bucket("g" + group) for group in groups], np.int32),
            )
        return self._words[word]

    def _bucket(self, feature: str) -> int:
        return 1 + zlib.crc32(feature.encode("utf-8", "replace")) % self.buckets


def words_of(text: str) -> list[str]:
    """The words of a text, their case and the width of their letters evened out."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return [word[:LONGEST_WORD] for word in WORD.findall(plain)]


def is_text(different: Sequence[str], count: int) -> bool:
    """Whether a column's `different` values, of `count` in all, missing ones left out, are text: many, half of several words.

    An identifier, a hash, a path or a code is no text: it has no words between blanks.
    """
    if len(different) < max(TEXT_FROM, REPEATED * count):
        return False
    sample = [different[i] for i in np.linspace(0, len(different) - 1, min(SAMPLED, len(different))).astype(int)]
    return sum(_plain_words(value) >= FEWEST_WORDS for value in sample) * 2 >= len(sample)


def _plain_words(value: str) -> int:
    """How many words stand between blanks, of letters alone; `A-17`, `a@b.org` and `/usr/bin` are none."""
    chunks = (chunk.strip(AROUND) for chunk in value.split())
    return len(re.findall(ALONE, value)) + sum(PLAIN_WORD.fullmatch(chunk) is not None for chunk in chunks)


def fit_text(name: str, column: np.ndarray, rows: np.ndarray, notes: list[str]) -> TextColumn | None:
    """The encoder of the whole `column` (N,), learned from its training `rows`, and a note; None where all would be alike."""
    sampled = rows[np.linspace(0, len(rows) - 1, min(COUNTED, len(rows))).astype(np.int64)]
    hasher = Hasher(BUCKETS)
    each = [hasher.counts(text)[0] for text in column[sampled].tolist()]
    documents = np.bincount(np.concatenate(each), minlength=BUCKETS + 1)
    fitted = TextColumn(name, len(sampled), documents[1:].tolist(), 1)
    sizes = [int((documents[own] >= fitted._least).sum()) for own in each]
    most = min(MAX_LENGTH, max(8, MAX_VALUES // len(column)))
    fitted.length = min(most, -(-max(1, int(np.quantile(sizes, WHOLE))) // 8) * 8)
    if not any(sizes) or documents[documents > 0].min() == len(sampled):
        return None
    notes.append(_note(name, column, sum(size > fitted.length for size in sizes) / len(sizes)))
    return fitted


def _note(name: str, column: np.ndarray, cut: float) -> str:
    present = [text for text in _spread(column.tolist()) if text is not None and text.lower() not in MISSING_INPUT]
    words = sum(len(words_of(text)) for text in present) / max(len(present), 1)
    more = f", the ends of {cut:.0%} cut" if cut >= 0.05 else ""
    shown, option = (
        (name, shell_word(name)) if len(name) <= 20 else (f"{name[:39]}…" if len(name) > 40 else name, "NAME")
    )
    return f"columns: {shown} is text, {words:.0f} words on average: its words and letters are learned{more}; --drop {option}"


def _spread(values: list[str | None]) -> Iterator[str | None]:
    return (values[i] for i in np.linspace(0, len(values) - 1, min(SAMPLED, len(values))).astype(int))
