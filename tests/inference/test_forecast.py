"""Forecasts feed answers back, at the right times; the baselines of a series are what they say."""

import numpy as np
import pytest

from pellucid import nn
from pellucid.data.load import load_problem
from pellucid.data.series.windows import Timeline
from pellucid.data.table.read import read_table
from pellucid.errors import DataError, NonFiniteError
from pellucid.evaluation.baselines import baselines
from pellucid.evaluation.series_baselines import ORDER
from pellucid.inference.forecast import forecast


class Sum(nn.Module):
    """Asks for weight * (the last two values of feature 0), so that a forecast can be done over by hand."""

    def __init__(self, weight=0.5):
        super().__init__()
        self.weight = weight
        self.seen = []

    def forward(self, series):
        self.seen.append(series.numpy()[0])
        return (series[:, -1, 0] + series[:, -2, 0]) * self.weight


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "months.csv"
    x = np.random.default_rng(0).normal(size=120).round(2)
    lines = [f"{1991 + i // 12}-{1 + i % 12:02}-01,{x[i]},{i % 7}" for i in range(120)]
    path.write_text("\n".join(["month,y,z", *lines]))
    return path


def test_answers_are_fed_back_and_other_columns_stay(path):
    known = load_problem(str(path), target="y", time_column="month", lookback=5).preprocessor
    table, network = read_table(path), Sum()
    steps = forecast(network, known, table, 4)
    assert [step.time for step in steps] == ["2001-01-01", "2001-02-01", "2001-03-01", "2001-04-01"]
    mean, std = known.columns[0].mean, known.columns[0].std
    y = [(float(value) - mean) / std for value in table.columns[1]]
    for answer in (step.value for step in steps):
        y.append((y[-1] + y[-2]) / 2)
        assert answer == pytest.approx(y[-1] * std + mean, rel=1e-4, abs=1e-4)
    assert network.seen[3].shape == (5, len(known.input_names()))
    np.testing.assert_allclose(network.seen[3][:, 0], y[118:123], rtol=1e-4, atol=1e-5)
    z = (119 % 7 - known.columns[1].mean) / known.columns[1].std
    np.testing.assert_allclose(network.seen[3][2:, 1], z, rtol=1e-4)
    february = known.input_names().index("sine 1 of the year")
    day = (np.datetime64("2001-02-01") - np.datetime64("1970-01-01")).astype(int)
    assert network.seen[1][-1, february] == pytest.approx(np.sin(2 * np.pi * day / 365.2425), abs=1e-4)


def test_missing_values_are_the_last_known_ones_and_marked_as_in_training(tmp_path):
    path = tmp_path / "days.csv"
    random = np.random.default_rng(1)
    y, z = random.normal(size=200).round(2) - 90, random.normal(size=200).round(2) + 5
    z[[30, 31, 60, *range(190, 200)]] = np.nan  # of the last window all are missing
    y[[40, 194, 195, 199]] = np.nan
    rows = [f"{i},{a},{b}".replace("nan", "") for i, (a, b) in enumerate(zip(y, z, strict=True))]
    path.write_text("\n".join(["t,y,z", *rows]))
    known = load_problem(str(path), target="y", time_column="t", lookback=6).preprocessor
    assert known.input_names() == ["y", "z", "y is missing", "z is missing"]
    table, network = read_table(path), Sum()
    steps = forecast(network, known, table, 9)
    line = known.read(table)
    times, values = line.times, line.values
    for seen, answer in zip(network.seen, [step.value for step in steps], strict=True):
        np.testing.assert_allclose(seen, known.encode(Timeline(times, values))["series"][-1], rtol=1e-6)
        times, values = np.append(times, times[-1] + 1), np.vstack([values, [answer, np.nan]])
    np.testing.assert_allclose(known.filled(Timeline(times, values))[-10:, 1], z[189])
    assert network.seen[0][:, 3].tolist() == [1.0] * 6 and network.seen[0][:, 2].tolist() == [1, 1, 0, 0, 0, 1]


def test_what_cannot_be_gone_on_with(path, tmp_path):
    known = load_problem(str(path), target="y", time_column="month", lookback=5).preprocessor
    short = tmp_path / "short.csv"
    short.write_text("\n".join(path.read_text().splitlines()[:4]))
    with pytest.raises(DataError, match="3 steps; expected 5 at least, the window"):
        forecast(Sum(), known, read_table(short), 1)
    with pytest.raises(NonFiniteError, match="step 1 after its end is predicted as nan"):
        forecast(Sum(float("nan")), known, read_table(path), 1)


def test_an_autoregression_finds_the_rule_and_persistence_repeats():
    random, y = np.random.default_rng(0), [0.0, 0.0]
    for _ in range(600):
        y.append(1.2 * y[-1] - 0.5 * y[-2] + 0.1 * random.normal())
    y = np.array(y)
    windows = np.lib.stride_tricks.sliding_window_view(y[:-1], 20)[:, :, None].astype(np.float32)
    decode = lambda x: x * 3 + 7
    target = decode(y[20:])
    parts = [({"series": windows[rows]}, target[rows]) for rows in (slice(0, 400), slice(400, None))]
    found = baselines("regression", *parts[0], *parts[1], decode=decode, network=parts[1][1])
    assert list(found) == ["persistence", "autoregression"] and ORDER <= 20
    assert found["persistence"]["rmse"] == pytest.approx(3 * np.sqrt(np.mean(np.diff(y)[419:] ** 2)), rel=1e-4)
    assert found["autoregression"]["rmse"] == pytest.approx(0.3, rel=0.1)  # the noise is all that is left
    assert found["autoregression"].gain[0] == pytest.approx(found["autoregression"]["rmse"])


def test_the_records_to_beat_on_the_temperatures():
    try:
        problem = load_problem("temperatures")
    except DataError as error:
        pytest.skip(str(error))
    known, train, test = problem.preprocessor, problem.train, problem.test
    found = baselines("regression", train.inputs, known.decode(train.target), test.inputs, known.decode(test.target),
                      decode=known.decode)  # fmt: skip
    assert found["persistence"]["rmse"] == pytest.approx(2.582, abs=5e-4)
    assert found["autoregression"]["rmse"] == pytest.approx(2.1977, abs=5e-4)
