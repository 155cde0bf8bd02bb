"""Times of a series: every usual way to write a date, what is refused, and the steps after the last."""

import numpy as np
import pytest

from pellucid.data.series.timestamps import DAY_FIRST, MONTH_FIRST, NUMBERS, fit_clock, read_times
from pellucid.data.table.read import read_table
from pellucid.errors import DataError


@pytest.fixture
def column(tmp_path):
    def read(*texts, form=None):
        path = tmp_path / "series.csv"
        path.write_text("when,y\n" + "".join(f"{text},{i}\n" for i, text in enumerate(texts)))
        return read_times(read_table(path), 0, form)

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
        (("Jan 2024", "Mai 2024"), "line 3: the time when is 'Mai 2024'"),
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
