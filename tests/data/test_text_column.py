"""Columns of text: what is one, how it becomes buckets and weights, and a table whose only column is text as a classifier."""

from __future__ import annotations

import csv
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

from pellucid.data.load import load_problem
from pellucid.data.table.preprocess import TablePreprocessor
from pellucid.data.table.text_column import BUCKETS, Hasher, fit_text, is_text, words_of
from pellucid.inference.predictor import Predictor
from pellucid.runs.run import find_run
from pellucid.training import session

GOOD, BAD, OTHER = ("good", "lovely", "fine"), ("bad", "awful", "poor"), ("the", "hotel", "was", "really", "my", "stay")


def looks_like_text(values: list[str]) -> bool:
    return is_text(list(dict.fromkeys(values)), len(values))


def reviews(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """(text, label) pairs: the label is told by one word among eight."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        label = ("good", "bad")[random.integers(2)]
        words = list(random.choice(OTHER, 7))
        words.insert(random.integers(8), str(random.choice(GOOD if label == "good" else BAD)))
        rows.append((f"{' '.join(words).capitalize()} {random.integers(10**6)}.", label))
    return rows


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("review", "label"), *reviews(300)])
    return path


def test_a_table_of_text_alone_is_a_text_classifier(table: Path, tmp_path: Path) -> None:
    problem = load_problem(str(table), target="label")
    note = next(note for note in problem.notes if note.startswith("columns: review is text"))
    assert "--drop review" in note and len(note) <= 110
    run = session.start(problem, "mlp", {"epochs": 15, "batch_size": 32}, tmp_path / "run")
    for _ in run.events():
        pass
    result = run.finish()
    assert result.metrics["accuracy"] > 0.9
    assert result.baselines["tfidf_logistic_regression"]["accuracy"] > 0.9
    again = Predictor(find_run(str(tmp_path / "run")))
    new = tmp_path / "new.csv"
    new.write_text("review\nThe stay was lovely\nThe stay was awful\nxyzzy\n")
    predictions = again.predict([str(new)])
    assert [again.classes[k] for k in predictions.output.argmax(1)][:2] == ["good", "bad"]  # type: ignore[index]
    assert "1 of 3 rows hold no word that training knew, 'xyzzy' first" in again.unseen_values(predictions)[0]
    longest = max((problem.raw_example("test", i)["review"] for i in range(45)), key=len)
    assert len(longest) > 40


def test_the_report_shows_the_text_of_mistakes() -> None:
    from pellucid.report.error_analysis import Outcome, classification_sections

    text = "It was not " + "very " * 20 + "good, said my aunt"
    rows = [{**{f"n{k}": "1" for k in range(20)}, "review": text}, {"review": "fine"}]
    output, target = np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([1, 0])
    page = "".join(classification_sections(Outcome(output, target, ["a", "b"], "label", rows.__getitem__)))
    assert text in page


def test_what_is_text_and_what_names_rows() -> None:
    random = np.random.default_rng(0)
    ids = [str(uuid.UUID(bytes=random.bytes(16))) for _ in range(100)]
    hashes = [f"{random.bytes(4).hex()} {random.bytes(4).hex()} {random.bytes(4).hex()}" for _ in range(100)]
    paths = [f"/home/user/my_pictures/cat {i}.jpg" for i in range(100)]
    assert not any(
        map(
            looks_like_text,
            (ids, hashes, paths, [f"a{i}@b.org" for i in range(100)], [f"Ann Lee{i}" for i in range(100)]),
        )
    )
    assert looks_like_text([text for text, _ in reviews(100)])
    assert looks_like_text([f"这个酒店很好{chr(0x4E00 + i)}" for i in range(100)])
    assert looks_like_text([f"होटल बहुत अच्छा था {i}" for i in range(100)])
    assert not looks_like_text(["not at all good", "good", "very very good"] * 100)  # few answers: categories


def test_hashes_are_the_same_everywhere() -> None:
    code = "from pellucid.data.table.text_column import Hasher; print([a.tolist() for a in Hasher(1 << 14).counts('Great, great café!')])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=None).stdout
    own = [array.tolist() for array in Hasher(BUCKETS).counts("Great, great café!")]
    assert str(own) == other.strip()
    assert dict(zip(*own, strict=True))[14745] == 2  # the word comes twice; CRC-32 of "wgreat", as runs on disk have it
    assert (
        Hasher(BUCKETS).counts("GREAT, great cafe\u0301")[0].tolist() == own[0]
    )  # case, and the accent apart from its letter


def test_weights_are_tf_idf_of_unit_length_with_padding() -> None:
    column = np.array(["one two", "one three three", "one", None, "n/a"], object)
    notes: list[str] = []
    fitted = fit_text("t", column, np.arange(5), notes)
    assert fitted is not None and notes
    index, weights = fitted.encode(column)
    assert index.shape == weights.shape == (5, fitted.length)
    np.testing.assert_allclose((weights**2).sum(1), [1, 1, 1, 0, 0], rtol=1e-5)
    assert not weights[index == 0].any()
    words = {word: Hasher(BUCKETS).counts(word)[0][0] for word in ("one", "two", "three")}
    weight = lambda row, word: weights[row][index[row] == words[word]][0]
    idf = lambda documents: 1 + np.log(6 / (1 + documents))
    np.testing.assert_allclose(weight(0, "two") / weight(0, "one"), idf(1) / idf(3), rtol=1e-5)
    np.testing.assert_allclose(weight(1, "three") / weight(1, "one"), (1 + np.log(2)) * idf(1) / idf(3), rtol=1e-5)
    assert fit_text("t", np.array(["the very same"] * 30, object), np.arange(30), []) is None


def test_long_texts_are_cut_to_words_first_and_told() -> None:
    random = np.random.default_rng(0)
    words = [f"word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(400)]
    column = np.array([" ".join(random.permutation(words)) for _ in range(60)], object)
    notes: list[str] = []
    fitted = fit_text("t", column, np.arange(60), notes)
    assert fitted is not None and fitted.length == 512 and "the ends of 100% cut" in notes[0]
    own = set(fitted.encode(column[:1])[0][0].tolist())
    assert {Hasher(BUCKETS).counts(word)[0][0] for word in words} <= own


def test_saved_and_read_again_it_encodes_alike_and_older_runs_have_none(table: Path) -> None:
    preprocessor = load_problem(str(table), target="label").preprocessor
    assert isinstance(preprocessor, TablePreprocessor)
    json = preprocessor.to_json()
    again = TablePreprocessor.from_json(json)
    assert again.texts == preprocessor.texts and again.needed == ["review"]
    del json["texts"]
    assert TablePreprocessor.from_json(json).texts == []


def test_words_of_scripts() -> None:
    assert words_of("Don’t PANIC, Straße!") == ["don't", "panic", "strasse"]
    assert (
        words_of("我喜欢") == ["我", "喜", "欢"]
        and words_of("अच्छा है") == ["अच्छा", "है"]
        and words_of("so 😀😀") == ["so", "😀", "😀"]
    )
