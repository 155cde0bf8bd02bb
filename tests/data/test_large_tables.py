"""Large tables: decided on rows drawn at random, encoded in batches; tables of 3,000 rows are made large by lower limits."""

import csv
import gzip
import zipfile

import duckdb
import numpy as np
import pytest

from pellucid.data.load import load_problem
from pellucid.data.problem import SPLITS
from pellucid.data.table import in_batches, large
from pellucid.data.table.large import open_large
from pellucid.errors import DataError, OptionError
from pellucid.training import session

ROWS = 3000


def columns(seed=0, rows=ROWS):
    """Numbers with gaps, dates, categories, a group, a weight, a time, and the class and the number that they give."""
    rng = np.random.default_rng(seed)
    width = rng.normal(5, 2, rows).round(3)
    colour = rng.choice(["red", "green", "blue"], rows)
    day = np.datetime64("2020-01-01") + rng.integers(0, 900, rows)
    kind = np.where(width + (colour == "red") + rng.normal(0, 0.5, rows) > 5, "yes", "no")
    return {
        "width": [f"{x}" if x > 2 else "" for x in width], "price": [f"$ {x:,.2f}" for x in rng.exponential(900, rows)],
        "colour": colour.tolist(), "day": day.astype(str).tolist(), "site": [f"s{i}" for i in rng.integers(0, 300, rows)],
        "moment": rng.permutation(rows).tolist(), "count": rng.integers(1, 5, rows).tolist(),
        "length": (2 * width + rng.normal(0, 1, rows)).round(3).tolist(), "kind": kind.tolist(),
    }  # fmt: skip


def as_csv(path, table):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return path


@pytest.fixture
def shrink(monkeypatch):
    """shrink(drawn): from now on every table is large, `drawn` of its rows are drawn, and batches have some hundred rows."""

    def shrink(drawn=ROWS):
        monkeypatch.setattr(large, "LARGE_BYTES", 100)
        monkeypatch.setattr(large, "LARGE_CELLS", 100)
        monkeypatch.setattr(large, "BATCH_CELLS", 7001)
        monkeypatch.setattr(large, "DRAWN", drawn)

    return shrink


def assert_same_examples(one, other):
    for split in SPLITS:
        x, y = one.examples(split), other.examples(split)
        assert x.inputs.keys() == y.inputs.keys()
        for name in x.inputs:
            assert x.inputs[name].dtype == y.inputs[name].dtype
            np.testing.assert_array_equal(x.inputs[name], y.inputs[name])
        np.testing.assert_array_equal(x.target, y.target)
        if x.weight is not None:
            np.testing.assert_allclose(x.weight, y.weight, rtol=1e-6)
        assert one.raw_example(split, 7) == other.raw_example(split, 7)


@pytest.mark.parametrize("options", [
    {"target": "kind"}, {"target": "length"}, {"target": "count", "task": "counts"}, {"target": "kind", "group": "site"},
    {"target": "kind", "split": "time:moment"}, {"target": "kind", "split": "random"},
    {"target": "length", "row_weight": "count"}, {"target": "kind", "drop": ["price"], "read": "exact=site"},
])  # fmt: skip
def test_a_large_table_all_of_which_is_drawn_is_split_and_encoded_as_a_small_one(tmp_path, shrink, options):
    path = as_csv(tmp_path / "people.csv", columns())
    small = load_problem(str(path), **options)
    shrink()
    found = load_problem(str(path), **options)
    assert "rows: 3,000; what is decided is decided on 3,000 drawn at random" in found.notes
    assert_same_examples(small, found)
    assert found.preprocessor.to_json() == small.preprocessor.to_json()


@pytest.mark.parametrize("kind", ["parquet", "one group", "zip of parquet", "csv.gz", "zip", "cp1252", "crlf"])
def test_other_files_are_read_in_batches_as_csv_is(tmp_path, shrink, monkeypatch, kind):
    table = columns()
    table["colour"] = ["r\u00f6t" if x == "red" else x for x in table["colour"]]
    path = as_csv(tmp_path / "people.csv", table)
    text = path.read_bytes()
    if kind in ("parquet", "one group", "zip of parquet"):
        path = tmp_path / "people.parquet"
        duckdb.sql(f"COPY (SELECT * FROM read_csv('{tmp_path}/people.csv', all_varchar = true)) TO '{path}'")
        if kind == "one group":
            monkeypatch.setattr(large, "LARGEST_GROUP", 1000)
        if kind == "zip of parquet":
            path = tmp_path / "people.zip"
            with zipfile.ZipFile(path, "w") as archive:
                archive.write(tmp_path / "people.parquet", "people.parquet")
    elif kind == "csv.gz":
        path = tmp_path / "people.csv.gz"
        path.write_bytes(gzip.compress(text))
    elif kind == "zip":
        path = tmp_path / "people.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("people.csv", text)
    elif kind == "cp1252":
        path.write_bytes(text.decode().encode("cp1252"))
    else:
        path.write_bytes(text if b"\r\n" in text else text.replace(b"\n", b"\r\n"))
    small = load_problem(str(path), target="kind")
    shrink()
    assert open_large(path) is not None
    assert_same_examples(small, load_problem(str(path), target="kind"))


def test_copies_of_rows_drawn_and_of_others_stay_on_one_side(tmp_path, shrink):
    table = {name: 2 * cells for name, cells in columns(rows=ROWS // 2).items()}
    path = as_csv(tmp_path / "people.csv", table)
    shrink(400)
    found = load_problem(str(path), target="kind", drop=["moment"])
    where = {}
    for split in SPLITS:
        for row in np.concatenate([found.examples(split).inputs[n] for n in ("numbers", "categories")], axis=1):
            where.setdefault(row.tobytes(), set()).add(split)
    assert max(map(len, where.values())) == 1
    assert any(note.startswith("rows: 1,500 of 3,000 repeat others") for note in found.notes)
    sizes = [len(found.examples(split)) for split in SPLITS]
    assert sum(sizes) == ROWS and abs(sizes[0] - 2100) < 150 and abs(sizes[2] - 450) < 120


@pytest.mark.parametrize("options", [{"group": "site"}, {"split": "time:moment"}])
def test_groups_and_times_hold_for_rows_not_drawn(tmp_path, shrink, options):
    path = as_csv(tmp_path / "people.csv", columns())
    shrink(300)
    found = load_problem(str(path), target="kind", **options)
    values = {s: [found.raw_example(s, i) for i in range(0, len(found.examples(s)), 9)] for s in SPLITS}
    if "group" in options:
        sites = [{row["site"] for row in rows} for rows in values.values()]
        assert not sites[0] & sites[1] and not sites[0] & sites[2] and not sites[1] & sites[2]
    else:
        moments = [[int(row["moment"]) for row in rows] for rows in values.values()]
        assert max(moments[0]) < min(moments[1]) and max(moments[1]) < min(moments[2])


def test_the_same_seed_gives_the_same_parts_and_raw_examples_are_those_encoded(tmp_path, shrink):
    path = as_csv(tmp_path / "people.csv", columns())
    shrink(500)
    one, other = (load_problem(str(path), target="kind", seed=3) for _ in range(2))
    assert_same_examples(one, other)
    test = one.examples("test")
    rows = [one.raw_example("test", i) for i in range(0, len(test), 40)]
    assert [row["kind"] for row in rows] == [one.preprocessor.classes[k] for k in test.target[::40]]


def test_a_class_that_comes_once_is_drawn(tmp_path, shrink):
    table = columns()
    table["kind"][1234] = "perhaps"
    path = as_csv(tmp_path / "people.csv", table)
    shrink(300)
    assert load_problem(str(path), target="kind").preprocessor.classes == ["no", "perhaps", "yes"]


def test_text_among_numbers_not_drawn_is_counted_and_much_of_it_refused(tmp_path, shrink):
    table = columns()
    rows = [i for i in range(ROWS) if i % 250 == 7]
    for i in rows:
        table["width"][i] = "broad"
    path = as_csv(tmp_path / "people.csv", table)
    shrink(100)
    drawn = open_large(path).drawn(0, 8).columns[0].tolist()
    assert "broad" not in drawn
    found = load_problem(str(path), target="kind")
    assert any(note.startswith("numbers: width: 'broad' and the like in 12 rows not drawn") for note in found.notes)
    assert found.preprocessor.numbers[0].strays
    known = set(open_large(path).drawn(0, 8).rows.tolist())
    first = next(i for i in range(ROWS) if i not in known)
    table["width"] = [x if i in known else "broad" for i, x in enumerate(table["width"])]
    with pytest.raises(DataError, match=f"people.csv, line {first + 2}, column width: 'broad' .*--drop width"):
        load_problem(str(as_csv(path, table)), target="kind")


def test_rows_without_a_target_are_left_out_and_counted(tmp_path, shrink):
    table = columns()
    table["kind"][2000] = table["kind"][10] = ""
    path = as_csv(tmp_path / "people.csv", table)
    shrink(300)
    found = load_problem(str(path), target="kind")
    assert sum(len(found.examples(s)) for s in SPLITS) == ROWS - 2
    assert "rows: left out, without a value of kind: 2 of 3,000" in found.notes


def test_numbers_of_rows_are_recognised_among_rows_drawn(tmp_path, shrink):
    table = {"": list(range(ROWS)), **columns(), "record": np.random.default_rng(1).permutation(ROWS).tolist()}
    path = as_csv(tmp_path / "people.csv", table)
    shrink(300)
    found = load_problem(str(path), target="kind", drop=["moment"])
    left = [note for note in found.notes if note.startswith("columns") and " holds " in note]
    assert len(left) == 2 and any("record" in note for note in left)


def test_what_does_not_fit_into_memory_is_refused_with_what_would(tmp_path, shrink, monkeypatch):
    path = as_csv(tmp_path / "people.csv", columns())
    shrink(300)
    monkeypatch.setattr(in_batches, "available_memory", lambda: in_batches.BESIDES + 250_000)
    with pytest.raises(DataError, match=r"people.csv: 3,000 rows take .* free; .*about [\d,]+ rows would"):
        load_problem(str(path), target="kind")


def test_a_ragged_large_text_is_refused_with_its_line(tmp_path, shrink):
    path = as_csv(tmp_path / "people.csv", columns())
    with open(path, "a") as file:
        file.write("1,2\n")
    shrink(300)
    with pytest.raises(DataError, match="line 3002: 2 fields; expected 9"):
        load_problem(str(path), target="kind")


def test_the_copy_of_a_text_is_removed(tmp_path, shrink):
    shrink(300)
    found = open_large(as_csv(tmp_path / "people.csv", columns()))
    folder = found.file.parent
    assert folder.exists() and found.take(np.array([5])).where(0).endswith("people.csv, line 7")
    del found
    assert not folder.exists()


def test_a_target_that_is_not_there_is_told_before_rows_are_drawn(tmp_path, shrink):
    shrink(300)
    with pytest.raises(OptionError, match="--target sort: .*no such column"):
        load_problem(str(as_csv(tmp_path / "people.csv", columns())), target="sort")


def test_columns_of_text_are_left_to_the_network(tmp_path, shrink, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    words = np.array(["the", "film", "was", "good", "bad", "dull", "fine", "long", "short", "very", "so", "and"])
    table = {**columns(), "review": [" ".join(rng.choice(words, 12)) for _ in range(ROWS)]}
    table["kind"] = ["yes" if text.count("good") > text.count("bad") else "no" for text in table["review"]]
    path = as_csv(tmp_path / "people.csv", table)
    shrink(600)
    problem = load_problem(str(path), target="kind")
    assert [column.name for column in problem.preprocessor.texts] == ["review"]
    training = session.start(problem, "mlp", {"epochs": 1}, tmp_path / "run")
    for _ in training.events():
        pass
    result = training.finish()
    assert "baseline: columns of text are left to the network, as the table is large" in problem.notes
    assert "logistic_regression" in result.baselines and "tfidf_logistic_regression" not in result.baselines
