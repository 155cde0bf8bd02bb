"""Text files as a data module: read, split by position or by line, and tokenized (floor 4).

Running text is split by position: windows drawn at random would have most of what they are tested on beside them in
training. Tokenizers stand in `tokenize.py`.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...errors import DataError, OptionError, suggestion
from ..base import Source
from ..files import chunks, existing_file, find_encoding, sha256
from ..loader import IGNORE_INDEX
from ..problem import SPLITS, DataModule, Examples, RawExample, TokenSequence
from ..split import split_rows
from ..table.read_options import ReadOptions
from .tokenize import BYTES, LARGEST_VOCABULARY, BPETokenizer, CharacterTokenizer, TextPreprocessor, Tokenizer

SHARES = (0.8, 0.1, 0.1)  # of running text in its order, or of the lines
TOKENIZERS = (CharacterTokenizer.kind, BPETokenizer.kind)
VOCABULARY = 1000  # tokens of a byte-pair encoding
LEAST_CHARACTERS = 1000
LEAST_LINES = 20
LONGEST_LINE = 1000  # characters; every line takes the room of the longest
FILES_TOLD = 3  # of which notes tell how they were read
SHOWN = 100  # tokens of a window, from its beginning, that stand for it


def text_module(
    source: Source,
    *,
    line_by_line: bool = False,
    tokenizer: str = "characters",
    vocab_size: int | None = None,
    last: float = 0.0,
    read: str | None = None,
) -> DataModule:
    """The data module (kind "text", task "language") of one text file, or of several joined with a blank line.

    line_by_line: each line is an example: {"tokens": (N, T)}, target (N, T), T the longest line and its newline. The split is
    then by line and by the seed; else the splits are TokenSequences, in the order of the text.
    tokenizer: "characters", or "bpe" with `vocab_size` tokens (1,000).
    read: the option of that name, of which a text takes the encoding.
    last: where not 0, so much of the end is both validation and test, and the rest training.
    Raises DataError for a file that is no text, or too short; OptionError for an option out of range.
    """
    check_tokenizer(tokenizer, vocab_size)
    name, paths = source.name, source.paths
    encoding = ReadOptions.parse(read).of_text(read)
    parts = [read_text(path, encoding) for path in paths]
    text = "\n\n".join(part for part, _ in parts)
    if len(text) < LEAST_CHARACTERS:
        where = paths[0] if len(paths) == 1 else paths[0].parent
        raise DataError(f"{where}: {len(text):,} characters; expected {LEAST_CHARACTERS:,} at least to train, validate and test on; "
                        "give more text")  # fmt: skip
    notes = [note for _, found in parts[:FILES_TOLD] for note in found]
    notes += [f"file: {len(paths):,} files of {name}, joined with a blank line"] * (len(paths) > 1)
    texts = _split_lines(name, text, source.seed, notes) if line_by_line else _split_text(name, text, last, notes)
    fitted: Tokenizer = CharacterTokenizer.fit(texts[0])
    if tokenizer == BPETokenizer.kind:
        fitted = BPETokenizer.fit(texts[0], vocab_size or VOCABULARY)
    preprocessor = TextPreprocessor(fitted, line_by_line)
    if line_by_line:
        lengths = [_line_lengths(preprocessor, fitted.encode(own)) for own in texts]
        preprocessor.length = max(int(own.max()) for own in lengths)
    encoded = [encode_split(preprocessor, own) for own in texts]
    notes.append(_token_note(preprocessor, texts[0], encoded[0]))
    for split, own in list(zip(SPLITS, texts, strict=True))[1 : 2 if last else 3]:
        notes += [f"{split}: {line}" for line in preprocessor.unseen_values(own)]
    raw: dict[str, RawExample] = {
        split: partial(_raw_example, preprocessor, own) for split, own in zip(SPLITS, encoded, strict=True)
    }
    train, validation, test = encoded
    return DataModule(
        name, "text", "language", preprocessor, train, validation, test, notes, sha256(paths), source.record, raw
    )  # fmt: skip


def check_tokenizer(tokenizer: str, vocab_size: int | None) -> None:
    if tokenizer not in TOKENIZERS:
        raise OptionError(
            f"tokenizer: {tokenizer!r}; expected one of {', '.join(TOKENIZERS)}.{suggestion(tokenizer, TOKENIZERS)}"
        )
    if vocab_size is None:
        return
    if tokenizer != BPETokenizer.kind:
        raise OptionError(f"vocab_size: {vocab_size} for a text in characters, whose vocabulary is theirs; expected it with bpe; "
                          "add --tokenizer bpe, or leave --vocab-size out")  # fmt: skip
    if not BYTES < vocab_size <= LARGEST_VOCABULARY:
        raise OptionError(f"vocab_size: {vocab_size}; expected {BYTES + 1} up to {LARGEST_VOCABULARY}, all bytes being in it; "
                          f"write {VOCABULARY}")  # fmt: skip


def read_text(path: Path, encoding: str | None = None) -> tuple[str, list[str]]:
    """The text of a file, which may be packed with gzip, and notes; its ends of lines as newlines, no byte-order marks.

    encoding: what the user says; else UTF-8, what a byte-order mark says, or cp1252. Raises DataError for what is no text.
    """
    found = find_encoding(existing_file(path, "text"), encoding, table=False)
    try:
        text = b"".join(chunks(path)).decode(found)
    except UnicodeError:
        raise DataError(f"{path}: it is not all {found}; expected text in one encoding; save it as UTF-8, or name another: "
                        "--read encoding=cp1252, say") from None  # fmt: skip
    notes = []
    if found != "utf-8" and encoding is None:
        notes.append(f"file: {path.name} read as {found}, since it is not UTF-8 (--read encoding=NAME)")
    marks, crlf = text.count("\ufeff"), text.count("\r\n")
    text = text.replace("\ufeff", "").replace("\r\n", "\n")
    lone = text.count("\r")
    text = text.replace("\r", "\n")
    if crlf or lone:
        notes.append(
            f"file: {path.name}: {crlf + lone:,} line ends of {'Windows' if crlf else 'old Macs'} read as newlines"
        )
    if marks > 1 or (marks and found == "utf-8"):
        notes.append(f"file: {path.name}: {marks:,} byte-order mark{'s' * (marks > 1)} dropped")
    return text, notes


# ---- the splits ----------------------------------------------------------------------------------------------------------


def _split_text(name: str, text: str, last: float, notes: list[str]) -> list[str]:
    """Training, validation and test part, in the order of the text; the latter two are the same where `last` is given."""
    if last:
        cut = int(len(text) * (1 - last))
        notes.append(
            f"split: of {len(text):,} characters the last {last:.0%} validates and tests, as is usual for {name}; its best epoch is told"
        )
        return [text[:cut], text[cut:], text[cut:]]
    ends = [0, *(round(len(text) * share) for share in (SHARES[0], SHARES[0] + SHARES[1])), len(text)]
    notes.append(f"split: 80/10/10 of {len(text):,} characters by position, the last tenth is the test part")
    return [text[a:b] for a, b in pairwise(ends)]


def _split_lines(name: str, text: str, seed: int, notes: list[str]) -> list[str]:
    """The three parts as texts in which every line ends with a newline."""
    lines = [line for line in (line.rstrip() for line in text.split("\n")) if line]
    if len(lines) < LEAST_LINES:
        raise DataError(f"{name}: {len(lines)} lines that are not blank; expected {LEAST_LINES} at least to train, validate and test on; "
                        "give more, or leave --line-by-line out")  # fmt: skip
    longest = max(range(len(lines)), key=lambda i: len(lines[i]))
    if len(lines[longest]) > LONGEST_LINE:
        raise DataError(f"{name}: a line of {len(lines[longest]):,} characters ({lines[longest][:30]!r}...); expected at most {LONGEST_LINE:,} "
                        "where each line is an example; leave --line-by-line out")  # fmt: skip
    rows = split_rows(np.zeros(len(lines), np.int64), "classification", seed, SHARES)
    parts = [[lines[i] for i in part.tolist()] for part in rows]
    notes.append(f"split: 80/10/10 of {len(lines):,} lines of up to {len(lines[longest])} characters, by line")
    seen = set(parts[0])
    if again := sum(line in seen for line in parts[2]):
        notes.append(f"rows: {again:,} of {len(parts[2]):,} test lines also stand in the training part")
    return ["\n".join(part) + "\n" for part in parts]


def lines_of(preprocessor: TextPreprocessor, where: str, text: str, most_tokens: int | None) -> str:
    """The lines of another text that are not blank, without blanks at their ends, for `encode_split`.

    most_tokens: of a line and its newline, where a network can look at no more. Raises DataError, with `where` and the line, for one
    that is longer, or longer than a line to learn from.
    """
    kept = [(number, line) for number, line in enumerate(map(str.rstrip, text.split("\n")), start=1) if line]
    text = "".join(f"{line}\n" for _, line in kept)
    sizes = [
        np.array([len(line) for _, line in kept]),
        _line_lengths(preprocessor, preprocessor.tokenizer.encode(text)),
    ]
    for own, most, what in zip(sizes, (LONGEST_LINE, most_tokens), ("characters", "tokens, with its end"), strict=True):
        if most is not None and own.max(initial=0) > most:
            number, line = kept[int(np.argmax(own > most))]
            raise DataError(f"{where}, line {number:,}: {own[own > most][0]:,} {what} ({line[:30]!r}...); expected at most {most:,}, since this network "
                            "reads each line by itself; break the line")  # fmt: skip
    return text


def encode_split(preprocessor: TextPreprocessor, text: str) -> TokenSequence | Examples:
    """A split as tokens: a TokenSequence, or where lines are examples, a row for each line of `text`.

    Rows are as long as the preprocessor's `length`, or as the longest line that comes; newlines fill them up, unscored.
    """
    tokens = preprocessor.tokenizer.encode(text)
    if not preprocessor.lines:
        return TokenSequence(tokens.astype(np.min_scalar_type(preprocessor.tokenizer.size - 1)))
    newline, lengths = preprocessor.tokenizer.encode("\n")[0], _line_lengths(preprocessor, tokens)
    inside = np.arange(max(lengths.max(), preprocessor.length)) < lengths[:, None]  # (N, T)
    target = np.full(inside.shape, IGNORE_INDEX, np.int64)
    target[inside] = tokens
    before = np.where(inside[:, 1:], target[:, :-1], newline)
    return Examples({"tokens": np.concatenate([np.full((len(target), 1), newline), before], axis=1)}, target)


def _line_lengths(preprocessor: TextPreprocessor, tokens: np.ndarray) -> np.ndarray:
    """Tokens of each line in tokens (L,), its newline counted: int64 (N,)."""
    return np.diff(np.flatnonzero(tokens == preprocessor.tokenizer.encode("\n")[0]), prepend=-1)


def decode_split(preprocessor: TextPreprocessor, split: TokenSequence | Examples) -> str:
    """The text that `encode_split` was given."""
    return preprocessor.text(
        split.tokens if isinstance(split, TokenSequence) else split.target[split.target != IGNORE_INDEX]
    )


def _token_note(preprocessor: TextPreprocessor, text: str, split: TokenSequence | Examples) -> str:
    size = preprocessor.tokenizer.size
    if isinstance(preprocessor.tokenizer, CharacterTokenizer):
        return f"tokens: the {size - 1:,} different characters of the training part, and one that stands for all others"
    count = len(split) if isinstance(split, TokenSequence) else int((split.target != IGNORE_INDEX).sum())
    return f"tokens: {size:,} byte pairs, {len(text) / count:.2f} characters each on average; losses are told per character"


def _raw_example(preprocessor: TextPreprocessor, split: TokenSequence | Examples, i: int) -> dict[str, str]:
    if isinstance(split, TokenSequence):
        return {"text": preprocessor.text(split.tokens[i : i + SHOWN])}
    return {"line": preprocessor.text(split.target[i][split.target[i] != IGNORE_INDEX]).rstrip("\n")}
