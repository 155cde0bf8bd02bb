"""What is doubtful in cells is told: the decimal sign, gaps in the target, limits and ranges, mixed units, codes with leading zeros."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from pellucid.data.kinds import kind_named, preprocessor_from_json
from pellucid.data.load import load_problem, open_source
from pellucid.data.table.infer import sentinels_of
from pellucid.data.table.labels import merge_labels
from pellucid.data.table.limits import cut_limit
from pellucid.data.table.number_format import NumberFormat, mixed_units, read_column, read_number
from pellucid.data.table.read import read_table
from pellucid.data.table.read_options import ReadOptions
from pellucid.errors import DataError

ROWS = 120
FINE = [f"{1 + i * 8 / ROWS:.3f}" for i in range(ROWS)]  # 1.000 to 8.933, which may all be thousands
CLEAR = [f"{i / 7:.2f}" for i in range(ROWS)]


@pytest.fixture
def made(tmp_path):
    """made(name, separator, **columns) -> the path of a file of these columns."""

    def make(name="a.csv", separator=",", **columns):
        with open(tmp_path / name, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=separator)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
        return str(tmp_path / name)

    return make


def new_rows(problem, path, read=None, labelled=False):
    """(float64 values of x, notes) of a new file."""
    known, kind = preprocessor_from_json(json.loads(json.dumps(problem.preprocessor.to_json()))), kind_named("table")
    source = open_source(path, kind, read=read)
    new = kind.read_labelled(known, source) if labelled else kind.read_new(known, [source])
    (column,) = [column for column in known.numbers if column.name == "x"]
    return known._values(new.table, column).tolist(), known.unseen_values(new.table), new


def noted(problem, start):
    return [note for note in problem.notes if note.startswith(start)]


# ---- the decimal sign --------------------------------------------------------------------------------------------------


def test_a_file_with_semicolons_and_decimal_commas_is_no_file_of_thousands(made):
    problem = load_problem(made(x=FINE, y=CLEAR), target="y")
    new = made("new.csv", ";", x=["7,500", "1,250"], z=["a", "b"])
    assert new_rows(problem, new)[:2] == (
        [7.5, 1.25],
        ["numbers: not clear, x: '7,500' is 7.5; --read decimal=. for the other reading"],
    )
    values, notes, _ = new_rows(problem, new, "decimal=.")
    assert values == [7500, 1250] and "2 of 2 values lie outside those of training" in notes[0]


def test_the_range_of_training_decides_what_a_file_leaves_open(made):
    problem = load_problem(made(x=FINE, y=CLEAR), target="y")
    commas = made("commas.csv", x=["7,500", "1,250"])
    values, notes, _ = new_rows(problem, commas)
    assert values == [7.5, 1.25] and notes[0].startswith("numbers: not clear, x: '7,500' is 7.5; ")
    assert new_rows(problem, made("points.csv", x=["7.500", "1.250"]))[:2] == ([7.5, 1.25], [])
    large = load_problem(made("l.csv", x=[f"{i * 100 + 1000}" for i in range(ROWS)], y=CLEAR), target="y")
    values, notes, _ = new_rows(large, made("points.csv", x=["7.500", "1.250"]))
    assert values == [7500, 1250] and notes == [
        "numbers: not clear, x: '7.500' is 7500; --read decimal=. for the other reading"
    ]
    assert new_rows(large, made("points.csv", x=["7.500", "1.250"]), "decimal=.")[0] == [7.5, 1.25]
    both = load_problem(made("b.csv", x=[f"{i % 40 * 300}.5" for i in range(ROWS)], y=CLEAR), target="y")
    values, notes, _ = new_rows(both, commas)
    assert values == [7500, 1250] and notes[0].endswith(", as in training; --read decimal=, for the other reading")


def test_what_training_left_open_is_told_of_new_rows_too(made):
    thousands = [f"{10 + i}.{i * 7 % 900 + 100}" for i in range(ROWS)]
    problem = load_problem(made(x=thousands, y=[i % 2 for i in range(ROWS)]), target="y")
    assert noted(problem, "numbers: not clear, x '10.100' is 10.1; --read decimal=, for the other reading")
    values, notes, _ = new_rows(problem, made("new.csv", x=["12.345"]))
    assert values == [12.345] and notes == [
        "numbers: not clear, x: '12.345' is 12.345, as in training; --read decimal=, for the other reading"
    ]
    said = load_problem(made(x=thousands, y=[i % 2 for i in range(ROWS)]), target="y", read="decimal=,")
    assert not noted(said, "numbers: not clear")
    assert new_rows(said, made("new.csv", x=["12.345"]))[:2] == ([12345], [])


@pytest.mark.parametrize("target", ["regression", "counts", "classification"])
def test_an_open_target_is_told_whatever_its_task(made, target):
    values = {"regression": [f"{i + 1}.500" for i in range(ROWS)], "counts": [f"{i % 90 + 1}.000" for i in range(ROWS)],
              "classification": [f"{i % 3 + 1}.000" for i in range(ROWS)]}[target]  # fmt: skip
    problem = load_problem(made(x=CLEAR[::-1], y=values), target="y", task=target)
    doubt = noted(load_problem(made(x=range(ROWS), y=values), target="y", task=target), "numbers: not clear, y '1.")
    assert problem.task == target and len(doubt) == 1


def test_the_user_s_decimal_sign_is_heeded_wherever_it_can_be(made):
    read = lambda texts, **said: read_column(np.array(texts, dtype=object), lambda: None, **said).values.tolist()
    assert read(["1.234", "1567", "89"], said=",") == [1234, 1567, 89]
    assert read(["1.234", "567", "89", "912"], said=".") == [1.234, 567, 89, 912]
    assert read(["1,234", "2,345"], said="") == [1.234, 2.345]  # no thousands
    assert read(["1.5", "2.5"], said=",") == [1.5, 2.5]  # cannot be
    table = read_table(_path(made(x=["1,234", "2,345"], y=[1, 2])), options=ReadOptions.parse("thousands=none"))
    assert table.read_numbers(0).values.tolist() == [1.234, 2.345]


def _path(text):
    from pathlib import Path

    return Path(text)


def test_other_columns_are_stronger_than_a_pattern():
    texts = np.array(["1.234", "567", "89", "912"], dtype=object)
    assert read_column(texts, lambda: ".").values.tolist() == [1.234, 567, 89, 912]
    assert read_column(texts, lambda: None).values.tolist() == [1234, 567, 89, 912]


def test_a_target_to_score_on_is_read_near_that_of_training(made):
    problem = load_problem(made(x=FINE, y=[f"{2 + i / 20:.2f}" for i in range(ROWS)]), target="y")
    _, _, new = new_rows(problem, made("new.csv", ";", x=["7,500", "1,250"], y=["5,125", "3,250"]), labelled=True)
    assert problem.preprocessor.decode(new.target).round(3).tolist() == [5.125, 3.25]
    assert "target: written otherwise than in training, y: '5,125' is 5.125" in new.notes


def test_a_table_to_test_on_that_is_read_otherwise_is_told(made):
    test = made("t.csv", ";", x=[text.replace(".", ",") for text in FINE], y=[text.replace(".", ",") for text in CLEAR])
    problem = load_problem(made(x=FINE, y=CLEAR), target="y", test_data=test)
    assert noted(problem, "numbers: not clear, x: '1,000' is 1; --read decimal=. for the other reading")


# ---- gaps in the target ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gap", "task"), [("-999", None), ("9999", None), ("9999", "counts")])
def test_a_number_that_stands_for_a_gap_in_the_target_leaves_its_rows_out(made, gap, task):
    y = [gap if i % 20 == 3 else str(i) for i in range(ROWS)]
    problem = load_problem(made(x=CLEAR, y=y), target="y", task=task)
    assert noted(problem, f"rows: left out, y is {gap}, far from all others, as a gap: 6; --read exact=y keeps them")
    assert sum(map(len, (problem.train, problem.validation, problem.test))) == ROWS - 6
    kept = load_problem(made(x=CLEAR, y=y), target="y", task=task, read="exact=y")
    assert sum(map(len, (kept.train, kept.validation, kept.test))) == ROWS
    with pytest.raises(DataError, match=rf"line 3: the target y is {gap}, a gap in training"):
        new_rows(problem, made("new.csv", x=CLEAR[:2], y=["5", gap]), labelled=True)
    one = load_problem(
        made(x=CLEAR, y=y), target="y", task=task, test_data=made("t.csv", x=CLEAR[:9], y=[*range(8), gap])
    )
    assert len(one.test) == 8  # though once is too seldom to be found by itself


def test_a_gap_that_comes_once_is_kept_and_told(made):
    y = ["-999" if i == 7 else str(i) for i in range(ROWS)]
    x = ["9999" if i == 9 else text for i, text in enumerate(CLEAR)]
    problem = load_problem(made(x=x, y=y), target="y")
    assert sum(map(len, (problem.train, problem.validation, problem.test))) == ROWS
    (told,) = noted(problem, "numbers: not clear, far from all others, y: -999 in 1 row")
    assert told.endswith("--read missing=NUMBER if it is a gap")
    without = load_problem(made(x=x, y=y), target="y", read="missing=-999|9999")
    assert sum(map(len, (without.train, without.validation, without.test))) == ROWS - 1
    assert not noted(without, "numbers: not clear") and noted(without, "rows: left out, without a value of y: 1")


def test_a_class_that_may_be_a_gap_is_told(made):
    numbers = made(x=CLEAR, y=[-999 if i % 20 == 3 else i % 2 for i in range(ROWS)])
    told = "labels: classes that may be gaps, y: {} in 6 rows; --read missing=WORD leaves them out"
    assert told.format("-999") in load_problem(numbers, target="y").notes
    assert load_problem(numbers, target="y", read="missing=-999").preprocessor.classes == ["0", "1"]
    words = made(x=CLEAR, y=["unknown" if i % 20 == 3 else "ab"[i % 2] for i in range(ROWS)])
    assert told.format("'unknown'") in load_problem(words, target="y").notes
    assert sentinels_of(np.array([0.0, 1] * 9 + [2.0] * 3), others=1) == []


# ---- limits and ranges -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [("<7", 3.5), ("< 0.1", 0.05), ("≤5", 2.5), (">=60", 60), ("51+", 51), ("15-25", 20), ("15 – 25", 20), ("10 to 20", 15), ("1.5-2.5", 2),
     ("(0.999, 5.001]", 3), ("[10; 20)", 15), ("-5--2", -3.5), ("65 and over", 65), ("under 18", 9), ("< -5", -5), ("7", 7)],
)  # fmt: skip
def test_limits_and_ranges(text, number):
    assert read_number(text, NumberFormat(limits=True)) == pytest.approx(number)
    assert text == "7" or read_number(text, NumberFormat()) is None


@pytest.mark.parametrize(
    "text", ["123-45-6789", "2021-03-04", "08:00-10:00", "A-1", "25-15", "05-12", "c++", "a+b", "1 - high", "x" * 80]
)
def test_what_is_no_limit(text):
    assert read_number(text, NumberFormat(limits=True)) is None


@pytest.mark.parametrize(
    ("texts", "values"),
    [(("<7", "9.5", "12", "21"), (3.5, 9.5, 12, 21)), (("15-25", "26-35", "51+"), (20, 30.5, 51)),
     (("$10k-20k", "$20k-$30k", "$100k+"), (15e3, 25e3, 1e5)), (("< 1 year", "1 year", "10+ years"), (0.5, 1, 10)),
     (("10-20%", "20-30%", "5%"), (15, 25, 5)), (("1,5-2,5", "2,5-3,5", "<1,5"), (2, 3, 0.75))],
)  # fmt: skip
def test_columns_of_limits(texts, values):
    found = read_column(np.array(texts, dtype=object), lambda: None)
    assert found is not None and found.values.tolist() == list(values) and found.format.limits


@pytest.mark.parametrize(
    "texts",
    [("2-1", "0-1", "1-1", "0-3"), ("<=50K", ">50K"), ("<14", "7+", "8-9"), ("2019-20", "2020-21", "2021-22"), ("12-A", "13-B", "14-15")],
)  # fmt: skip
def test_what_are_no_limits(texts):
    """Results of games, two classes, limits that would be one number, seasons, codes."""
    assert read_column(np.array(texts * 9, dtype=object), lambda: None) is None


def test_limits_are_numbers_and_told(made):
    x = ["<7" if i % 5 == 0 else f"{7 + i / 10:.1f}" for i in range(ROWS)]
    age = [["15-25", "26-35", "36-50", "51+"][i % 4] for i in range(ROWS)]
    problem = load_problem(made(x=x, age=age, y=[i % 2 for i in range(ROWS)]), target="y")
    assert [column.name for column in problem.preprocessor.numbers] == ["x", "age"]
    assert "numbers: limits, x '<7' is 3.5, age '15-25' is 20; --read exact=NAME for text" in problem.notes
    assert new_rows(problem, made("new.csv", x=["<3"], age=["<15"]))[0] == [1.5]
    exact = load_problem(made(x=x, age=age, y=[i % 2 for i in range(ROWS)]), target="y", read="exact=age")
    assert [column.name for column in exact.preprocessor.categories] == ["age"]
    classes = load_problem(made(x=CLEAR, y=age), target="y")
    assert classes.task == "classification" and classes.preprocessor.classes == ["15-25", "26-35", "36-50", "51+"]
    assert cut_limit("15-25").low == "15"


# ---- units -------------------------------------------------------------------------------------------------------------


def test_mixed_units_are_named(made):
    temp = [f"{i % 30}C" if i % 2 else f"{i % 50 + 30}F" for i in range(ROWS)]
    weight = [f"{40 + i / 3:.1f} kg" if i % 2 else f"{90 + i / 3:.1f} lbs" for i in range(ROWS)]
    problem = load_problem(made(temp=temp, weight=weight, z=CLEAR, y=[i % 2 for i in range(ROWS)]), target="y")
    assert "columns: units mixed, so categories, temp '30F' and '1C'; write one unit" in problem.notes
    assert "columns: weight left out, it mixes units, as '90.0 lbs' and '40.3 kg'; write one unit" in problem.notes
    assert mixed_units(["5 kg", "7", "8 kg"]) is None and mixed_units(["a", "b 2"]) is None
    assert mixed_units(["5%", "0.07"]) == ("5%", "0.07") and mixed_units(["5%", "0"]) is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([f"{i % 45}%" if i % 2 else f"0.{i % 44 + 10}" for i in range(400)], "mixes units, as '0.10' and '1%'"),
        ([f"{i % 45} kg" if i % 2 else f"{i % 44} lb" for i in range(400)], "mixes units, as '0 lb' and '1 kg'"),
        ([f"{i % 45}.5" if i % 4 else "high" for i in range(400)], "line 2: the target y is 'high', where most others"),
    ],
)
def test_a_target_of_numbers_is_not_taken_for_classes(made, values, said):
    path = made(x=[f"{i / 7:.2f}" for i in range(400)], y=values)
    with pytest.raises(DataError, match=f"{said}.*--task classification"):
        load_problem(path, target="y")
    assert load_problem(path, target="y", task="classification").task == "classification"


def test_seats_are_classes(made):
    seats = [f"{i % 7 + 1}{'ABCDEF'[i % 6]}" for i in range(400)]
    problem = load_problem(made(x=[f"{i / 7:.2f}" for i in range(400)], seat=seats, y=seats), target="y", drop=["seat"])
    assert problem.task == "classification" and len(problem.preprocessor.classes) == 42


# ---- codes with leading zeros ------------------------------------------------------------------------------------------


def test_classes_with_leading_zeros_are_codes(made):
    problem = load_problem(made(x=CLEAR, y=[("001", "007", "010")[i % 3] for i in range(ROWS)]), target="y")
    assert problem.preprocessor.classes == ["001", "007", "010"] and not noted(problem, "labels:")
    assert noted(problem, "target y: codes such as '001', 3 different values -> classification")
    assert new_rows_target(problem, made("new.csv", x=CLEAR[:3], y=["007", "7", "10"])) == [1, 1, 2]
    many = load_problem(made(x=CLEAR, y=[f"{i % 40 + 990:05}" for i in range(ROWS)]), target="y")
    assert many.task == "classification" and len(many.preprocessor.classes) == 40


def new_rows_target(problem, path):
    known, kind = preprocessor_from_json(json.loads(json.dumps(problem.preprocessor.to_json()))), kind_named("table")
    return kind.read_labelled(known, open_source(path, kind)).target.tolist()


def test_codes_that_are_one_number_are_merged_and_told(made):
    path = made(x=CLEAR, y=[("007", "07", "7", "8", "007")[i % 5] for i in range(ROWS)])
    problem = load_problem(path, target="y")
    assert problem.preprocessor.classes == ["007", "8"]
    assert "labels: y: '07' and '7' are '007'; --read exact=NAME to keep apart" in problem.notes
    assert new_rows_target(problem, made("new.csv", x=CLEAR[:4], y=["7", "0007", "8", "08"])) == [0, 0, 1, 1]
    apart = load_problem(path, target="y", read="exact=y")
    assert set(apart.preprocessor.classes) == {"007", "07", "7", "8"}
    assert merge_labels({"7": 20, "07": 20}).names == {"7": "07"} or merge_labels({"7": 20, "07": 20}).names == {
        "07": "7"
    }


def test_inputs_with_leading_zeros_are_told(made):
    zips = [("01234", "02345", "99501")[i % 3] for i in range(ROWS)]
    months = [f"{i % 12 + 1:02}" for i in range(ROWS)]
    path = made(zip=zips, month=months, y=[i % 2 for i in range(ROWS)])
    problem = load_problem(path, target="y")
    assert "numbers: leading zeros, zip '01234' is 1234; --read exact=NAME for categories" in problem.notes
    exact = load_problem(path, target="y", read="exact=zip").preprocessor
    assert [column.values for column in exact.categories] == [["01234", "02345", "99501"]]
    assert [column.name for column in exact.numbers] == ["month"]


# ---- words for gaps ----------------------------------------------------------------------------------------------------


def test_words_that_the_user_calls_missing_are_gaps_in_training_and_after(made):
    x = ["n.d." if i % 6 == 0 else "-1.0" if i % 6 == 1 else text for i, text in enumerate(CLEAR)]
    city = ["Nowhere" if i % 5 == 0 else "ab"[i % 2] for i in range(ROWS)]
    path = made(x=x, city=city, y=[i % 2 for i in range(ROWS)])
    problem = load_problem(path, target="y", read="missing=n.d.,-1|nowhere")
    (column,), (cities,) = problem.preprocessor.numbers, problem.preprocessor.categories
    assert column.missing_indicator and not column.strays and cities.values == ["a", "b"]
    values, notes, _ = new_rows(problem, made("new.csv", x=["N.D.", "-1", "2"], city=["nowhere", "a", "b"]))
    assert np.isnan(values[:2]).all() and values[2] == 2 and notes == []
