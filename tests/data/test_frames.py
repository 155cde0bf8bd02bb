"""`problem_from`: data in memory give the module that the same data in a CSV file give."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from pellucid.data import problem_from
from pellucid.data.load import load_problem
from pellucid.errors import DataError, OptionError

N = 60
START = datetime.datetime(2021, 3, 15)
COLUMNS = {
    "size": [round(0.1 * (i % 13), 1) if i % 7 else None for i in range(N)],
    "rooms": [i % 5 for i in range(N)],
    "town": [["Rome", "Köln, Süd", 'the "Hague"'][i % 3] if i % 11 else None for i in range(N)],
    "ok": [i % 2 == 0 for i in range(N)],
    "day": [START + datetime.timedelta(days=i) for i in range(N)],
}
TARGET = ["yes" if i % 4 else "no" for i in range(N)]


def pandas_frame(columns):
    frame = pytest.importorskip("pandas").DataFrame(columns)
    return frame.set_index(frame.index[::-1])  # an index is no column, and does not align


def polars_frame(columns):
    return pytest.importorskip("polars").DataFrame(columns)


def arrow_frame(columns):
    return pytest.importorskip("pyarrow").table(columns)


FRAMES = [pandas_frame, polars_frame, arrow_frame, dict, lambda columns: [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]]  # fmt: skip


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("frames") / "data.csv"
    quoted = {name: [_csv(value) for value in values] for name, values in {**COLUMNS, "label": TARGET}.items()}
    rows = [",".join(row) for row in zip(*quoted.values(), strict=True)]
    path.write_text("\n".join([",".join(quoted), *rows]), encoding="utf-8")
    return load_problem(str(path), target="label")


def _csv(value):
    if value is None:
        return ""
    text = str(value).removesuffix(" 00:00:00")
    return '"' + text.replace('"', '""') + '"' if isinstance(value, str) else text


def assert_same(data, other):
    assert data.preprocessor.to_json() == other.preprocessor.to_json()
    for split in ("train", "validation", "test"):
        own, its = data.examples(split), other.examples(split)
        assert own.inputs.keys() == its.inputs.keys() and np.array_equal(own.target, its.target)
        assert all(np.array_equal(own.inputs[name], its.inputs[name]) for name in own.inputs)
        assert data.raw_example(split, 0) == other.raw_example(split, 0)


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_is_read_as_its_csv(frame, expected):
    assert_same(problem_from(frame({**COLUMNS, "label": TARGET}), "label"), expected)
    assert_same(problem_from(frame({**COLUMNS, "label": TARGET}), target=-1), expected)


@pytest.mark.parametrize("frame", FRAMES[:-1])
def test_a_target_beside(frame, expected):
    y = frame({"label": TARGET})
    assert_same(problem_from(frame(COLUMNS), y), expected)
    if hasattr(y, "to_arrow") or hasattr(y, "loc"):
        assert_same(problem_from(frame(COLUMNS), y["label"]), expected)
    assert problem_from(frame(COLUMNS), TARGET).preprocessor.target_name == "target"
    assert problem_from(frame(COLUMNS), np.array(TARGET)).preprocessor.classes == ["no", "yes"]


def test_arrays_and_rows(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(N, 3)), np.arange(N) % 3
    path = tmp_path / "data.csv"
    path.write_text(
        "".join(",".join(map(str, [*row, label])) + "\n" for row, label in zip(x.tolist(), y.tolist(), strict=True))
    )
    other = load_problem(str(path), target=-1)
    for own in (x, x.tolist(), [tuple(row) for row in x.tolist()]):
        assert_same(problem_from(own, y), other)
    assert_same(problem_from(np.column_stack([x, y.astype(float)]), target=4), problem_from(x, y.astype(float)))
    thirds = problem_from(x.astype(np.float32), y)
    assert thirds.raw_example("train", 0)["column1"] == str(np.float32(thirds.raw_example("train", 0)["column1"]))
    assert problem_from(x[:, 0], y).preprocessor.names == ["column1", "column2"]


def test_text_that_looks_like_comments_or_titles_is_data():
    data = problem_from({"tag": ["#a", "#b"] * 30, "x": list(range(N))}, TARGET)
    assert sum(map(len, (data.train, data.validation, data.test))) == N and not any("file:" in n for n in data.notes)


def test_nested_columns_are_left_out():
    data = problem_from([{"x": i, "at": {"city": "uv"[i % 2]}, "tags": [1]} for i in range(N)], TARGET)
    assert data.preprocessor.names == ["x", "at.city", "target"]
    assert data.notes[0].startswith("columns: tags holds lists or records, left out")
    frame = polars_frame({"x": list(range(N)), "tags": [[1]] * N})
    assert problem_from(frame, TARGET).preprocessor.names == ["x", "target"]


def test_new_files_are_read_by_their_own_signs():
    data = problem_from(COLUMNS, TARGET, read="dates=dayfirst", name="houses")
    assert str(data.preprocessor.read_options) == "dates=dayfirst" and data.name == "houses"
    assert data.source == {"spec": "houses", "seed": 0}


def test_a_series():
    frame = {
        "day": [f"2021-{1 + i // 28:02}-{1 + i % 28:02}" for i in range(200)],
        "y": [float(i % 9) for i in range(200)],
    }
    assert problem_from(frame, "y", time_column="day", lookback=5).kind == "series"


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([[1, 2]] * 5, [1] * 4, "y has 4 values and X 5 rows"),
        ({"a": [1, 2], "b": [1]}, None, "columns of lengths {'a': 2, 'b': 1}"),
        ([[1, 2], [3]], [1, 2], "row 1 has 1 values; expected 2"),
        (np.zeros((2, 2, 2)), [1, 2], r"shape \(2, 2, 2\); expected \(N, F\)"),
        (3, None, "a int; expected a DataFrame"),
        ("people.csv", "y", "a str; expected a DataFrame"),
        ([], None, "no rows"),
        ({"a": list(range(60))}, np.zeros((60, 2)), "y has 2 columns; expected one"),
        ({"target": list(range(60))}, [1] * 60, "y is called 'target', as is a column of X"),
        ({"a": [1, 2, 3], "b": [1, 2, 3]}, "c", "data has no such column"),
        ({"a": [1, 2, 3], "b": [1, 2, 3]}, "b", "^data: 3 rows with a target"),
    ],
)
def test_refused(x, y, words):
    with pytest.raises((DataError, OptionError), match=words):
        problem_from(x, y)
