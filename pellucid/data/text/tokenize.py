"""Tokenizers by characters and by byte pairs, and the text preprocessor (floor 4).

The vocabulary is fitted to the training part alone. Reading and splitting texts is left to `read.py`.

Shapes: T tokens of a text, V vocabulary, N lines.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ...errors import OptionError
from ...files import Json
from ..input_spec import TextSpec
from ..problem import Preprocessor, plain_fields

UNKNOWN = "\ufffd"  # how a character that training never saw is shown
BYTES = 256
LARGEST_VOCABULARY = 65_536
LINES_AT_A_TIME = 20_000  # given to the byte-pair encoder, whose results are large


@dataclass
class CharacterTokenizer:
    """One token a character. alphabet: those of training, in order; the token after them stands for all others."""

    kind: ClassVar[str] = "characters"

    alphabet: str

    @classmethod
    def fit(cls, text: str) -> CharacterTokenizer:
        return cls("".join(map(chr, np.flatnonzero(np.bincount(code_points(text))))))

    @property
    def size(self) -> int:
        return len(self.alphabet) + 1

    def encode(self, text: str) -> np.ndarray:
        """int64 (T,), one for each character."""
        token = np.full(sys.maxunicode + 1, len(self.alphabet))
        token[code_points(self.alphabet)] = np.arange(len(self.alphabet))
        return token[code_points(text)]

    def decode(self, tokens: np.ndarray) -> str:
        characters = np.append(code_points(self.alphabet), np.uint32(ord(UNKNOWN)))
        return characters[tokens].astype("<u4").tobytes().decode("utf-32-le")

    def lengths(self) -> np.ndarray:
        """Characters of each token, int64 (V,)."""
        return np.ones(self.size, np.int64)

    def unseen_characters(self, text: str) -> str:
        """The characters of `text` that training never saw, as they come."""
        return code_points(text)[self.encode(text) == len(self.alphabet)].tobytes().decode("utf-32-le")

    def to_json(self) -> dict[str, Json]:
        return {"kind": self.kind, "alphabet": self.alphabet}


@dataclass
class BPETokenizer:
    """Byte-pair encoding of UTF-8 (Sennrich et al. 2016, over bytes as in Radford et al. 2019); no text is unknown to it.

    model: what the package `tokenizers` writes of a trained tokenizer, JSON as text.
    Raises OptionError where that package is not installed.
    """

    kind: ClassVar[str] = "bpe"

    model: str = field(repr=False)

    @classmethod
    def fit(cls, text: str, size: int) -> BPETokenizer:
        """The `size` tokens of `text`: all bytes, then repeatedly the commonest pair; fewer where it has no more."""
        library = _tokenizers()
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        trainer = library.trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(_lines(text), trainer)
        return cls(tokenizer.to_str())

    @cached_property
    def tokenizer(self) -> Any:
        return _tokenizers().Tokenizer.from_str(self.model)

    @property
    def size(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    def encode(self, text: str) -> np.ndarray:
        """int64 (T,). Line by line: the end of a line and what follows never share a token."""
        lines = _lines(text)
        ids: list[list[int]] = []
        for i in range(0, len(lines), LINES_AT_A_TIME):
            ids += [encoding.ids for encoding in self.tokenizer.encode_batch(lines[i : i + LINES_AT_A_TIME])]
        return np.array([token for line in ids for token in line], np.int64)

    def decode(self, tokens: np.ndarray) -> str:
        return str(self.tokenizer.decode(np.asarray(tokens).tolist()))

    def lengths(self) -> np.ndarray:
        """Characters of each token, int64 (V,): those that begin in it, so that they add up to a text's."""
        letters = byte_letters()
        inside = {letters[byte] for byte in range(0x80, 0xC0)}  # UTF-8's bytes within a character
        spelled = [self.tokenizer.id_to_token(i) for i in range(self.size)]
        return np.array([sum(letter not in inside for letter in token) for token in spelled], np.int64)

    def unseen_characters(self, text: str) -> str:
        return ""

    def to_json(self) -> dict[str, Json]:
        return {"kind": self.kind, "model": self.model}


def _tokenizers() -> Any:
    try:
        import tokenizers  # an extra: most texts are learned by characters
    except ModuleNotFoundError:
        raise OptionError("tokenizer: bpe needs the package tokenizers, which is not installed; expected it, or a text in "
                          "characters; pip install 'pellucid[tokenizers]', or leave --tokenizer out") from None  # fmt: skip
    return tokenizers


def _lines(text: str) -> list[str]:
    """The lines with their ends; what `splitlines` cuts at besides is part of the text."""
    *whole, last = text.split("\n")
    return [line + "\n" for line in whole] + [last] * bool(last)


def byte_letters() -> list[str]:
    """The letter of each byte in a byte-level vocabulary: the byte itself where it is printable, else one from U+0100 on."""
    prints = [33 <= b <= 126 or 161 <= b <= 172 or b >= 174 for b in range(BYTES)]
    return [chr(b) if shown else chr(BYTES + prints[:b].count(False)) for b, shown in enumerate(prints)]


def code_points(text: str) -> np.ndarray:
    """uint32 (T,), one for each character."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


Tokenizer = CharacterTokenizer | BPETokenizer


@dataclass
class TextPreprocessor(Preprocessor[str]):
    """A text's tokenizer. lines: whether each line is one example, beginning and ending with a newline.

    length: tokens of the longest line and its newline; 0 for running text.
    """

    kind: ClassVar[str] = "text"

    tokenizer: Tokenizer
    lines: bool = False
    length: int = 0
    task: str = "language"
    classes: list[str] | None = None
    target_name: str | None = None

    def input_spec(self) -> TextSpec:
        """V tokens, and for lines the length of the longest."""
        return TextSpec(self.tokenizer.size, self.length if self.lines else 0)

    def encode(self, raw: str) -> dict[str, np.ndarray]:
        """The beginning of a text as {"tokens": int64 (T,)}; that of a line begins with a newline, and so does no text."""
        return {"tokens": self.tokenizer.encode("\n" + raw if self.lines or not raw else raw)}

    def text(self, tokens: np.ndarray) -> str:
        """The text of tokens (T,)."""
        return self.tokenizer.decode(np.asarray(tokens))

    def spelled(self, tokens: np.ndarray, text: str | None = None) -> list[str]:
        """The characters that begin in each of the tokens (T,).

        text: a text that ends with theirs, where it is known.
        """
        text = self.text(tokens) if text is None else text
        lengths = self.tokenizer.lengths()[tokens]
        ends = len(text) - lengths.sum() + np.cumsum(lengths)
        return [text[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]

    def unseen_values(self, raw: str) -> list[str]:
        """A line about the characters of `raw` that training never saw, where there are some."""
        unseen = self.tokenizer.unseen_characters(raw)
        if not unseen:
            return []
        kinds = sorted(set(unseen))
        shown = ", ".join(map(repr, kinds[:8])) + ", ..." * (len(kinds) > 8)
        return [
            f"{len(unseen):,} of {len(raw):,} characters were never seen in training ({shown}); they count as one unknown token"
        ]

    def to_json(self) -> dict[str, Json]:
        return {"kind": self.kind, "task": self.task, "lines": self.lines, "length": self.length,
                "tokenizer": self.tokenizer.to_json()}  # fmt: skip

    @classmethod
    def from_json(cls, json: dict[str, Json]) -> TextPreprocessor:
        fields, tokenizer = plain_fields(json), json["tokenizer"]
        if not isinstance(tokenizer, dict):
            raise TypeError("a tokenizer is a JSON object")
        makers: dict[str, type[CharacterTokenizer] | type[BPETokenizer]] = {
            "characters": CharacterTokenizer,
            "bpe": BPETokenizer,
        }
        made = makers[str(tokenizer["kind"])](**plain_fields(tokenizer))
        return cls(made, fields["lines"], fields["length"], fields["task"])
