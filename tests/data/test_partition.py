"""Scores that are true: copies and groups on one side, row numbers left out, columns that give the target named."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest

from pellucid.data.description_text import shell_word
from pellucid.data.kinds import KINDS
from pellucid.data.load import load_problem
from pellucid.data.problem import SPLITS
from pellucid.data.split import split_in_order, split_rows
from pellucid.data.table.duplicates import find_duplicates, joined
from pellucid.data.table.read import Table
from pellucid.errors import DataError, OptionError

RNG = np.random.default_rng(0)
STATE = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def seeded():
    """The same numbers in each test, whichever others run."""
    RNG.bit_generator.state = STATE


@pytest.fixture
def load(tmp_path):
    """load({"a": values, ..., "y": values}, **options)"""

    def make(columns, **options):
        rows = zip(*(map(str, values) for values in columns.values()), strict=True)
        path = tmp_path / "some.csv"
        path.write_text("\n".join([",".join(columns), *map(",".join, rows)]) + "\n")
        return load_problem(str(path), target="y", **options)

    return make


def normal(n, columns="abcd", digits=3):
    return {name: np.round(RNG.normal(size=n), digits) for name in columns}


def labels(n):
    return RNG.choice(["no", "yes"], n)


def twice(columns):
    return {name: np.concatenate([values, values]) for name, values in columns.items()}


def rows_of(problem, split, names):
    count = len(problem.examples(split))
    return {tuple(problem.raw_example(split, i)[name] for name in names) for i in range(count)}


def sides_share(problem, names):
    parts = [rows_of(problem, split, names) for split in SPLITS]
    return len(parts[2] & (parts[0] | parts[1])) + len(parts[1] & parts[0])


def found(*columns):
    texts = [np.array([str(v) for v in column], dtype=object) for column in columns]
    table = Table(Path("x"), [f"c{i}" for i in range(len(columns))], texts, True)
    return find_duplicates(table, range(len(columns) - 1), len(columns) - 1)


# ---- copies --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relabelled", [False, True])
def test_a_file_that_stands_twice_in_itself_is_not_tested_on_what_it_learned(load, relabelled):
    columns = twice({**normal(150), "y": labels(150)})
    if relabelled:
        columns["y"] = labels(300)
    problem = load(columns)
    assert sides_share(problem, "abcd") == 0
    note = next(note for note in problem.notes if note.startswith("rows: 150 of 300 repeat others"))
    assert note.endswith("kept on one side of the split; --split random") and ("another target" in note) == relabelled
    asked = load(columns, split="random")
    assert sides_share(asked, "abcd") > 20 and any("as --split random says" in note for note in asked.notes)


def test_copies_are_found_beside_a_row_number(load):
    problem = load({"id": np.arange(300), **twice({**normal(150), "y": labels(150)})})
    assert sides_share(problem, "abcd") == 0 and "id" not in problem.preprocessor.needed


def test_rows_that_differ_in_last_digits_are_copies(load):
    columns = twice({**normal(150), "y": labels(150)})
    for name in "abcd":
        columns[name] = np.concatenate(
            [columns[name][:150], np.round(columns[name][150:] + RNG.normal(size=150) * 1e-5, 6)]
        )
    problem = load(columns)
    assert any(note.startswith("rows: 150 of 300 differ from others in last digits") for note in problem.notes)
    parts = [{(round(float(r[0]), 2), round(float(r[1]), 2)) for r in rows_of(problem, s, "ab")} for s in SPLITS]
    assert len(parts[2] & parts[0]) <= 3  # those that rounding here makes equal


def test_repeats_that_coarse_columns_make_are_data(load):
    columns = {**{name: RNG.integers(0, 3, 500) for name in "abc"}, "y": labels(500)}
    problem = load(columns)
    assert [len(problem.examples(split)) for split in SPLITS] == [350, 75, 75]
    assert any("as coarse values do by chance; split at random" in note for note in problem.notes)
    assert sides_share(load(columns, split="together"), "abc") == 0


@pytest.mark.parametrize(
    ("columns", "coarse"),
    [
        ([RNG.integers(18, 80, 3000)], True),
        ([RNG.integers(0, 10, 2000) for _ in range(3)], True),
        ([np.tile(RNG.integers(0, 10, 150), 2) for _ in range(3)], False),
        ([np.tile(np.round(RNG.normal(size=150), 3), 2)], False),
    ],
)
def test_copies_are_told_from_chance(columns, coarse):
    target = np.tile(RNG.integers(0, 2, len(columns[0]) // 2), 2)
    result = found(*columns, target)
    assert result.repeats and result.coarse == coarse


def test_a_few_copies_among_many_rows():
    again = RNG.integers(0, 1000, 50)
    columns = [np.concatenate([c, c[again]]) for c in normal(1000).values()]
    result = found(*columns, RNG.integers(0, 2, 1050))
    assert (result.repeats, result.coarse) == (50, False)


def test_neighbours_are_no_copies():
    x = RNG.normal(size=1000)
    for columns in ([x, x**2, np.sin(x)], list(normal(1000, digits=9).values()), [x]):
        assert found(*columns, RNG.integers(0, 2, 1000)).units is None


def half_copied(how):
    """150 rows, and how each of them stands in the file once more."""
    columns = {**normal(150), "y": labels(150)}
    again = {name: how(values) if name != "y" else values for name, values in columns.items()}
    return {name: np.concatenate([values, again[name]]) for name, values in columns.items()}


def copies_apart(problem, count=150):
    """How many rows of the test part have their copy in another part; row i + count is the copy of row i."""
    parts = [{int(row[0]) for row in rows_of(problem, split, ["row"])} for split in SPLITS]
    return sum((row + count) % (2 * count) not in parts[2] for row in parts[2])


@pytest.mark.parametrize(
    "how",
    [
        lambda v: np.round(v + RNG.normal(size=150) * 0.01 * (v.max() - v.min()), 4),
        lambda v: np.round(v + RNG.normal(size=150) * 0.01, 4),
        lambda v: np.round(v, 1),
        lambda v: np.round(np.round(v, 2) * 1.001, 6),
    ],
    ids=["jitter of the range", "jitter", "rounded", "scaled"],
)
def test_near_copies_are_on_one_side(load, how):
    columns = {**half_copied(how), "row": np.concatenate([np.arange(150), np.arange(150) + 150])}
    problem = load(columns)
    assert copies_apart(problem) <= 3
    note = next(note for note in problem.notes if note.startswith("rows: "))
    assert int(note.split()[1]) >= 140 and note.endswith("kept on one side of the split; --split random")


@pytest.mark.parametrize(
    "hides", [RNG.normal(size=300).round(4), RNG.choice(10**6, 300), RNG.permutation(300) * 7 % 1000]
)
@pytest.mark.parametrize("names", ["ab", "abcd"])
def test_copies_are_found_though_one_column_differs(load, hides, names):
    columns = {**twice({**normal(150, names), "y": labels(150)}), "hides": hides}
    problem = load(columns)
    assert sides_share(problem, names) == 0
    assert (
        "rows: 150 of 300 repeat others but for hides, kept on one side of the split; --split random" in problem.notes
    )


def test_copies_of_text_are_found_though_one_column_differs(load):
    words = {name: RNG.choice(list("abcdefghijkl"), 150) for name in "abcd"}
    problem = load({**twice({**words, "y": labels(150)}), "hides": RNG.normal(size=300).round(4)})
    assert sides_share(problem, "abcd") == 0


def test_near_copies_of_many_rows_are_found_block_by_block():
    columns = [np.concatenate([c, c + RNG.normal(size=3000) * 0.01]).round(4) for c in normal(3000).values()]
    result = found(*columns, RNG.integers(0, 2, 6000))
    assert result.near and 2800 <= result.repeats <= 3000


def of_categories(categories, numbers, values=3, n=600):
    return [*(RNG.integers(0, values, n) for _ in range(categories)), *RNG.normal(size=(numbers, n)).round(5)]


@pytest.mark.parametrize(
    "columns",
    [
        *[of_categories(c, n, values) for c in (1, 3) for n in (1, 2) for values in (3, 10)],
        *[RNG.normal(size=(d, n)).round(5) for d in (2, 4, 12) for n in (40, 400, 5000)],
        RNG.normal(size=(4, 600)).cumsum(axis=1).round(3),
        np.exp(2 * RNG.normal(size=(4, 600))).round(4),
        [RNG.normal(size=40)[np.repeat(np.arange(40), 10)] + RNG.normal(size=400) * 0.1 for _ in range(3)],
        [*np.indices((10, 10, 10)).reshape(3, -1), RNG.normal(size=1000)],
    ],
)
def test_chance_makes_no_near_copies(columns):
    result = found(*columns, RNG.integers(0, 2, len(columns[0])))
    assert not (result.near or result.but_for or result.last_digits) and (result.coarse or not result.repeats)


def test_equal_numbers_are_equal_however_written():
    a = RNG.normal(size=30).round(2)
    texts = [f"{v:.2f}" for v in a] + [f"{v:.4f}" for v in a]
    assert found(texts, np.tile(RNG.normal(size=30), 2), range(60)).repeats == 30


def test_a_clean_files_split_is_that_of_its_rows(load):
    columns = {**normal(200), "y": labels(200)}
    problem = load(columns)
    rows = split_rows(columns["y"], "classification", 0)[2]
    assert [problem.raw_example("test", i)["a"] for i in range(30)] == [str(columns["a"][i]) for i in rows]
    assert not [note for note in problem.notes if note.split(":")[0] in ("rows", "leak") or "left out" in note]


def test_rows_of_the_test_table_that_training_has_are_told(load, tmp_path):
    columns = {**normal(100), "y": labels(100)}
    load(columns)
    lines = (tmp_path / "some.csv").read_text().splitlines()
    (tmp_path / "test.csv").write_text("\n".join(lines[:31]) + "\n")
    problem = load(columns, test_data=str(tmp_path / "test.csv"))
    assert any(note.startswith("rows: 30 of 30 of test.csv stand in some.csv too") for note in problem.notes)


# ---- groups and time -----------------------------------------------------------------------------------------------------


def patients():
    of = np.repeat(np.arange(40), 10)
    columns = {name: np.round(RNG.normal(size=40)[of] + RNG.normal(size=400) * 0.1, 3) for name in "abc"}
    return {"patient": [f"P{i}" for i in of], **columns, "y": labels(40)[of]}


def test_groups_stay_on_one_side_and_are_not_learned_from(load):
    columns = patients()
    problem = load(columns, group="patient")
    assert sides_share(problem, ["patient"]) == 0 and problem.preprocessor.needed == ["a", "b", "c"]
    assert [len(problem.examples(split)) for split in SPLITS] == [280, 60, 60]
    assert "split: 70/15/15 by class, whole groups of patient (28/6/6)" in problem.notes
    assert "patient" in load(columns, group="patient", keep=["patient"]).preprocessor.needed
    again = load_problem(**problem.source)
    assert rows_of(again, "test", ["a"]) == rows_of(problem, "test", ["a"])


def test_a_column_that_looks_like_a_group_is_named(load):
    notes = load(patients()).notes
    assert any(
        note.startswith("split: many rows share a patient") and note.endswith("--group patient") for note in notes
    )
    columns = patients()
    columns["who"] = [int(name[1:]) * 7 + 1000 for name in columns.pop("patient")]
    assert any("share a who" in note for note in load(columns).notes)
    assert not any(
        "--group" in note for note in load({**normal(400), "n": RNG.integers(0, 30, 400), "y": labels(400)}).notes
    )


def test_the_last_rows_by_time_are_the_test(load):
    days = RNG.permutation(200)
    columns = {"day": np.datetime64("2020-01-01") + days, "n": days, **normal(200), "y": RNG.normal(size=200)}
    for column in ("day", "n"):
        problem = load(columns, split=f"time:{column}")
        test = sorted(int(row[0]) for row in rows_of(problem, "test", ["n"]))
        assert test == list(range(170, 200)) and f"split: 70/15/15 in the order of {column}" in problem.notes


def test_rows_of_one_moment_stay_together():
    parts = split_in_order(np.arange(100) // 30)
    assert [len(part) for part in parts] == [60, 30, 10]
    with pytest.raises(DataError, match="2 different times"):
        split_in_order(np.arange(100) // 50)


@pytest.mark.parametrize("groups", [3, 5, 40])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_every_part_has_groups_and_every_class_is_trained_on(groups, task):
    units = RNG.integers(0, groups, 300)
    target = RNG.integers(0, 3, 300)
    parts = split_rows(target, task, 0, units=units)
    assert sorted(np.concatenate(parts).tolist()) == list(range(300)) and all(map(len, parts))
    assert sum(len(np.unique(units[part])) for part in parts) == len(np.unique(units))
    assert len(np.unique(target[parts[0]])) == 3


def test_joined():
    assert len(np.unique(joined(np.array([0, 0, 1, 2, 3]), np.array([0, 1, 1, 2, 3])))) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"group": "y"}, "--group y: it is the target"),
        ({"group": "nobody"}, "--group nobody: .* no such column"),
        ({"group": "two"}, "--group two: 2 groups; expected 3"),
        ({"split": "times:a"}, "--split times:a: no such way; expected auto, together, random"),
        ({"split": "time:nil"}, "--split time: nil: .* no such column"),
        ({"split": "time:word"}, "word is 'abc'; expected numbers, or dates as 2024-03-01"),
        ({"split": "time:a", "group": "two"}, "--group is given too"),
        ({"keep": ["a"], "drop": ["a"]}, "--keep a: it is left out by --drop"),
    ],
)
def test_refused(load, options, words):
    columns = {**normal(60), "two": np.arange(60) % 2, "word": ["abc"] * 60, "y": labels(60)}
    with pytest.raises((OptionError, DataError), match=words):
        load(columns, **options)


# ---- names of rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("", np.arange(200)),
        ("Unnamed: 0", np.arange(200)),
        ("PassengerId", np.arange(1, 201)),
        ("customer_id", RNG.permutation(200) + 1),
        ("accountId", RNG.choice(10**7, 200, replace=False)),
        ("q", RNG.permutation(200)),
        ("ref", [str(uuid.UUID(int=int(i))) for i in RNG.integers(1 << 60, size=200)]),
        ("digest", [f"{i:016x}a" for i in RNG.integers(1 << 60, size=200)]),
        ("sku", [f"AB-{i:06d}" for i in RNG.choice(10**6, 200, replace=False)]),
        ("mail", [f"u{i}@mail.org" for i in range(200)]),
    ],
)
def test_what_names_rows_is_left_out_unless_kept(load, name, values):
    columns = {name: values, **normal(200, "ab"), "y": np.sort(labels(200))}
    problem = load(columns)
    shown = name or "column1"
    assert problem.preprocessor.needed == ["a", "b"]
    assert any(
        note.startswith(f"columns: {shown} holds ") and note.endswith(f"--keep {shell_word(shown)}")
        for note in problem.notes
    )
    kept = load(columns, keep=[shown])
    assert not any(note.startswith(f"columns: {shown} holds ") for note in kept.notes)
    if not isinstance(values, list):
        assert shown in kept.preprocessor.needed


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("price", RNG.choice(10**6, 200, replace=False)),
        ("a_size", np.arange(1, 201)),
        ("year", np.arange(1800, 2000)),
        ("income", RNG.choice(np.arange(1000, 90000), 200, replace=False)),
        ("store_id", RNG.integers(0, 20, 200)),
        ("id_score", np.round(RNG.normal(size=200), 4)),
    ],
)
def test_numbers_that_merely_differ_are_learned_from(load, name, values):
    assert name in load({name: values, **normal(200, "ab"), "y": labels(200)}).preprocessor.needed


def test_the_only_column_is_learned_from(load):
    assert load({"id": np.arange(100), "y": np.sin(np.arange(100) / 9)}).preprocessor.needed == ["id"]


# ---- leaks ---------------------------------------------------------------------------------------------------------------


def leak_notes(problem):
    return [note for note in problem.notes if note.startswith("leak:")]


def test_columns_that_give_the_target_are_named_with_the_score_without_them(load):
    base = normal(400)
    y = np.where(base["a"] + RNG.normal(size=400) > 0, "yes", "no")
    kind = np.where(y == "yes", RNG.choice(["gold", "tin"], 400), "")  # known only afterwards
    for leak in (y, np.where(y == "yes", 1, 0), np.where(y == "yes", 7.5, -2), kind):
        (note,) = leak_notes(load({**base, "leak": leak, "y": y}))
        assert note.startswith("leak: leak alone tells the target (100% right); without it, a linear model: ")
        assert note.endswith("--drop leak")
    assert not leak_notes(load({**base, "leak": y, "y": y}, drop=["leak"]))
    assert not leak_notes(load({**base, "y": y}))


def test_functions_of_a_number_are_leaks(load):
    base = normal(400)
    y = np.round(base["a"] * 10 + RNG.normal(size=400) * 5 + 200, 2)
    notes = leak_notes(load({**base, "euro": np.round(y * 1.17, 2), "log": np.round(np.log(y), 5), "y": y}))
    assert [note.split()[1] for note in notes] == ["euro", "log"] and all("without these" in note for note in notes)


def test_a_leak_with_gaps_is_named_where_it_has_a_value(load):
    base, y = normal(400), labels(400)
    leak = np.where(RNG.random(400) < 0.4, "", y)
    assert ["where it has a value" in note for note in leak_notes(load({**base, "leak": leak, "y": y}))] == [True]


def test_copies_make_no_leaks(load):
    assert not leak_notes(load(twice({**normal(150, digits=6), "y": labels(150)})))


# ---- few rows of a class -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "told"), [(12, True), (60, False)])
def test_a_class_that_stands_in_few_test_rows_is_told(load, count, told):
    y = RNG.permutation(np.where(np.arange(600) < count, "yes", "no"))
    notes = [note for note in load({**normal(600), "y": y}).notes if note.startswith("labels: yes stands in ")]
    assert len(notes) == told
    assert not told or notes[0].startswith("labels: yes stands in 2 of 90 validation and 2 of 90 test rows, too few")


# ---- runs of earlier versions --------------------------------------------------------------------------------------------


def test_a_run_from_before_is_loaded_as_it_was_split(load):
    columns = {"id": RNG.permutation(300) + 1, **twice({**normal(150), "y": labels(150)})}
    old = load(columns, split="random", keep=["id"])
    source = {name: value for name, value in old.source.items() if name not in ("split", "keep")}
    again = load_problem(**KINDS["table"].earlier_source(source, old.preprocessor.to_json()))
    assert again.preprocessor.to_json() == old.preprocessor.to_json()
    assert rows_of(again, "test", "abcd") == rows_of(old, "test", "abcd")
