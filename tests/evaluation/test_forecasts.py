"""Forecasts of several steps, their interval and its coverage; baselines with a season, a drift, and several series."""

import numpy as np
import pytest

from pellucid.data.load import load_problem
from pellucid.data.series.seasons import find_season
from pellucid.data.series.timestamps import DAY_FIRST, NUMBERS, Clock
from pellucid.data.series.windows import SlidingWindows
from pellucid.evaluation.baselines import baselines
from pellucid.evaluation.forecasts import interval_sentence, measure_interval, rolling
from pellucid.runs.records import ForecastInterval
from pellucid.tensor import Tensor


class Last:
    """Predicts the last value again."""

    def __call__(self, series):
        return Tensor(np.ascontiguousarray(series.numpy()[:, -1, 0]))


@pytest.fixture
def walk(tmp_path):
    def load(rows, header="t,y", **options):
        path = tmp_path / "walk.csv"
        path.write_text("\n".join([header, *rows]))
        return load_problem(str(path), target="y", time_column="t", lookback=3, **options)

    return load


def test_an_interval_holds_what_it_is_said_to_hold(walk):
    chance = np.random.default_rng(0)
    y = np.cumsum(chance.normal(size=6000))
    problem = walk([f"{i},{value:.5f}" for i, value in enumerate(y)])
    interval = measure_interval(Last(), problem.preprocessor, problem.validation, problem.test)
    assert interval.level == 0.9 and len(interval.half_widths) == 7 and interval.counts[0] == 300
    assert all(0.83 < share < 0.97 for share in interval.coverage)
    std = problem.preprocessor.columns[0].std
    for ahead, half in enumerate(interval.half_widths, 1):  # a random walk: the error grows with the root
        assert half * std == pytest.approx(1.645 * np.sqrt(ahead), rel=0.2)
    assert interval_sentence(interval).startswith("meant to hold 90% of values; ")


def test_the_coverage_is_counted_on_the_test_part_by_hand(walk):
    y = np.arange(200) % 2 * 1.0
    y[180:] = np.where(np.arange(20) % 5 == 4, 9.0, y[180:])  # in the test part alone
    problem = walk([f"{i},{value}" for i, value in enumerate(y)])
    interval = measure_interval(Last(), problem.preprocessor, problem.validation, problem.test)
    std = problem.preprocessor.columns[0].std
    assert interval.half_widths[0] * std == pytest.approx(1)
    changes = np.abs(np.diff(y[179:]))
    assert interval.coverage[0] == pytest.approx((changes <= 1.0001).mean()) and interval.counts[0] == 20
    assert interval.counts[2] == 18  # a forecast of three steps ends within the part


def test_there_is_no_interval_where_there_is_too_little_to_measure_it_on(walk):
    problem = walk([f"{i},{i % 5}" for i in range(40)])
    assert len(problem.validation) == 4
    assert measure_interval(Last(), problem.preprocessor, problem.validation, problem.test) is None
    assert "3 steps ahead" in interval_sentence(ForecastInterval(0.9, [1.0] * 7, [0.9] * 7, [50] * 7), 3)


def test_forecasts_from_many_starts_are_those_from_each_alone(walk):
    problem = walk([f"{i},{np.sin(i):.4f},{i % 4}" for i in range(200)], "t,y,z")
    windows = problem.test.inputs["series"]

    def network(series):
        return Tensor(series.numpy()[:, -1].sum(1) * np.float32(0.5))

    starts = windows.asked[[0, 4, 9]]
    together = rolling(network, problem.preprocessor, windows.features, starts, 3)
    for row, start in zip(together, starts, strict=True):
        alone = rolling(network, problem.preprocessor, windows.features[: start + 1], np.array([start]), 3)[0]
        np.testing.assert_allclose(row, alone, rtol=1e-6)
    z = windows.features[starts - 1, 1]  # stays at its last value
    np.testing.assert_allclose(together[:, 1], (together[:, 0] + z) * 0.5, rtol=1e-6)


# ---- baselines ---------------------------------------------------------------------------------------------------------


def test_baselines_with_a_season_and_a_drift_by_hand(walk):
    y = np.array([3.0, 1, 4, 1, 5, 9, 2] * 30) + np.arange(210) * 0.25
    days = [str(np.datetime64("2021-01-01") + i) for i in range(210)]
    problem = walk([f"{d},{v}" for d, v in zip(days, y, strict=True)])
    assert problem.preprocessor.season == 7
    known, train, test = problem.preprocessor, problem.train, problem.test
    found = baselines("regression", train.inputs, known.decode(train.target), test.inputs, known.decode(test.target), decode=known.decode)  # fmt: skip
    rows = np.arange(189, 210)
    rmse = lambda said: pytest.approx(np.sqrt(np.mean((said - y[rows]) ** 2)), rel=1e-4)
    assert found["persistence"]["rmse"] == rmse(y[rows - 1])
    assert found["seasonal_naive"]["rmse"] == rmse(y[rows - 7])
    slope = (y[167] - y[2]) / 165
    assert found["drift"]["rmse"] == rmse(y[rows - 1] + slope)


def test_baselines_of_several_series_are_in_their_own_units(walk):
    base = np.random.default_rng(0).normal(size=200).cumsum()
    rows = [f"{i},{name},{scale * (base[i] + 50):.6f}" for i in range(200) for name, scale in (("a", 1), ("b", 1000))]
    problem = walk(rows, "t,name,y", series="name")
    known, train, test = problem.preprocessor, problem.train, problem.test
    target = [known.decode_for(part.target, [part.inputs["series"]]) for part in (train, test)]
    found = baselines("regression", train.inputs, target[0], test.inputs, target[1], decode=known.decode)
    changes = np.diff(base)[179:199]
    expected = np.sqrt(np.mean(np.concatenate([changes, 1000 * changes]) ** 2))
    assert found["persistence"]["rmse"] == pytest.approx(expected, rel=1e-3)
    slopes = (base[159] - base[2]) / 157
    drift = np.sqrt(np.mean(np.concatenate([changes - slopes, 1000 * (changes - slopes)]) ** 2))
    assert found["drift"]["rmse"] == pytest.approx(drift, rel=1e-3)
    assert found["autoregression"]["rmse"] < 2 * expected


def test_the_linear_baseline_sees_what_is_known_of_the_step(walk):
    chance = np.random.default_rng(1)
    promo = chance.integers(0, 2, 300)
    rows = [f"{i},{5 * promo[i] + chance.normal() / 10:.4f},{promo[i]}" for i in range(300)]
    scores = []
    for options in ({}, {"known": ["promo"]}):
        problem = walk(rows, "t,y,promo", **options)
        known, train, test = problem.preprocessor, problem.train, problem.test
        found = baselines("regression", train.inputs, known.decode(train.target), test.inputs, known.decode(test.target), decode=known.decode)  # fmt: skip
        scores.append(found["autoregression"]["rmse"])
    assert scores[0] > 2 and scores[1] == pytest.approx(0.1, rel=0.5)


def test_the_season_is_that_of_the_clock_or_is_found():
    wave = lambda n, period: np.sin(np.arange(n) * 2 * np.pi / period)
    hours = Clock("t", DAY_FIRST, 1 / 24)
    assert find_season([wave(400, 24)], hours) == 24
    assert find_season([wave(60, 12)], Clock("t", DAY_FIRST, 30.4, months=1)) == 12
    assert find_season([wave(60, 4)], Clock("t", DAY_FIRST, 91.3, months=3)) == 4
    assert find_season([wave(100, 5)], Clock("t", DAY_FIRST, 1.0, weekdays=[0, 1, 2, 3, 4])) == 5
    assert find_season([wave(300, 17)], Clock("t", NUMBERS, 1.0)) == 17
    assert find_season([np.random.default_rng(0).normal(size=300).cumsum()], Clock("t", NUMBERS, 1.0)) == 0
    assert find_season([wave(10, 24)], hours) == 0  # not two of them
    assert find_season([np.sin(np.arange(300) * 2 * np.pi / 60)], Clock("t", NUMBERS, 1.0)) == 60  # smooth


def test_a_season_that_reaches_before_the_series_is_the_last_value():
    features = np.arange(20.0)[:, None]
    features = features.astype(np.float32)
    test = SlidingWindows(features, 3, np.array([0, 10]), starts=np.array([0, 8]), season=4)
    train = SlidingWindows(features, 3, np.arange(12))
    found = baselines("regression", {"series": train}, features[3:15, 0], {"series": test}, np.array([3.0, 13.0]))
    assert found["seasonal_naive"]["mae"] == pytest.approx((abs(2 - 3) + abs(9 - 13)) / 2)
