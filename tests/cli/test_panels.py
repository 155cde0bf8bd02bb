"""Several series, columns known ahead and months from the command line: trained, gone on with, drawn."""

import csv
import json

import numpy as np
import pytest

QUICK = ("--epochs", 4, "--hidden-sizes", 8, "--lookback", 7)


def day(i):
    return str(np.datetime64("2021-01-01") + i)


@pytest.fixture
def shops(here):
    rows = [(day(i), shop, round(size * (10 + i % 7), 2)) for i in range(150) for shop, size in (("a", 1), ("b", 100))]
    return save(here / "shops.csv", "day,shop,y", rows)


@pytest.fixture
def sales(here):
    names = ("Fri", "Sat", "Sun", "Mon", "Tue", "Wed", "Thu")
    rows = [(day(i), 10 + i % 7 + 5 * (i % 3 == 0), int(i % 3 == 0), names[i % 7]) for i in range(150)]
    return save(here / "sales.csv", "day,sold,promo,name", rows)


def save(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_one_model_learns_several_series_and_goes_on_with_each(run, here, shops):
    refused = run("train", shops, "--target", "y", "--time-column", "day", code=2).stderr
    assert "line 3: 150 of 300 rows" in refused and "write --series shop" in refused
    result = run("train", shops, "--target", "y", "--time-column", "day", "--series", "shop", *QUICK)
    assert "series: 2 by shop, of 150 steps each" in result.stderr
    assert "than the value one season before 0, " in result.stdout.splitlines()[1]  # the best of the baselines
    said = run("predict", "last", "--horizon", 2)
    assert "interval: meant to hold 90% of values; " in said.stderr and "held-out values lay inside" in said.stderr
    rows = list(csv.DictReader(said.stdout.splitlines()))
    assert [(row["shop"], row["day"]) for row in rows] == [(s, day(i)) for s in "ab" for i in (150, 151)]
    for row, size in zip(rows, (1, 1, 100, 100), strict=True):
        assert 9 * size < float(row["prediction"]) < 17 * size
        assert float(row["lower"]) < float(row["prediction"]) < float(row["upper"])
    own = json.loads(run("evaluate", "last", "--json").stdout)
    assert own["n"] == 30
    log = (here / "runs/shops-lstm-1/metrics.jsonl").read_text().splitlines()
    assert own["rmse"] == pytest.approx(json.loads(log[-1])["test"]["scores"]["rmse"])
    page = (here / "runs/shops-lstm-1/report.html").read_text()
    assert (
        page.count('class="band"') >= 2 and "The forecast over time" in page and "meant to hold 90% of values" in page
    )
    other = save(here / "other.csv", "day,shop,y", [(day(i), "c", 5 + i % 7) for i in range(30)])
    assert (
        "series: 1 by shop that training had not, scaled by their own rows: c" in run("predict", "last", other).stderr
    )


def test_columns_known_ahead_are_asked_for_by_predict(run, here, sales):
    result = run("train", sales, "--target", "sold", "--time-column", "day", "--known", "promo", *QUICK)
    assert "known: promo of the step to be predicted; predict needs rows with them and no sold" in result.stderr
    assert "name follows from the weekday of day" in result.stderr
    assert "next    pellucid explain sales-lstm-1 --example " in result.stdout
    refused = run("predict", "last", sales, code=2).stderr
    assert (
        "no row to come; expected 1, with day and promo filled in and sold empty" in refused
        and f"from {day(150)} on" in refused
    )
    more = here / "more.csv"
    more.write_text(sales.read_text() + "".join(f"{day(i)},,{promo},\n" for i, promo in ((150, 1), (151, 0))))
    rows = list(csv.DictReader(run("predict", "last", more).stdout.splitlines()))
    assert [row["day"] for row in rows] == [day(150), day(151)]
    more.write_text(sales.read_text() + "".join(f"{day(i)},,{promo},\n" for i, promo in ((150, 0), (151, 0))))
    without = list(csv.DictReader(run("predict", "last", more).stdout.splitlines()))
    assert without[0]["prediction"] != rows[0]["prediction"]
    assert "2 rows after" in run("predict", "last", more, "--horizon", 3, code=2).stderr


def test_months_come_back_as_months_and_short_parts_give_no_interval(run, here):
    months = [str(np.datetime64("2015-01") + i) for i in range(60)]
    path = save(here / "passengers.csv", "month,count", [(m, 100 + i + 10 * (i % 12)) for i, m in enumerate(months)])
    result = run("train", path, "--target", "count", "--time-column", "month", *QUICK)
    assert "dates: 60 steps of 1 month, 2015-01 to 2019-12" in result.stderr
    said = run("predict", "last", "--horizon", 3)
    assert [line.split(",")[0] for line in said.stdout.splitlines()] == ["month", "2020-01", "2020-02", "2020-03"]
    assert said.stdout.splitlines()[0] == "month,prediction" and "interval" not in said.stderr
    assert 'class="band"' not in (here / "runs/passengers-lstm-1/report.html").read_text()


def test_options_of_series_need_a_column_of_times(run, shops):
    for option in ("--series", "--known"):
        said = run("train", shops, "--target", "y", option, "shop", code=2).stderr
        assert f"{option}: " in said and "expected a series (a table with --time-column)" in said
