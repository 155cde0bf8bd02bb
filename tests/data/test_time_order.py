"""Tables with dates: a hint of a split by time where one at random flatters, and zones that are mixed."""

import datetime

import numpy as np
import pytest

from pellucid.data.load import load_problem
from pellucid.data.table.dates import zones_told

FIRST = datetime.date(2020, 1, 1)
CHANCE = np.random.default_rng(0)
WALK = np.cumsum(CHANCE.normal(size=800))


@pytest.fixture
def hints(write):
    """The notes that speak of --split time, for a table of (date, y) in this order."""

    def hints(name, rows, form="%Y-%m-%d", **options):
        lines = [
            f"{day.strftime(form)},{x:.3f},{y:.3f}"
            for (day, y), x in zip(rows, CHANCE.normal(size=len(rows)), strict=True)
        ]
        path = write("\n".join([f"{name},x,y", *lines]) + "\n", "dated.csv")
        notes = load_problem(str(path), target="y", **options).notes
        assert all(len(note) <= 115 for note in notes if note.startswith("split"))
        return [note for note in notes if "--split time" in note]

    return hints


def days(count):
    return [FIRST + datetime.timedelta(days=int(i)) for i in range(count)]


def test_rows_that_are_dated_and_drift_get_a_hint_that_works(hints):
    rows = list(zip(days(800), WALK, strict=True))
    (note,) = hints("date", rows)
    assert note.startswith("split: dated by date; a simple model: ") and note.endswith("; --split time:date")
    assert hints("when", rows, split="time:when") == []
    shuffled = [rows[i] for i in CHANCE.permutation(800)]
    (note,) = hints("recorded_at", shuffled, "%d.%m.%Y")  # by its name
    assert note.endswith("--split time:recorded_at")
    assert hints("recorded_at", shuffled, "%d.%m.%Y", split="time:recorded_at") == []
    (note,) = hints("k", rows, "%d/%m/%Y %H:%M")  # by the order of the file
    assert note.endswith("--split time:k")


def test_dates_that_say_nothing_of_the_order_get_none(hints):
    born = [FIRST - datetime.timedelta(days=int(i)) for i in CHANCE.integers(6000, 28000, 800)]
    ages = np.array([(FIRST - day).days for day in born])
    rows = list(zip(born, 10 * np.sin(ages / 3000), strict=True))
    for name in ("birthday", "date of birth", "dob", "member_since"):
        assert hints(name, rows) == []
    assert hints("date", list(zip(days(800), CHANCE.normal(size=800), strict=True))) == []
    weekly = [(day, 3.0 * day.weekday() + e) for day, e in zip(days(800), CHANCE.normal(size=800) / 9, strict=True)]
    assert hints("date", weekly) == []


def test_a_split_by_time_reads_dates_as_columns_do(write):
    lines = [f"{day.strftime('%d.%m.%Y')},{i % 5}" for i, day in enumerate(days(200))]
    problem = load_problem(str(write("\n".join(["when,y", *lines[::-1]]))), target="y", split="time:when")
    assert problem.raw_example("train", 0)["when"] == days(140)[-1].strftime("%d.%m.%Y")
    assert "split: 70/15/15 by class" not in problem.notes


T = "2021-03-01T08:00"


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ({f"{T}+02:00": 3, f"{T}Z": 2, T: 5}, "at has +02:00 and Z or none (5 of 10 read as UTC)"),
        ({f"{T}Z": 2, T: 1}, "at has Z or none (1 of 3 read as UTC)"),
        ({f"{T} CET": 2, f"{T} CEST": 1}, "at has CET and CEST (3 of 3 read as UTC)"),
        ({"Mon Aug 11 10:47:00 CEST 2021": 1}, "at has CEST (1 of 1 read as UTC)"),
        ({f"{T}+0100": 1, f"{T}:05.25+02": 1}, "at has +01:00 and +02:00"),
        ({f"{T}+01:00": 1, f"{T}:00+0100": 1}, None),
        ({f"{T}Z": 2}, None),
        ({T: 2, "2021-03-02": 1}, None),
        ({"8:15 PM": 1, "8:15 am": 1, "2021-03-01 8 pm": 1}, None),
    ],
)
def test_zones_that_are_mixed_or_missing(texts, told):
    assert zones_told("at", texts) == told


def test_hours_are_those_on_the_wall_days_those_of_the_instants_and_it_is_told(write):
    zones = ("+02:00", "Z", "", "-05:00")
    rows = [f"2021-03-{1 + i // 24:02}T{i % 24:02}:30{zones[i % 7 % 4]},{i % 24 + i / 100}" for i in range(480)]
    problem = load_problem(str(write("\n".join(["at,y", *rows]))), target="y")
    (note,) = (note for note in problem.notes if "UTC" in note)
    assert note.startswith("dates: at has ") and note.endswith("; hours as written, days by UTC; --read exact=NAME")
    assert " or none (" in note and " of 480 read as UTC)" in note
    names, values = problem.preprocessor.input_names(), problem.preprocessor
    (column,) = values.dates
    moments = column.read(np.array([f"{T}{zone}" for zone in zones], dtype=object))[0]
    assert len(set(moments.wall.tolist())) == 1
    assert ((moments.utc - moments.utc[1]) * 24).round(6).tolist() == [-2, 0, 0, 5] and "at: days" in names
