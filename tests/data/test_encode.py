"""Encoding: what columns become, with the numbers done over by hand; what is decided, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pellucid.data.kinds import preprocessor_from_json
from pellucid.data.table.infer import decide_task, fit
from pellucid.data.table.preprocess import (
    CategoryColumn,
    fit_category,
    fit_number,
    label_text,
)
from pellucid.data.table.read import read_table
from pellucid.errors import DataError, OptionError, StateError


@pytest.fixture
def table(tmp_path):
    def make(content, **options):
        path = tmp_path / "people.csv"
        path.write_text(content, encoding="utf-8")
        return read_table(path, **options)

    return make


def fitted(table, target, task="classification", drop=(), rows=None):
    rows = np.arange(len(table)) if rows is None else rows
    return fit(table, rows, table.position(target), task, [table.position(c) for c in drop], None)


# ---- numbers -------------------------------------------------------------------------------------------------------------


def test_standard_scale_has_mean_0_and_deviation_1():
    values = np.arange(1.0, 101.0)
    column = fit_number("a", values)
    (scaled,) = column.encode(values)
    assert column.scale == "standard"
    np.testing.assert_allclose([scaled.mean(), scaled.std()], [0, 1], atol=1e-12)
    np.testing.assert_allclose(column.encode(np.array([150.0]))[0], (150 - 50.5) / values.std())  # on, beyond the knots


def test_skewed_numbers_are_scaled_by_quantiles_to_a_normal():
    values = np.exp(np.random.default_rng(0).normal(size=4000) * 2)
    column = fit_number("income", values)
    (scaled,) = column.encode(values)
    assert column.scale == "quantile"
    assert abs(scaled.mean()) < 0.01 and abs(scaled.std() - 1) < 0.01
    np.testing.assert_array_equal(np.argsort(values), np.argsort(scaled, kind="stable"))  # the order is kept
    ends = column.encode(np.array([-1e9, 1e9]))[0]
    assert ends[0] == scaled.min() and ends[1] == scaled.max()


def test_a_value_of_many_ranks_stands_in_their_middle():
    values = np.concatenate([np.zeros(900), np.arange(1.0, 101.0) ** 2])
    scaled = fit_number("gain", values).encode(np.array([0.0]))[0]
    np.testing.assert_allclose(scaled, [-0.12566], atol=1e-4)  # the normal quantile of 0.45


def test_gaps_become_the_median_and_a_mark():
    values = np.array([1.0, np.nan, 3.0, 5.0, np.nan])
    column = fit_number("a", values)
    scaled, marks = column.encode(values)
    np.testing.assert_array_equal(marks, [0, 1, 0, 0, 1])
    assert scaled[1] == scaled[4] == column.encode(np.array([3.0]))[0][0]
    assert len(fit_number("a", values[~np.isnan(values)]).encode(values)) == 1  # no mark where training had no gaps


def test_bins_are_quantiles_of_the_scaled_training_values():
    values = np.random.default_rng(1).normal(size=3200)
    column = fit_number("a", values)
    (scaled,) = column.encode(values)
    assert len(column.bins) == 33 and column.bins == sorted(set(column.bins))
    inside = np.histogram(scaled, column.bins)[0]
    assert inside.min() >= 98 and inside.max() <= 102
    assert len(fit_number("a", values[:160]).bins) == 11  # sixteen rows a bin
    np.testing.assert_allclose(fit_number("a", np.array([0.0, 1.0] * 50)).bins, [-1, 1])


@pytest.mark.parametrize(
    "values",
    [[5.0] * 9, [np.nan] * 9, [0.0, 5e-324] * 5, []],
    ids=["constant", "missing", "denormal", "none"],
)
def test_numbers_that_do_not_differ_are_no_column(values):
    assert fit_number("a", np.array(values)) is None


def test_wild_new_values_are_bounded():
    column = fit_number("a", np.arange(100.0))
    assert column.encode(np.array([1e100, -1e100]))[0].tolist() == [10.0, -10.0]


def test_large_and_small_numbers_stay_finite():
    for factor in (1e149, 1e-140):
        scaled = fit_number("a", np.arange(1.0, 50.0) * factor).encode(np.arange(1.0, 50.0) * factor)[0]
        assert np.isfinite(scaled).all() and abs(scaled.std() - 1) < 1e-6


# ---- categories ----------------------------------------------------------------------------------------------------------


def test_categories_are_numbered_from_1_and_0_is_unknown():
    column = fit_category("job", np.array(["cook", "clerk", None, "cook"], dtype=object))
    assert column.values == ["clerk", "cook"]
    assert column.encode(np.array(["cook", "clerk", None, "pilot"], dtype=object)).tolist() == [2, 1, 0, 0]


def test_a_category_seen_once_in_many_rows_is_unknown():
    column = fit_category("job", np.array(["a"] * 60 + ["b"] * 60 + ["c"], dtype=object))
    assert column.values == ["a", "b"]  # so that 0 is trained as well


def test_one_category_is_no_column():
    assert fit_category("job", np.array(["a"] * 5, dtype=object)) is None
    assert fit_category("job", np.array(["a"] * 5 + [None], dtype=object)) == CategoryColumn("job", ["a"])


# ---- the whole -----------------------------------------------------------------------------------------------------------

PEOPLE = "age,job,gain,income\n" + "".join(
    f"{20 + i % 40},{('clerk', 'cook', '?')[i % 3]},{'' if i % 7 == 0 else i * i},{'high' if i % 4 == 0 else 'low'}\n"
    for i in range(200)
)


def test_a_table_becomes_arrays(table):
    people = table(PEOPLE)
    known, notes = fitted(people, "income")
    inputs, target = known.encode(people), known.encode_target(people)
    assert inputs["numbers"].dtype == np.float32 and inputs["numbers"].shape == (200, 3)
    assert inputs["categories"].dtype == np.int64 and inputs["categories"][:3, 0].tolist() == [1, 2, 0]
    assert target.dtype == np.int64 and target[:5].tolist() == [0, 1, 1, 1, 0] and known.classes == ["high", "low"]
    spec = known.input_spec()
    assert spec.numbers == 3 == len(spec.number_bins) and spec.categories == [3]
    assert spec.number_bins[2] == [0.0, 1.0]  # the mark of gaps
    assert known.input_names() == ["age", "gain", "gain is missing", "job"]
    assert "columns: 2 of numbers, 1 of categories; 1 of numbers with gaps" in notes


def test_statistics_come_from_training_rows_alone(table):
    people = table(PEOPLE)
    rows = np.arange(100)
    known, _ = fitted(people, "income", rows=rows)
    changed, _ = fitted(table(PEOPLE.replace("\n20,", "\n99,")), "income", rows=rows)
    again, _ = fitted(
        table("\n".join(PEOPLE.split("\n")[:101]) + "\n77,pilot,-5,low" * 100 + "\n"), "income", rows=rows
    )
    assert known == again and known != changed


def test_json_and_back(table):
    people = table(PEOPLE)
    for target, task in (("income", "classification"), ("age", "regression")):
        known, _ = fitted(people, target, task)
        back = preprocessor_from_json(json.loads(json.dumps(known.to_json())))
        assert back == known
        for name, array in known.encode(people).items():
            np.testing.assert_array_equal(back.encode(people)[name], array)


def test_json_of_another_version_is_refused():
    for damaged in (
        {},
        {"kind": "sounds"},
        {"kind": "table"},
        {"kind": "image"},
        {"kind": "pictures"},
        {"kind": "table", "numbers": [{}]},
        [],
    ):
        with pytest.raises(StateError, match="another version|an earlier version"):
            preprocessor_from_json(damaged)


def test_regression_is_standardised_and_decoded(table):
    people = table("a,b\n" + "".join(f"{i % 9},{i * 3.5 - 7}\n" for i in range(50)))
    known, _ = fitted(people, "b", "regression", rows=np.arange(40))
    target = known.encode_target(people)
    assert target.dtype == np.float32 and abs(target[:40].mean()) < 1e-6 and abs(target[:40].std() - 1) < 1e-6
    np.testing.assert_allclose(known.decode(target), np.arange(50) * 3.5 - 7, rtol=1e-5, atol=1e-5)
    assert known.classes is None and known.decode(target).dtype == np.float64


def test_new_rows_need_their_columns_and_numbers(table):
    known, _ = fitted(table(PEOPLE), "income")
    with pytest.raises(
        DataError, match=r"column 'gain' is missing; expected the columns .*: age, job, gain\. Did you mean 'gains'"
    ):
        known.encode(table("age,job,gains\n1,cook,2\n"))
    with pytest.raises(DataError, match=r"people.csv, line 3, column age: 'old' is not a number"):
        known.encode(table("age,job,gain\n1,cook,2\nold,cook,2\n"))
    assert known.encode(table("age,job,gain\n?,?,?\n"))["numbers"].shape == (1, 3)  # all missing is none the less a row


def test_unseen_label_shows_both_sets_and_the_fix(table):
    known, _ = fitted(table(PEOPLE), "income")
    with pytest.raises(DataError) as caught:
        known.encode_target(table("age,income\n1,low\n2,high.\n3,low.\n"))
    message = str(caught.value)
    assert "line 3: the label 'high.' of income was never seen in training" in message
    assert (
        "labels here: 'high.', 'low', 'low.'; expected those of training: 'high', 'low'. Pass --strip-label ."
        in message
    )
    with pytest.raises(DataError, match=r"Did you mean 'high'\?"):
        known.encode_target(table("age,income\n1,low\n2,hihg\n"))
    with pytest.raises(DataError, match="line 3: the target income is missing"):
        known.encode_target(table("age,income\n1,low\n2,\n"))


def test_labels():
    assert [label_text(s, ".") for s in (">50K.", " >50K. ", ">50K")] == [">50K"] * 3
    assert [label_text(s, None) for s in ("1", "1.0", "01", "-0", "1e0", "1.5", "a")] == [
        "1",
        "1",
        "01",
        "0",
        "1",
        "1.5",
        "a",
    ]


# ---- decisions -----------------------------------------------------------------------------------------------------------


def decided(people, target, task=None, strip=None):
    return decide_task(people, people.position(target), task, strip)


def test_task(table):
    people = table(
        "t,few,many,real,ones\n"
        + "".join(f"{'ab'[i % 2]},{i % 20},{i % 21},{i % 3 + 0.5},{i % 2}.0\n" for i in range(100))
    )
    assert [decided(people, c)[0] for c in people.names] == ["classification"] * 2 + ["regression"] * 2 + [
        "classification"
    ]
    assert decided(people, "t")[1] == "target t: text, 2 different values -> classification"
    assert decided(people, "few", "regression")[1].endswith("-> regression (asked for; classification by itself)")
    assert decided(people, "real", "classification")[0] == "classification"


def test_classes_are_in_order(table):
    people = table("a,b\n" + "1,10\n2,9\n3,x\n4,-1\n" * 5)
    assert fitted(people, "b")[0].classes == ["-1", "9", "10", "x"]


@pytest.mark.parametrize(
    ("values", "task", "words"),
    [
        (["x"] * 30, None, "the target b is 'x' in every row; expected two different values"),
        (["2.5"] * 30, None, "the target b is '2.5' in every row"),
        ([f"n{i}" for i in range(30)], None, "30 different values in 30 rows; expected classes that come again"),
        (
            ["1.5"] * 10 + ["2"] * 19 + ["x"],
            "regression",
            "line 31: the target b is 'x'; expected a number for --task regression",
        ),
        (
            [str(i / 7) for i in range(60)] + ["oops"],
            None,
            "line 62: the target b is 'oops', where nearly all others are numbers",
        ),
        (["1"] * 20 + ["1e400"], None, "line 22, column b: 1e400 is beyond the range"),
    ],
)
def test_targets_that_are_refused(table, values, task, words):
    people = table("a,b\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values)))
    with pytest.raises((DataError, OptionError), match=words.replace("(", r"\(")):
        decided(people, "b", task)


def test_columns_that_are_left_out(table):
    people = table("same,name,n,y\n" + "".join(f"7,p{i},{i % 5},{i % 2}\n" for i in range(60)))
    known, notes = fitted(people, "y")
    assert known.needed == ["n"]
    assert notes[:2] == [
        "columns: same left out, the same in all training rows",
        "columns: name left out, 60 different texts in 60 rows, names the rows",
    ]


def test_a_running_number_that_is_not_called_id_stays(table):
    people = table("x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(60)))
    assert fitted(people, "y")[0].needed == ["x"]


def test_a_little_text_among_numbers_is_missing_with_a_note(table):
    people = table("x,y\n" + "".join(f"{'about 3' if i == 7 else i},{i % 2}\n" for i in range(60)))
    known, notes = fitted(people, "y")
    assert "numbers: gaps, x: 'about 3' in 1 row (line 9); --read exact=NAME for text" in notes
    assert known.encode(people)["numbers"][7, 1] == 1
    assert known.encode(table("x\nhm\n"))["numbers"].tolist()[0][1] == 1  # training had some, so new rows may


def test_words_for_missing_in_inputs(table):
    people = table(
        "x,c,y\n" + "".join(f"{'-' if i % 2 else i},{('none', 'a', 'b')[i % 3]},{i % 2}\n" for i in range(60))
    )
    known, _ = fitted(people, "y")
    assert [c.name for c in known.numbers] == ["x"] and known.numbers[0].missing_indicator
    assert known.categories == [CategoryColumn("c", ["a", "b"])]


def test_an_all_missing_column_asks_to_be_dropped(table):
    people = table("a,b,c,y\n" + "".join(f"{i},?,-,{i % 2}\n" for i in range(30)))
    with pytest.raises(DataError, match=r"columns b, c: every value is missing; .* pass --drop b,c"):
        fitted(people, "y")
    assert fitted(people, "y", drop=("b", "c"))[0].needed == ["a"]


def test_nothing_left_to_learn_from(table):
    with pytest.raises(DataError, match=r"no column is left to learn from \(a left out, the same in all training rows"):
        fitted(table("a,y\n" + "".join(f"5,{i % 2}\n" for i in range(30))), "y")
