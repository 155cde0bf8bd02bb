"""Series: windows hold only what was known, parts follow one another in time, and everything odd is told."""

import datetime
import json
from pathlib import Path

import numpy as np
import pytest

from pellucid.data import datasets as shelf
from pellucid.data.input_spec import SeriesSpec
from pellucid.data.kinds import preprocessor_from_json
from pellucid.data.load import load_problem
from pellucid.data.series.windows import Timeline
from pellucid.data.table.read import read_table
from pellucid.errors import DataError, OptionError


def days(n, first=datetime.date(2001, 1, 1), step=datetime.timedelta(days=1)):
    return [str(first + i * step) for i in range(n)]


@pytest.fixture
def table(tmp_path):
    def write(columns, name="series.csv"):
        rows = zip(*columns.values(), strict=True)
        lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return str(tmp_path / name)

    return write


def wave(n):
    return np.round(10 + 5 * np.sin(np.arange(n) / 9) + np.arange(n) % 7 / 10, 3)


def test_windows_targets_and_parts_by_hand(table):
    y = wave(200)
    problem = load_problem(table({"t": range(200), "y": y}), target="y", time_column="t", lookback=4)
    assert (problem.kind, problem.task) == ("series", "regression")
    known = problem.preprocessor
    assert known.input_spec() == SeriesSpec(4, 1) and known.input_names() == ["y"]
    mean, std = y[:160].mean(), y[:160].std()  # of the training part, 80% of the steps
    for part, rows in {"train": range(4, 160), "validation": range(160, 180), "test": range(180, 200)}.items():
        examples = getattr(problem, part)
        assert examples.inputs["series"].dtype == examples.target.dtype == np.float32
        np.testing.assert_allclose(known.decode(examples.target), y[rows], rtol=1e-5)
        expected = (np.stack([y[row - 4 : row] for row in rows]) - mean) / std
        np.testing.assert_allclose(examples.inputs["series"][:, :, 0], expected, atol=1e-5)
        told = problem.raw_example(part, 0)
        assert told["t"] == str(rows[0]) and float(told["y"]) == pytest.approx(y[rows[0]])
        assert told["y before"].split(", ")[-1] == f"{y[rows[0] - 1]:.6g}"


def test_nothing_of_the_step_itself_or_later_reaches_a_window(table):
    y, z = wave(300), np.round(np.cos(np.arange(300)), 3)
    path = table({"t": range(300), "z": z, "y": y})
    known = load_problem(path, target="y", time_column="t", lookback=5).preprocessor
    line = Timeline(np.arange(300.0), np.stack([y, z], 1))
    later = Timeline(line.times, np.where(np.arange(300)[:, None] >= 200, 99.0, line.values))
    one, other = (known.encode(x)["series"] for x in (line, later))
    np.testing.assert_array_equal(one[:196], other[:196])  # window 195 asks for row 200
    assert (one[196] != other[196]).any()
    changed = table(
        {"t": range(300), "z": np.where(np.arange(300) < 240, z, 7), "y": np.where(np.arange(300) < 240, y, 7)}
    )
    assert (
        load_problem(changed, target="y", time_column="t", lookback=5).preprocessor == known
    )  # statistics are of training


def test_overlapping_windows_are_not_copied_out(table):
    y = wave(3000)
    y[[500, 2990]] = np.nan  # and so not every row is asked for
    path = table({"t": range(3000), "y": ["" if np.isnan(x) else x for x in y]})
    problem = load_problem(path, target="y", time_column="t", lookback=100)
    windows = problem.train.inputs["series"]
    assert windows.shape == (len(problem.train), 100, 2) and len(problem.train) == 2400 - 100 - 1
    assert windows.features.nbytes == 3000 * 2 * 4 and np.shares_memory(windows.every, windows.features)
    whole = np.asarray(windows)
    assert whole.shape == windows.shape and whole.dtype == np.float32
    for key in (
        5,
        slice(3, 9),
        np.array([7, 1]),
        (slice(None), slice(-15, None), 0),
        (slice(None), -1, slice(1, None)),
    ):
        np.testing.assert_array_equal(windows[key], whole[key])
    (batch, target) = problem.train.dataset(Asks()).gather(np.array([400, 0, 450]))
    np.testing.assert_array_equal(batch.array, whole[[400, 0, 450]])
    np.testing.assert_array_equal(target.array, problem.train.target[[400, 0, 450]])


class Asks:
    input_names = ("series",)


def test_whole_years_of_dates_keep_the_last_for_the_test(table):
    n = 4 * 365 + 1  # 2001 to 2004
    problem = load_problem(table({"day": days(n), "y": wave(n)}), target="y", time_column="day")
    assert [len(part) for part in (problem.train, problem.validation, problem.test)] == [2 * 365 - 30, 365, 366]
    assert problem.raw_example("validation", 0)["day"] == "2003-01-01"
    assert problem.raw_example("test", 0)["day"] == "2004-01-01"
    assert problem.preprocessor.cycles == ["year", "week"]  # y has one of seven days
    n -= 30  # not quite four years
    problem = load_problem(table({"day": days(n), "y": wave(n)}), target="y", time_column="day")
    assert len(problem.test) == n - round(0.9 * n)


def test_the_calendar_is_that_of_the_step_to_be_predicted(table):
    n = 1000
    problem = load_problem(table({"day": days(n), "y": wave(n)}), target="y", time_column="day", lookback=3)
    known = problem.preprocessor
    names = known.input_names()
    assert names[:3] == ["y", "sine 1 of the year", "cosine 1 of the year"]
    times = np.array([np.datetime64(day).astype(int) for day in days(n)])
    got = problem.train.inputs["series"][:, -1, names.index("sine 1 of the year")]
    np.testing.assert_allclose(got, np.sin(2 * np.pi * times[3 : 3 + len(got)] / 365.2425), atol=1e-4)
    end = known.encode(Timeline(times.astype(float)[-3:], wave(3)[:, None]))["series"]  # asks for the day after the end
    assert end.shape == (1, 3, len(names))
    assert end[0, -1, 1] == pytest.approx(np.sin(2 * np.pi * (times[-1] + 1) / 365.2425), abs=1e-4)


def test_cycles_that_are_not_in_the_data_or_not_in_the_spacing_are_not_told(table):
    chance = np.random.default_rng(0).normal(size=1000).round(3)
    path = table({"day": days(1000), "y": chance})
    assert load_problem(path, target="y", time_column="day").preprocessor.cycles == ["year"]
    hours = [f"2001-01-{1 + i // 24:02} {i % 24:02}:00" for i in range(24 * 30)]
    y = (np.sin(np.arange(720) * 2 * np.pi / 24) + chance[:720] / 10).round(4)
    assert load_problem(table({"h": hours, "y": y}), target="y", time_column="h").preprocessor.cycles == ["day"]
    assert load_problem(table({"n": range(1000), "y": chance}), target="y", time_column="n").preprocessor.cycles == []


def test_missing_values_are_the_last_known_and_marked_and_not_asked_for(table):
    y = [str(value) for value in wave(200)]
    y[50] = y[51] = y[190] = ""
    problem = load_problem(table({"t": range(200), "y": y}), target="y", time_column="t", lookback=4)
    assert problem.preprocessor.input_names() == ["y", "y is missing"]
    assert [len(part) for part in (problem.train, problem.validation, problem.test)] == [154, 20, 19]
    assert any("3 missing" in note for note in problem.notes)
    row = int(np.flatnonzero([problem.raw_example("train", i)["t"] == "52" for i in range(154)])[0])
    values = problem.preprocessor.decode(problem.train.inputs["series"][row, :, 0])
    np.testing.assert_allclose(values, [float(y[48])] + 3 * [float(y[49])], rtol=1e-5)
    assert problem.train.inputs["series"][row, :, 1].tolist() == [0, 0, 1, 1]


def test_rows_out_of_order_twins_and_gaps_are_told(table):
    y, t = wave(200), np.arange(200)
    shuffled = np.random.default_rng(0).permutation(200)
    one = load_problem(table({"t": t, "y": y}), target="y", time_column="t")
    other = load_problem(table({"t": t[shuffled], "y": y[shuffled]}), target="y", time_column="t")
    np.testing.assert_array_equal(one.train.inputs["series"], other.train.inputs["series"])
    assert any("sorted" in note for note in other.notes) and not any("sorted" in note for note in one.notes)
    twins = load_problem(table({"t": [*t, 10], "y": [*y, y[10] + 1]}), target="y", time_column="t", lookback=4)
    assert any("rows: 1 with the time of another" in note for note in twins.notes)
    np.testing.assert_allclose(twins.preprocessor.decode(twins.train.target[6]), y[10] + 0.5, rtol=1e-5)
    gap = load_problem(table({"t": [*t[:90], *(t[90:] + 7)], "y": y}), target="y", time_column="t")
    assert "dates: 200 steps of 1, 0 to 206" in gap.notes
    assert "dates: 1 gap (after 89, line 92), stepped over; add rows without a target to keep the time" in gap.notes
    with pytest.raises(
        DataError, match=r"line 3: 100 of 200 rows have a time that another has, as if there were several"
    ):
        load_problem(table({"t": t // 2, "y": y}), target="y", time_column="t")


def test_other_columns_of_numbers_are_read_too_and_text_is_not(table):
    n = 200
    columns = {
        "t": range(n),
        "rain": wave(n)[::-1],
        "town": ["Rome"] * n,
        "still": [3] * n,
        "y": wave(n),
        "z": range(n),
    }
    problem = load_problem(table(columns), target="y", time_column="t", drop=["z"])
    assert problem.preprocessor.input_names() == ["y", "rain"]
    assert {"columns: town left out, the same in all rows", "columns: still left out, the same in all of the training part"} <= set(problem.notes)  # fmt: skip


def test_the_preprocessor_survives_json_and_reads_another_table(table):
    n = 1500
    problem = load_problem(
        table({"day": days(n), "x": wave(n) ** 2, "y": wave(n)}), target="y", time_column="day", lookback=6
    )
    known = problem.preprocessor
    again = preprocessor_from_json(json.loads(json.dumps(known.to_json())))
    assert again == known
    path = table({"y": wave(n), "more": ["a"] * n, "x": wave(n) ** 2, "day": days(n)}, "other.csv")
    line = again.read(read_table(Path(path)))
    np.testing.assert_array_equal(
        again.examples(line).inputs["series"][: len(problem.train)], problem.train.inputs["series"]
    )
    with pytest.raises(DataError, match="column 'x' is missing; expected those of training: day, y, x"):
        again.read(read_table(Path(table({"day": days(9), "y": wave(9)}, "third.csv"))))
    with pytest.raises(DataError, match="line 3, column y: 'cold' is not a number"):
        again.read(read_table(Path(table({"day": days(3), "y": [1, "cold", 3], "x": [1, 2, 3]}, "fourth.csv"))))


def test_the_source_loads_the_same_problem_from_anywhere(table, tmp_path, monkeypatch):
    table({"t": range(100), "y": wave(100)})
    monkeypatch.chdir(tmp_path)
    problem = load_problem("series.csv", target="y", time_column="t", lookback=7)
    monkeypatch.chdir("/")
    again = load_problem(**json.loads(json.dumps(problem.source)))
    assert (again.fingerprint, again.notes) == (problem.fingerprint, problem.notes)
    np.testing.assert_array_equal(again.test.inputs["series"], problem.test.inputs["series"])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"time_column": "y"}, OptionError, "time_column: y; it is the target"),
        ({"time_column": "u"}, OptionError, "time_column: u: .* has no such column"),
        ({"time_column": "t", "lookback": 0}, OptionError, "lookback: 0; expected a whole number"),
        ({"time_column": "t", "lookback": 90}, DataError, "100 steps; expected 20 to learn from beside a window of 90"),
        ({"time_column": "t", "task": "classification"}, OptionError, "task: classification; a series is asked"),
        (
            {"time_column": "t", "test_data": "more.csv"},
            OptionError,
            "--test-data: .*series.csv holds a series, split by time",
        ),
        ({"lookback": 3}, OptionError, "--lookback: .* holds a table of separate rows; expected a series"),
    ],
)
def test_options_that_do_not_fit(table, options, error, words):
    with pytest.raises(error, match=words):
        load_problem(table({"t": range(100), "y": wave(100)}), target="y", **options)


def test_a_target_that_says_nothing(table):
    with pytest.raises(DataError, match="the target y is the same, or missing, in all of the training part"):
        load_problem(table({"t": range(100), "y": [5] * 80 + list(range(20))}), target="y", time_column="t")
    with pytest.raises(DataError, match="y is missing in all of the test part"):
        load_problem(table({"t": range(100), "y": [*range(90), *[""] * 10]}), target="y", time_column="t")
    with pytest.raises(DataError, match="2 steps; expected 20"):
        load_problem(table({"t": range(2), "y": [1, 2]}), target="y", time_column="t")
    with pytest.raises(OptionError, match="--time-column: housing holds a table of separate rows; expected a series"):
        load_problem("housing", time_column="AGE")


def test_the_temperatures_of_melbourne():
    if not shelf.find("temperatures").at_hand:
        pytest.skip("temperatures is not on this machine (PELLUCID_DATA)")
    problem = load_problem("temperatures")
    assert problem.preprocessor.input_spec() == SeriesSpec(30, 5)
    assert [len(part) for part in (problem.train, problem.validation, problem.test)] == [2890, 365, 365]
    assert problem.raw_example("test", 0)["Date"] == "1990-01-01" and problem.raw_example("test", 364)["Temp"] == "13"
