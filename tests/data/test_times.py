"""Times of a series: every usual way to write a date, what is refused, and the steps after the last."""

import numpy as np
import pytest

from pellucid.data.series.timestamps import DAY_FIRST, MONTH_FIRST, NUMBERS, fit_clock, moment, read_stamps, read_times
from pellucid.data.table.read import read_table
from pellucid.data.table.read_options import ReadOptions
from pellucid.errors import DataError


@pytest.fixture
def column(tmp_path):
    def read(*texts, form=None, said=None):
        path = tmp_path / "series.csv"
        path.write_text("when,y\n" + "".join(f"{text},{i}\n" for i, text in enumerate(texts)))
        return read_times(read_table(path, options=ReadOptions.parse(said)), 0, form)

    return read


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("1970-01-02", 1), ("1970/1/2", 1), ("1970.01.02", 1), ("1970-02", 31), ("19700102", 1), ("1969-12-31", -1),
        ("2024-02-29", 19782), ("1970-01-02 06:00", 1.25), ("1970-01-02T06:00:00Z", 1.25), ("1970-01-02 6:00", 1.25),
        ("1970-01-02T06:00:00+03:00", 1.125), ("31.12.1969", -1), ("31/12/1969", -1), ("12/31/1969", -1),
        ("31-12-1969 12:00", -0.5),
    ],
)  # fmt: skip
def test_dates_are_days_since_1970(column, text, days):
    assert column(text)[0].tolist() == pytest.approx([days], abs=1e-9)


def test_what_a_column_is_says_the_whole_of_it(column):
    assert column("1/2/2024", "13/2/2024")[1] == DAY_FIRST
    assert column("2/1/2024", "2/13/2024")[1] == MONTH_FIRST
    times, form = column("1/2/2024", "1/3/2024", "2/1/2024")  # by days these would run back
    assert form == MONTH_FIRST and np.diff(times).tolist() == [1, 29]
    assert column("1.2.2024", "1.3.2024")[1] == DAY_FIRST  # dots
    assert column("1.5", "2.5", "10")[1] == NUMBERS
    assert column("3/4/2024", form=MONTH_FIRST)[0] != column("3/4/2024", form=DAY_FIRST)[0]


def test_the_user_says_whether_the_day_comes_first(column):
    for said, form, days in (("dayfirst", DAY_FIRST, [19754, 19755]), ("monthfirst", MONTH_FIRST, [19724, 19755])):
        times, found = column("1/2/2024", "2/2/2024", said=f"dates={said}")
        assert times.tolist() == days and found == form
    assert column("1", "2", said="dates=dayfirst")[1] == NUMBERS
    assert column("2024-01-02", said="dates=monthfirst")[0].tolist() == [19724]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("2024-01-01", "2024-02-30"), r"line 3: the time when is '2024-02-30'; expected a date such as"),
        (("2024-01-01", ""), "line 3: the time when is missing"),
        (("1", "2", "soon"), "line 4: the time when is 'soon'"),
        (("yesterday", "today"), "line 2: the time when is 'yesterday'"),
        (("1/2/2024", "2/2/2024"), "'1/2/2024' may begin with the day or with the month"),
        (("1/2/24", "1/3/24"), "'1/2/24' may begin with the day or with the month"),
        (("2024-01-01", "2024-01-01 25:00"), "line 3: the time when is '2024-01-01 25:00'"),
        (("Jan 2024", "Mia 2024"), "line 3: the time when is 'Mia 2024'"),
    ],
)
def test_what_is_no_time_is_refused_with_its_line(column, texts, words):
    with pytest.raises(DataError, match=words):
        column(*texts)


@pytest.mark.parametrize(
    ("texts", "following"),
    [
        (["2024-02-27", "2024-02-28"], ["2024-02-29", "2024-03-01"]),
        (["2024-01-01 22:00", "2024-01-01 23:00"], ["2024-01-02", "2024-01-02 01:00:00"]),
        (["2023-11-01", "2023-12-01", "2024-01-01"], ["2024-02-01", "2024-03-01"]),
        (["2023-11-15", "2023-12-15", "2024-01-15"], ["2024-02-15", "2024-03-15"]),
        (["2023-11-30", "2023-12-31", "2024-01-31"], ["2024-02-29", "2024-03-31"]),
        (["2022-03-31", "2022-06-30", "2022-09-30"], ["2022-12-31", "2023-03-31"]),
        (["2021-06-01", "2022-06-01", "2023-06-01"], ["2024-06-01", "2025-06-01"]),
        (["1.5", "2", "2.5"], ["3", "3.5"]),
    ],
)
def test_the_steps_after_the_last(column, texts, following):
    times, form = column(*texts)
    clock = fit_clock("when", form, times)
    assert [clock.text(clock.after(times[-1], k)) for k in (1, 2)] == following


def clock_of(texts, tmp_path, form=None):
    path = tmp_path / "stamps.csv"
    path.write_text("when;y\n" + "".join(f"{text};{i}\n" for i, text in enumerate(texts)))
    stamps = read_stamps(read_table(path), 0, form)
    return stamps, fit_clock("when", stamps.form, np.unique(stamps.times), stamps)


def weekdays_from(first, count):
    return [str(np.busday_offset(first, i)) for i in range(count)]


LAST_BUSINESS_DAYS = [
    str(np.busday_offset(np.datetime64(f"2023-{m:02}") + 1, -1, roll="forward")) for m in range(1, 13)
]
OPEN_HOURS = [f"{day} {hour:02}:00" for day in weekdays_from("2024-01-01", 15) for hour in range(9, 17)]


@pytest.mark.parametrize(
    ("texts", "following"),
    [
        (["2024-01-01T03:00+01:00", "2024-01-01T04:00+01:00"], ["2024-01-01T05:00+01:00", "2024-01-01T06:00+01:00"]),
        (["2024-01-01 03:00:00-0530", "2024-01-01 04:00:00-0530"], ["2024-01-01 05:00:00-0530", "2024-01-01 06:00:00-0530"]),
        (["2024-01-01T22:00Z", "2024-01-01T23:00Z"], ["2024-01-02T00:00Z", "2024-01-02T01:00Z"]),
        (["2024-03-31T00:00+01:00", "2024-03-31T01:00+01:00", "2024-03-31T03:00+02:00"], ["2024-03-31T04:00+02:00", "2024-03-31T05:00+02:00"]),
        (["2024-01-01T00:00+01:00", "2024-02-01T00:00+01:00"], ["2024-03-01T00:00+01:00", "2024-04-01T00:00+01:00"]),
        (["2024-01", "2024-02"], ["2024-03", "2024-04"]),
        (["2023Q3", "2023Q4"], ["2024Q1", "2024Q2"]),
        (["Q3 2023", "Q4 2023"], ["Q1 2024", "Q2 2024"]),
        (["Oct 2023", "Nov 2023"], ["Dec 2023", "Jan 2024"]),
        (["october 2023", "november 2023"], ["december 2023", "january 2024"]),
        (["31-Oct-2023", "30-Nov-2023"], ["31-Dec-2023", "31-Jan-2024"]),
        (["Feb 27, 2024", "Feb 28, 2024"], ["Feb 29, 2024", "Mar 1, 2024"]),
        (["20240227", "20240228"], ["20240229", "20240301"]),
        (["27.02.2024", "28.02.2024"], ["29.02.2024", "01.03.2024"]),
        (["9/30/2024", "10/1/2024"], ["10/2/2024", "10/3/2024"]),
        (["13/02/24", "14/02/24"], ["15/02/24", "16/02/24"]),
        (["01/31/2024 10:00 AM", "01/31/2024 11:00 AM"], ["01/31/2024 12:00 PM", "01/31/2024 01:00 PM"]),
        (["2024-01-01 00:00:00.250", "2024-01-01 00:00:00.500"], ["2024-01-01 00:00:00.750", "2024-01-01 00:00:01.000"]),
        (weekdays_from("2024-01-01", 20), ["2024-01-29", "2024-01-30", "2024-01-31", "2024-02-01", "2024-02-02", "2024-02-05"]),
        (LAST_BUSINESS_DAYS, ["2024-01-31", "2024-02-29", "2024-03-29", "2024-04-30", "2024-05-31", "2024-06-28"]),
        (OPEN_HOURS, [f"2024-01-22 {hour:02}:00" for hour in range(9, 17)] + ["2024-01-23 09:00"]),
    ],
)  # fmt: skip
def test_times_go_on_in_the_form_they_came(tmp_path, texts, following):
    stamps, clock = clock_of(texts, tmp_path)
    time, got = stamps.times.max(), []
    for _ in following:
        time = clock.after(time)
        got.append(clock.text(time))
    assert got == following
    assert [clock.text(clock.after(stamps.times.max(), k)) for k in (1, 2)] == following[:2]
    assert clock.text(stamps.times.max()) == texts[-1]


def test_a_weekday_is_skipped_only_where_the_data_show_it(tmp_path):
    _, short = clock_of(weekdays_from("2024-01-01", 5), tmp_path)
    assert short.weekdays == []  # five days say nothing of a weekend
    _, shop = clock_of([f"2024-01-{day:02}" for day in range(1, 31) if day % 7], tmp_path)  # closed on Sundays
    assert shop.weekdays == [0, 1, 2, 3, 4, 5]


def test_the_day_or_the_month_comes_first_by_the_whole_column(tmp_path):
    months = [
        f"1/{m}/{y}" for y in (2022, 2023) for m in range(1, 13)
    ]  # of January days, by months, with a leap after each
    stamps, clock = clock_of(months, tmp_path)
    assert stamps.form == DAY_FIRST and clock.months == 1 and clock.text(clock.after(stamps.times[-1])) == "1/1/2024"


def test_a_plain_column_is_read_in_one_go_as_text_by_text(tmp_path):
    texts = [f"2024-0{1 + i % 9}-{1 + i % 28:02} {i % 24:02}:{i % 60:02}" for i in range(200)]
    stamps, _ = clock_of(texts, tmp_path)
    np.testing.assert_array_equal(stamps.times, [moment(text, True)[0] for text in texts])
    with pytest.raises(DataError, match="line 4: the time when is '2024-13-01'"):
        clock_of(["2024-01-01", "2024-01-02", "2024-13-01"], tmp_path)
    with pytest.raises(DataError, match="line 4: the time when is '2024_01_03'"):
        clock_of(["2024-01-01", "2024-01-02", "2024_01_03"], tmp_path)
