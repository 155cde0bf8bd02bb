"""Text as examples: reading, splits, vocabularies, lines, byte pairs, and what is refused."""

from __future__ import annotations

import codecs
import gzip
import importlib.util
import json
import sys

import numpy as np
import pytest

from pellucid.data import datasets as shelf
from pellucid.data.base import Source
from pellucid.data.input_spec import TextSpec
from pellucid.data.kinds import preprocessor_from_json
from pellucid.data.load import load_problem
from pellucid.data.problem import SPLITS
from pellucid.data.text.read import decode_split, encode_split, lines_of, read_text, text_module
from pellucid.data.text.tokenize import BPETokenizer, CharacterTokenizer, TextPreprocessor, byte_letters
from pellucid.errors import DataError, OptionError, StateError
from pellucid.evaluation.kneser_ney import text_baselines

needs_tokenizers = pytest.mark.skipif(
    importlib.util.find_spec("tokenizers") is None, reason="the package tokenizers is not installed"
)


def needs(name):
    return pytest.mark.skipif(not shelf.find(name).at_hand, reason=f"{name} is not on this machine (PELLUCID_DATA)")


def words(n=500, seed=0):
    rng = np.random.default_rng(seed)
    return " ".join(rng.choice(["to", "be", "or", "not\n", "that", "is", "the", "question"], n).tolist()) + "\n"


@pytest.fixture
def file(tmp_path):
    def write(content, name="play.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


def parts(problem):
    return [getattr(problem, part) for part in SPLITS]


def texts(problem):
    return [decode_split(problem.preprocessor, part) for part in parts(problem)]


# ---- running text ----------------------------------------------------------------------------------------------------------


def test_a_text_is_split_where_it_stands(file):
    text = words()
    problem = load_problem(str(file(text)))
    assert (problem.name, problem.kind, problem.task) == ("play", "text", "language")
    assert "".join(texts(problem)) == text
    n = len(text)
    assert [len(part) for part in parts(problem)] == [
        round(0.8 * n),
        round(0.9 * n) - round(0.8 * n),
        n - round(0.9 * n),
    ]
    assert all(part.tokens.dtype == np.uint8 for part in parts(problem))
    assert problem.preprocessor.input_spec() == TextSpec(len(set(text)) + 1)
    assert problem.notes[0] == f"split: 80/10/10 of {n:,} characters by position, the last tenth is the test part"
    assert "the 14 different characters of the training part" in problem.notes[1]
    assert problem.raw_example("test", 3) == {"text": texts(problem)[2][3:103]}


def test_source_loads_it_again(file, tmp_path, monkeypatch):
    file("Once upon a time\n" * 100, "tales/b.md"), file(words(), "tales/a.txt"), file("hidden", "tales/.a.txt")
    monkeypatch.chdir(tmp_path)
    problem = load_problem("tales", line_by_line=True, seed=4)
    monkeypatch.chdir("/")
    again = load_problem(**json.loads(json.dumps(problem.source)))
    assert again.notes == problem.notes and again.fingerprint == problem.fingerprint and texts(again) == texts(problem)


def test_a_folder_of_texts_is_one_text(file, tmp_path):
    (
        file(words(seed=1), "tales/b/z.txt"),
        file("\ufeffOnce\r\nupon a time\r\n" * 100, "tales/a.md"),
        file("x", "tales/.hidden"),
    )
    problem = load_problem(str(tmp_path / "tales"))
    assert problem.name == "tales" and "file: 2 files of tales, joined with a blank line" in problem.notes
    first = "Once\nupon a time\n" * 100
    assert "".join(texts(problem)) == first + "\n\n" + words(seed=1)


def test_gzip_and_many_characters(file):
    text = "".join(chr(0x4E00 + i % 900) for i in range(3000))
    problem = load_problem(str(file(gzip.compress(text.encode()), "china.txt.gz")))
    assert problem.name == "china" and problem.train.tokens.dtype == np.uint16
    assert problem.preprocessor.input_spec() == TextSpec(901) and "".join(texts(problem)) == text


def test_characters_never_seen_in_training_are_told_and_scored(file):
    text = "abcd\n" * 500 + "abxd\n" * 50 + "yyé\n" * 10
    problem = load_problem(str(file(text)))
    known, test = problem.preprocessor, problem.test
    assert known.tokenizer.alphabet == "\nabcd" and known.input_spec() == TextSpec(6)
    count = sum(c in "xyé" for c in text[round(0.9 * len(text)) :])
    note = (
        f"test: {count} of 279 characters were never seen in training ('x', 'y', 'é'); they count as one unknown token"
    )
    assert note in problem.notes and (test.tokens == 5).sum() == count == known.text(test.tokens).count("\ufffd")
    assert known.unseen_values("bad ß") == [
        "2 of 5 characters were never seen in training (' ', 'ß'); they count as one unknown token"
    ]
    assert known.unseen_values("bad\n") == known.unseen_values("") == []


@needs("shakespeare")
def test_shakespeare_is_split_as_the_field_does():
    problem = load_problem("shakespeare")
    assert [len(part) for part in parts(problem)] == [1_003_854, 111_540, 111_540]
    assert problem.preprocessor.input_spec() == TextSpec(66)
    np.testing.assert_array_equal(problem.validation.tokens, problem.test.tokens)
    assert "the last 10% validates and tests" in problem.notes[0]
    assert texts(problem)[0].startswith("First Citizen:\nBefore we proceed")
    assert [len(part) for part in parts(load_problem("shakespeare", line_by_line=True))] == [26_221, 3_278, 3_278]


# ---- lines -----------------------------------------------------------------------------------------------------------------


def test_lines(file):
    lines = [f"name{i}" for i in range(200)] + ["dup"] * 100
    problem = load_problem(str(file("\n\n".join(lines))), line_by_line=True)
    assert [len(part) for part in parts(problem)] == [240, 30, 30]
    newline = problem.preprocessor.tokenizer.encode("\n")[0]
    for part, text in zip(parts(problem), texts(problem), strict=True):
        tokens, target = part.inputs["tokens"], part.target
        assert tokens.dtype == target.dtype == np.int64 and tokens.shape == target.shape
        own = text.split("\n")[:-1]
        assert len(own) == len(part) and tokens.shape[1] == len("name199") + 1
        for i, line in enumerate(own):
            n = len(line) + 1
            assert problem.preprocessor.text(tokens[i, :n]) == "\n" + line
            assert problem.preprocessor.text(target[i, :n]) == line + "\n"
            assert (target[i, n:] == -100).all() and (tokens[i, n:] == newline).all()
    assert sorted(line for text in texts(problem) for line in text.split()) == sorted(lines)
    again = sum(line == "dup" for line in texts(problem)[2].split())
    assert f"rows: {again} of 30 test lines also stand in the training part" in problem.notes
    assert problem.raw_example("test", 4) == {"line": texts(problem)[2].split()[4]}
    assert texts(load_problem(problem.source["path"], line_by_line=True, seed=1)) != texts(problem)


def test_the_beginning_of_a_line_begins_with_a_newline(file):
    path = str(file(words()))
    known = load_problem(path, line_by_line=True).preprocessor
    assert known.text(known.encode("to")["tokens"]) == "\nto" and known.text(known.encode("")["tokens"]) == "\n"
    known = load_problem(path).preprocessor
    assert known.text(known.encode("to")["tokens"]) == "to" and known.text(known.encode("")["tokens"]) == "\n"


def test_lines_of_another_text_are_those_that_can_be_read():
    known = TextPreprocessor(CharacterTokenizer.fit("\nabc"), lines=True, length=4)
    assert lines_of(known, "new.txt", "ab \n\n \nc", None) == "ab\nc\n"
    assert lines_of(known, "new.txt", "", 8) == ""
    long = "a\n\n" + "b" * 1001 + "\nc\n" + "a" * 1002
    with pytest.raises(
        DataError, match=r"new.txt, line 3: 1,001 characters \('b+'...\); expected at most 1,000, .*break the line"
    ):
        lines_of(known, "new.txt", long, None)
    with pytest.raises(DataError, match=r"new.txt, line 2: 5 tokens, with its end \('aaaa'...\); expected at most 4"):
        lines_of(known, "new.txt", "abc\naaaa\nbbbbbb\n", 4)
    assert len(lines_of(known, "new.txt", "abc\n" + "a" * 999, None)) == 1004


@needs("names")
def test_names():
    problem = load_problem("names")
    assert [len(part) for part in parts(problem)] == [25_627, 3_203, 3_203]
    assert problem.train.inputs["tokens"].shape == (25_627, 16) and problem.preprocessor.input_spec() == TextSpec(
        28, 16
    )
    assert problem.test.target.shape == (3_203, 16)


# ---- the preprocessor --------------------------------------------------------------------------------------------------------


def test_characters():
    made = CharacterTokenizer.fit("hello\n\U0001f600")
    assert made.alphabet == "\nehlo\U0001f600" and made.size == 7
    assert made.encode("hex\U0001f600").tolist() == [2, 1, 6, 5]
    assert made.decode(np.array([2, 1, 6, 5])) == "he\ufffd\U0001f600"
    assert made.encode("").dtype == np.int64 and made.decode(made.encode("")) == ""


def test_json_both_ways():
    known = TextPreprocessor(CharacterTokenizer.fit('a "quoted"\tline\n\U0001f600'), lines=True, length=7)
    back = preprocessor_from_json(json.loads(json.dumps(known.to_json())))
    assert back == known and back.task == "language" and back.classes is None
    damaged = known.to_json() | {"tokenizer": {"kind": "words"}}
    with pytest.raises(StateError, match="preprocessor of kind 'text'"):
        preprocessor_from_json(damaged)


def test_tokens_are_spelled_by_what_they_say_or_by_the_text_they_are_the_end_of():
    known = TextPreprocessor(CharacterTokenizer.fit("abc"))
    assert known.spelled(np.array([0, 1, 3, 2])) == ["a", "b", "\ufffd", "c"]
    assert known.spelled(known.tokenizer.encode("bäc"), "abäc") == ["b", "ä", "c"]
    assert known.spelled(np.array([], np.int64)) == []


# ---- byte pairs --------------------------------------------------------------------------------------------------------------


@needs_tokenizers
def test_byte_pairs(file):
    text = words(2000) + "Grüße, 世界 \U0001f600!\n" * 40
    path = str(file(text))
    problem = load_problem(path, tokenizer="bpe", vocab_size=270)
    known = problem.preprocessor
    assert known.input_spec().vocab_size == 270 and "".join(texts(problem)) == text
    assert problem.train.tokens.dtype == np.uint16 and len(problem.train) < 0.6 * len(texts(problem)[0])
    for part, own in zip(parts(problem), texts(problem), strict=True):
        letters = known.spelled(part.tokens)  # also where a character is of several tokens
        assert "".join(letters) == own and len(letters) == len(part.tokens) and "\ufffd" not in own
    assert known.unseen_values("never seen: ξ") == []
    assert any(note.startswith("tokens: 270 byte pairs, ") for note in problem.notes)
    again = load_problem(**json.loads(json.dumps(problem.source)))
    assert again.preprocessor == known
    back = preprocessor_from_json(json.loads(json.dumps(known.to_json())))
    np.testing.assert_array_equal(back.encode(text)["tokens"], known.encode(text)["tokens"])


@needs_tokenizers
def test_lines_of_byte_pairs(file):
    problem = load_problem(
        str(file("\n".join(f"name  number{i} \t" for i in range(200)))),
        line_by_line=True,
        tokenizer="bpe",
        vocab_size=290,
    )
    target = problem.test.target
    ends = [problem.preprocessor.text(row[row != -100]) for row in target]
    assert all(line.startswith("name  number") and line.count("\n") == 1 and line.endswith("\n") for line in ends)
    assert problem.preprocessor.tokenizer.lengths()[target[target != -100]].sum() == sum(map(len, ends))


@needs_tokenizers
def test_baselines_of_byte_pairs_count_characters(file):
    path = str(file(words(2000)))
    for lines in (False, True):
        plain, pairs = (load_problem(path, line_by_line=lines, tokenizer=name) for name in ("characters", "bpe"))
        count = len(texts(plain)[2]) - (not lines)
        windows = np.ones(7), np.full(7, count // 7)
        one, other = (text_baselines(p.preprocessor, p.train, p.test, *windows, []) for p in (plain, pairs))
        assert one == other and one["bigram"]["n"] == count // 7 * 7


@needs_tokenizers
def test_letters_of_bytes_are_those_of_the_package():
    import tokenizers

    assert sorted(byte_letters()) == sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    made = BPETokenizer.fit("é" * 50, 257)
    shown = [made.tokenizer.token_to_id(byte_letters()[byte]) for byte in "ß€".encode()]
    assert made.decode(np.array(shown)) == "ß€" and made.lengths()[shown].tolist() == [1, 0, 1, 0, 0]


def test_byte_pairs_without_the_package(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(
        OptionError, match=r"tokenizer: bpe needs the package tokenizers, .* pip install 'pellucid\[tokenizers\]'"
    ):
        load_problem(str(file(words())), tokenizer="bpe")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_the_same_text_in_many_encodings(file, encoding):
    text = "Grüße aus Köln – 5 € für Käse.\n" * 90
    problem = load_problem(str(file(text.replace("\n", "\r\n").encode(encoding))))
    assert "".join(texts(problem)) == text
    assert any("line ends of Windows" in note for note in problem.notes)
    assert any("is not UTF-8 (--read encoding=NAME)" in note for note in problem.notes) is ("utf-8" not in encoding)


def test_a_named_encoding(file):
    text = "жили-были дед да баба\n" * 90
    problem = load_problem(str(file(text.encode("cp1251"))), read="encoding=cp1251")
    assert "".join(texts(problem)) == text
    with pytest.raises(
        OptionError, match=r"--read delimiter=;: DATA is a text .*expected encoding alone; write --read encoding"
    ):
        load_problem(str(file(text)), read="delimiter=;")


def test_several_languages(file):
    text = "Grüße, 你好, こんにちは, привет, שלום, नमस्ते, 👋🏽\n" * 60
    assert "".join(texts(load_problem(str(file(text))))) == text


# ---- what is refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("content", "message"), [
    (b"", "play.txt: the file is empty"),
    (b"short\n" * 100, "play.txt: 600 characters; expected 1,000 at least"),
    (words().encode() + b"\0", r"play.txt, line \d+: a NUL byte; expected text"),
    (codecs.BOM_UTF8 + b"x" * 1200 + b"\n\xff", "play.txt, line 2: byte 0xff is not UTF-8 .*--read encoding=cp1252"),
    (b"\x89PNG\r\n\x1a\n" + b"x" * 1200, "play.txt: a picture; expected"),
    ("жили были ".encode("cp1251") * 200, "play.txt, line 1: .* in no Western alphabet; .*--read encoding=cp1251"),
    (gzip.compress(words(9000).encode())[:-20], "play.txt: the gzip data is cut off or damaged"),
])  # fmt: skip
def test_files_that_are_no_text(file, content, message):
    with pytest.raises(DataError, match=message):
        load_problem(str(file(content)))


@pytest.mark.parametrize(("content", "message"), [
    ("x" * 999 + "\n" + "y\n" * 18, "play: 19 lines that are not blank; expected 20 at least"),
    ("y\n" * 100 + "x" * 1001, r"play: a line of 1,001 characters \('x+'...\); expected at most 1,000"),
])  # fmt: skip
def test_lines_that_are_none(file, content, message):
    with pytest.raises(DataError, match=message):
        load_problem(str(file(content)), line_by_line=True)


@pytest.mark.parametrize(("options", "message"), [
    ({"tokenizer": "bpes"}, "tokenizer: 'bpes'; expected one of characters, bpe. Did you mean 'bpe'"),
    ({"vocab_size": 500}, "vocab_size: 500 for a text in characters"),
    ({"tokenizer": "bpe", "vocab_size": 256}, "vocab_size: 256; expected 257 up to 65536"),
    ({"line_by_line": True, "target": "income"}, "--target: .*play.txt holds text; expected a table with this option"),
])  # fmt: skip
def test_options_that_do_not_fit(file, options, message):
    with pytest.raises(OptionError, match=message):
        load_problem(str(file(words())), **options)


def test_options_of_texts_are_not_for_others():
    with pytest.raises(OptionError, match="--line-by-line: digits holds images"):
        load_problem("digits", line_by_line=True)
    with pytest.raises(
        OptionError, match="--tokenizer: housing holds a table of separate rows; expected a text with this option"
    ):
        load_problem("housing", tokenizer="bpe")


def test_a_text_may_be_called_anything(file):
    path = file(words(), "LICENSE")
    assert load_problem(str(path), tokenizer="characters").kind == "text"
    with pytest.raises(DataError, match=r"one column .* a .txt or .md file is learned from as text"):
        load_problem(str(file(b"First Citizen:\n" + b"Speak\nHear me\n" * 40, "play.txt")), target="1")


def test_read_text_and_parts_go_both_ways(file):
    text, notes = read_text(file("\ufeffa\r\nb\rc\n\ufeffd"))
    assert text == "a\nb\nc\nd"
    assert [note.split(": ", 2)[2] for note in notes] == [
        "2 line ends of Windows read as newlines",
        "2 byte-order marks dropped",
    ]
    for lines in (False, True):
        known = TextPreprocessor(CharacterTokenizer.fit("\nabc"), lines)
        assert decode_split(known, encode_split(known, "a\ncab\nbb\n")) == "a\ncab\nbb\n"


def test_text_module_by_itself(file):
    paths = [file(words(), "a"), file(words(), "b")]
    problem = text_module(Source("two", paths), last=0.25)
    n = 2 * len(words()) + 2
    assert [len(part) for part in parts(problem)] == [int(0.75 * n), n - int(0.75 * n), n - int(0.75 * n)]
    with pytest.raises(DataError, match="no such file"):
        text_module(Source("no", [file("x").parent / "no.txt"]))
