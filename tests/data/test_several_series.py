"""Several series in one table, columns known ahead, categories; duplicates and odd spacing are told with what to do."""

import datetime
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from pellucid.data.kinds import KINDS, preprocessor_from_json
from pellucid.data.load import load_problem, open_source
from pellucid.data.series.windows import Timeline, units_of
from pellucid.data.table.read import read_table
from pellucid.errors import DataError, OptionError

FIRST = datetime.date(2021, 1, 1)


def day(i):
    return str(FIRST + datetime.timedelta(days=i))


@pytest.fixture
def write(tmp_path):
    def write(header, rows, name="panel.csv"):
        (tmp_path / name).write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
        return str(tmp_path / name)

    return write


def level(i):
    return np.sin(i / 3) + i % 7


@pytest.fixture
def panel(write):
    """`big` is a thousand times `small`, and begins twenty days later."""
    rows = [(day(i), name, round(scale * level(i), 4)) for i in range(120) for name, scale, first in
            (("small", 1, 0), ("big", 1000, 20)) if i >= first]  # fmt: skip
    return write("day,shop,y", rows)


OPTIONS = {"target": "y", "time_column": "day", "series": "shop", "lookback": 5}


def test_each_series_has_its_windows_its_scale_and_the_same_cuts(panel):
    problem = load_problem(panel, **OPTIONS)
    known = problem.preprocessor
    small, big = [np.round(scale * level(np.arange(first, 120)), 4) for scale, first in ((1, 0), (1000, 20))]
    cuts = [96, 108]  # days, of both
    assert [len(problem.train), len(problem.validation), len(problem.test)] == [91 + 71, 24, 24]
    windows, target = np.asarray(problem.train.inputs["series"])[:, :, 0], problem.train.target
    for values, first, part in ((small, 0, slice(0, 91)), (big, 20, slice(91, None))):
        training = values[: cuts[0] - first]
        scaled = (values - training.mean()) / training.std()
        rows = range(5, cuts[0] - first)
        np.testing.assert_allclose(target[part], scaled[list(rows)], atol=1e-5)
        np.testing.assert_allclose(windows[part], np.stack([scaled[row - 5 : row] for row in rows]), atol=1e-5)
    test = problem.test
    own = known.decode_for(test.target, [test.inputs["series"]])
    np.testing.assert_allclose(own, [*small[108:], *big[88:]], rtol=1e-4, atol=1e-3)
    assert units_of([test.inputs["series"]]).shape == (24, 2)
    assert problem.raw_example("test", 12)["shop"] == "big" and problem.raw_example("test", 12)["day"] == day(108)
    assert any(note.startswith("series: 2 by shop, of 100 to 120 steps each") for note in problem.notes)


def test_the_preprocessor_of_several_series_survives_json_and_reads_new_ones(panel, write):
    known = load_problem(panel, **OPTIONS).preprocessor
    again = preprocessor_from_json(json.loads(json.dumps(known.to_json())))
    assert again == known
    rows = [(day(i), "new", 1e6 + i % 7) for i in range(20)]
    lines = again.read_lines(read_table(Path(write("day,shop,y", rows, "new.csv"))))
    assert again.unseen_series(lines) == ["series: 1 by shop that training had not, scaled by their own rows: new"]
    np.testing.assert_allclose(again.encode(lines)["series"].features[:, 0].mean(), 0, atol=1e-5)
    new = KINDS["series"].read_new(again, [open_source(panel, KINDS["series"])])
    assert new.names == [f"small {day(120)}", f"big {day(120)}"] and new.inputs["series"].shape[0] == 2
    np.testing.assert_array_equal(new.inputs["series"][0], np.asarray(again.encode(again.read_lines(read_table(Path(panel)))[0])["series"])[-1])  # fmt: skip


def test_many_rows_of_one_time_name_the_column_that_tells_series_apart(panel, write):
    without = {name: value for name, value in OPTIONS.items() if name != "series"}
    with pytest.raises(
        DataError,
        match=r"line 23: .* as if there were several series.*column shop tells them apart: write --series shop",
    ):
        load_problem(panel, **without)
    twice = write("day,shop,y", [(day(i // 2), "one", i) for i in range(100)])
    with pytest.raises(DataError, match="line 3: 50 of 100 rows of shop one have a time that another has"):
        load_problem(twice, **OPTIONS)
    with pytest.raises(DataError, match="line 3: 50 of 100 rows have a time .* give them one at a time"):
        load_problem(twice, **without)
    gone = write("day,shop,y", [(day(i), "" if i == 7 else "one", i) for i in range(100)])
    with pytest.raises(DataError, match="line 9: shop is missing, which says which series a row is of"):
        load_problem(gone, **OPTIONS)


def test_series_shorter_than_a_window_are_left_out_and_named(write):
    rows = [(day(i), "long", level(i)) for i in range(100)] + [(day(i), "short", i) for i in range(4)]
    problem = load_problem(write("day,shop,y", rows), **OPTIONS)
    assert "rows: 1 of 2 series left out, no longer than --lookback 5: short" in problem.notes
    assert [scale.name for scale in problem.preprocessor.scales] == ["long"]
    known, table = problem.preprocessor, read_table(Path(problem.source["path"]))
    kept, notes = known.long_enough(table, known.read_lines(table))  # as predict reads the same file
    assert [line.name for line in kept] == ["long"] and notes == [
        "series: 1 by shop shorter than the window of 5, left out: short"
    ]


def test_a_series_that_begins_after_training_and_numbers_as_names(write):
    rows = [(day(i), 7, level(i)) for i in range(100)] + [(day(i), 8, 5 + level(i)) for i in range(85, 100)]
    problem = load_problem(write("day,shop,y", rows), **OPTIONS)
    assert [line.name for line in problem.raw["test"].lines] == ["7", "8"]
    assert np.isfinite(problem.test.target).all() and len(problem.test) == 20


@pytest.fixture
def sales(write):
    chance = np.random.default_rng(0)
    promo = chance.integers(0, 2, 203)
    sky = chance.choice(["sun", "rain"], 203)
    names = ("Fri", "Sat", "Sun", "Mon", "Tue", "Wed", "Thu")  # 2021-01-01 was a Friday
    rows = [
        (day(i), round(10 + 5 * promo[i] + level(i), 3) if i < 200 else "", promo[i], names[i % 7], sky[i])
        for i in range(203)
    ]
    return write("day,sold,promo,name,sky", rows, "sales.csv")


SALES = {"target": "sold", "time_column": "day", "known": ["promo", "sky"], "lookback": 4}


def test_what_is_known_ahead_is_read_of_the_step_to_be_predicted(sales):
    problem = load_problem(sales, **SALES)
    known = problem.preprocessor
    names = known.input_names()
    assert known.known_names == ["promo", "sky"] and "sky of the next step is rain" in names
    table = read_table(Path(sales)).columns
    windows = np.asarray(problem.train.inputs["series"])
    for feature, expected in (
        ("promo of the next step", lambda i: (float(table[2][i]) - known.known[0].mean) / known.known[0].std),
        ("sky of the next step is rain", lambda i: float(table[4][i] == "rain")),
        ("name of the next step is Sun", lambda i: float(table[3][i] == "Sun")),
    ):
        got = windows[:, -1, names.index(feature)]
        np.testing.assert_allclose(got, [expected(i) for i in range(4, 4 + len(got))], atol=1e-5)
    assert "rows: 3 steps to come, without sold; pellucid predict reads them" in problem.notes
    assert any("name follows from the weekday of day" in note for note in problem.notes)
    assert len(problem.test) == 20  # of 200 steps, those to come apart


def test_other_categories_are_read_from_the_past_alone(sales):
    problem = load_problem(sales, **{**SALES, "known": ["promo"]})
    names, table = problem.preprocessor.input_names(), read_table(Path(sales)).columns
    got = np.asarray(problem.train.inputs["series"])[:, -1, names.index("sky is rain")]
    np.testing.assert_array_equal(got, [float(table[4][i] == "rain") for i in range(3, 3 + len(got))])
    assert names.index("sky is rain") in problem.preprocessor.held
    assert any("sky, 2 categories, read from the past; --known sky" in note for note in problem.notes)


def test_rows_to_come_are_needed_and_must_be_the_next_ones(sales, tmp_path):
    known = load_problem(sales, **SALES).preprocessor
    lines = Path(sales).read_text().splitlines()

    def extended(rows, horizon):
        path = tmp_path / "next.csv"
        path.write_text("\n".join(rows))
        table = read_table(path)
        line = known.read(table)
        return known.ahead(line), known.extended(table, line, horizon)

    ahead, whole = extended(lines, 3)
    assert ahead == 3 and len(whole) == 203
    np.testing.assert_array_equal(whole.values[200:, 1], [float(row.split(",")[2]) for row in lines[-3:]])
    with pytest.raises(DataError, match="no row to come; expected 1, with day and promo, sky filled in and sold empty"):
        extended(lines[:-3], 1)
    with pytest.raises(DataError, match=f"3 rows after {day(199)}; expected 5.*from {day(203)} on"):
        extended(lines, 5)
    with pytest.raises(DataError, match=f"line 202: the step to come is {day(201)}; expected {day(200)}"):
        extended(lines[:-3] + lines[-2:], 1)
    for empty, name in ((f"{day(200)},,,Tue,sun", "promo"), (f"{day(200)},,1,Tue,", "sky")):
        with pytest.raises(DataError, match=f"line 202: {name} is missing; .* known ahead; fill it in"):
            extended([*lines[:-3], empty], 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"series": "y"}, "--series y: it is the target"),
        ({"series": "day"}, "--series day: it is the column of times"),
        ({"known": ["shop"]}, "--known shop: it is the column of --series"),
        ({"known": ["y"]}, "--known y: it is the target"),
        ({"known": ["nothing"]}, "--known nothing: .* has no such column"),
        ({"series": "nothing"}, "--series nothing: .* has no such column"),
    ],
)
def test_columns_that_cannot_be_that(panel, options, words):
    with pytest.raises(OptionError, match=words):
        load_problem(panel, **{**OPTIONS, **options})


def test_text_that_is_no_category_is_left_out_or_refused(write):
    path = write("day,y,note", [(day(i), level(i), f"text {i}") for i in range(100)])
    options = {"target": "y", "time_column": "day", "lookback": 4}
    assert "columns: note left out, 100 different texts" in load_problem(path, **options).notes
    with pytest.raises(OptionError, match="--known note: 100 different texts; expected numbers, or 2 to 30 categories"):
        load_problem(path, **options, known=["note"])


def test_odd_spacing_is_told_with_its_line(write):
    options = {"target": "y", "time_column": "day", "lookback": 4}
    notes = load_problem(write("day,y", [(day(i + 3 * (i > 50)), level(i)) for i in range(100)]), **options).notes
    assert any("1 gap" in note for note in notes) and any(
        "after 2021-02-20, line 53), stepped over" in note for note in notes
    )
    odd = np.cumsum(np.where(np.arange(100) % 3, 1, 2))
    notes = load_problem(write("day,y", [(day(int(i)), level(i)) for i in odd]), **options).notes
    assert any("irregular, 33% of the steps are not 1 day (first at line 5)" in note for note in notes), notes
    business = [(str(np.busday_offset("2021-01-01", i)), level(i)) for i in range(100)]
    notes = load_problem(write("day,y", business), **options).notes
    assert "dates: none falls on Saturday, Sunday; forecasts skip these" in notes and not any(
        "gap" in note for note in notes
    )
    hours = np.arange(100)
    stamps = [f"2021-03-{27 + (h + 1) // 24:02}T{(h + 1) % 24:02}:00+01:00" if h < 48 else
              f"2021-03-{27 + (h + 2) // 24:02}T{(h + 2) % 24:02}:00+02:00" for h in hours]  # fmt: skip
    notes = load_problem(
        write("day,y", [(stamp, level(h)) for stamp, h in zip(stamps, hours, strict=True)]), **options
    ).notes
    assert any(
        "offsets +01:00 and +02:00, as with daylight saving" in note and "written with +02:00" in note for note in notes
    )
    assert not any("gap" in note for note in notes)


def test_a_timeline_made_by_hand_needs_no_categories(sales):
    known = load_problem(sales, **SALES).preprocessor
    line = Timeline(np.arange(10.0), np.ones((10, 2)))
    assert known.encode(line)["series"].shape == (7, 4, len(known.input_names()))


def test_how_a_file_is_read_is_stored_and_told(tmp_path):
    path = tmp_path / "old.csv"
    path.write_bytes("día;y\n".encode("cp1252") + b"".join(f"{day(i)};{i % 7},5\n".encode() for i in range(100)))
    problem = load_problem(str(path), target="y", time_column=1, lookback=4, read="encoding=cp1252,decimal=,")
    known = preprocessor_from_json(json.loads(json.dumps(problem.preprocessor.to_json())))
    assert known == problem.preprocessor and known.read_options.encoding == "cp1252"
    kind = KINDS["series"]
    (line,) = known.read_lines(kind.read_table(known, open_source(str(path), kind)))
    assert line.values[:3, 0].tolist() == [0.5, 1.5, 2.5]
    gzipped = tmp_path / "old.csv.gz"
    gzipped.write_bytes(gzip.compress(path.read_bytes()))
    assert load_problem(str(gzipped), target="y", time_column=1, lookback=4).notes[0].startswith("file: ")


@pytest.mark.parametrize("task", ["classification", "counts", "multilabel"])
def test_a_series_is_no_other_task(panel, task):
    with pytest.raises(OptionError, match=f"task: {task}; a series is asked for its next number"):
        load_problem(panel, **OPTIONS, task=task)


def test_new_files_write_numbers_as_training_did(write):
    options = {"target": "y", "time_column": "day", "lookback": 4}
    text = lambda value: f'"{value // 1000}.{value % 1000:03},50"'
    known = load_problem(write("day,y", [(day(i), text(1000 + i % 7)) for i in range(100)]), **options).preprocessor
    known = preprocessor_from_json(json.loads(json.dumps(known.to_json())))
    kind = KINDS["series"]
    new = write("day,y", [(day(i), f"1.{100 + i}") for i in range(9)], "new.csv")  # by itself these would be 1.1
    (line,) = known.read_lines(kind.read_table(known, open_source(new, kind)))
    assert line.values[:2, 0].tolist() == [1100, 1101]
    old = known.to_json()
    for column in old["columns"]:
        del column["format"]
    assert preprocessor_from_json(old).encoding() == known.encoding()
