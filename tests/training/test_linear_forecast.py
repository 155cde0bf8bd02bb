"""The linear part of a forecaster: what is fitted is ridge regression, changes and logarithms are undone, and the network has the
share that validation gives it."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge

import pellucid as pl
from pellucid.creation import tensor
from pellucid.data.input_spec import SeriesSpec
from pellucid.data.load import load_problem
from pellucid.data.series.seasons import possible_seasons
from pellucid.data.series.windows import SlidingWindows
from pellucid.data.table.read import read_table
from pellucid.errors import OptionError
from pellucid.inference.forecast import forecast
from pellucid.models import lstm
from pellucid.models.blocks.linear_forecast import LinearForecast
from pellucid.runs.run import load_run
from pellucid.training import linear_forecast as fitting
from pellucid.training import session

SMALL = {"hidden_sizes": [4], "cell": "gru", "linear": True, "epochs": 2, "batch_size": 32, "lr": 0.01}


def months(values, start=1990):
    return [f"{start + i // 12}-{1 + i % 12:02}-01,{value:.10g}" for i, value in enumerate(values)]


@pytest.fixture
def problem_of(tmp_path):
    """problem_of(values): a monthly series of them as a data module; with `lines`, those lines under `header`."""

    def problem_of(values=(), lines=None, header="time,y", **options):
        path = tmp_path / "series.csv"
        path.write_text("\n".join([header, *(lines or months(values))]) + "\n")
        return load_problem(str(path), **{"target": "y", "time_column": "time", "lookback": 15, **options})

    return problem_of


def network_for(problem, **options):
    config = lstm.Config(**{"hidden_sizes": (4,), "cell": "gru", "linear": True, **options})
    pl.manual_seed(0)
    return lstm.build(problem.preprocessor.input_spec(), 1, "regression", config)


def linear_answers(network, part):
    return network.linear(tensor(np.asarray(part.inputs["series"]))).numpy()


def seasonal(count=144, noise=0.3, seed=0):
    t = np.arange(count)
    return 10 + 0.05 * t + 4 * np.sin(2 * np.pi * t / 12) + noise * np.random.default_rng(seed).normal(size=count)


def logistic(count=600):
    values = [0.4]
    for _ in range(count - 1):
        values.append(3.9 * values[-1] * (1 - values[-1]))
    return np.array(values)


# ---- ridge regression ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [1e-5, 1e-2, 0.1])
def test_weights_are_those_of_scikit_learns_ridge_on_standardised_columns(penalty):
    random = np.random.default_rng(0)
    x = random.normal(size=(80, 4)) * [1, 5, 0.1, 2] + [0, 3, -1, 10]
    y = x @ [1, -0.2, 3, 0] + random.normal(size=80)
    weights, biases = fitting.ridge(fitting.moments_of(x, y), [penalty, 7.0])
    model = Ridge(alpha=penalty * len(x)).fit((x - x.mean(0)) / x.std(0), y)
    np.testing.assert_allclose(weights[0], model.coef_ / x.std(0), rtol=1e-7)
    np.testing.assert_allclose(x @ weights[0] + biases[0], model.predict((x - x.mean(0)) / x.std(0)), rtol=1e-7)


def test_a_column_that_never_changes_has_no_weight_and_no_columns_give_the_mean():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(30, 2)), random.normal(size=30)
    x[:, 1] = 7.0
    weights, _ = fitting.ridge(fitting.moments_of(x, y), [1e-5])
    assert weights[0, 1] == 0 and weights[0, 0] != 0
    none, bias = fitting.ridge(fitting.moments_of(np.zeros((30, 0)), y), [1e-5, 0.1])
    assert none.shape == (2, 0) and bias == pytest.approx([y.mean()] * 2)


def test_the_plain_autoregression_of_the_pool_is_the_baseline_that_runs_print(problem_of):
    problem = problem_of(seasonal(200, noise=1.0))
    history = fitting.history_of(problem)
    plain, sample = fitting.plain_of(history), fitting.sample_of(history, False, False)
    line = fitting.fitted(plain, sample, history)
    windows = np.asarray(problem.train.inputs["series"], dtype=np.float64)
    design = np.concatenate([windows[:, :, 0], windows[:, -1, 1:]], 1)
    model = LinearRegression().fit(design, problem.train.target)
    ours = windows[:, :, 0] @ line.past + windows[:, -1, 1:] @ line.others + line.bias
    np.testing.assert_allclose(ours, model.predict(design), atol=2e-2)


# ---- changes and logarithms are undone -----------------------------------------------------------------------------------


def test_a_change_is_added_to_the_last_value_by_weights_that_add_up_to_one(problem_of):
    problem = problem_of(np.cumsum(np.random.default_rng(1).normal(size=150)))
    history = fitting.history_of(problem)
    sample = fitting.sample_of(history, False, True)
    candidate = fitting.Candidate(False, True, (1, 2, 12), (), 1e-3)
    line = fitting.fitted(candidate, sample, history)
    assert line.past.sum() == pytest.approx(1) and line.past[-1] == pytest.approx(1 - line.past[-2] - line.past[-12])
    rows = np.flatnonzero(history.learned & (history.ages >= 12))
    weights, bias = fitting.ridge(fitting.moments_of(sample.design[rows][:, [1, 11]], sample.target[rows]), [1e-3])
    x = np.asarray(problem.train.inputs["series"], dtype=np.float64)[:, :, 0]
    by_hand = x[:, -1] + (x[:, [-2, -12]] - x[:, -1:]) @ weights[0] + bias[0]
    np.testing.assert_allclose(x @ line.past + line.bias, by_hand, rtol=1e-9)


def test_a_logarithm_is_taken_and_undone(problem_of):
    growth = 100 * 1.02 ** np.arange(150) * (1 + 0.1 * (np.arange(150) % 12 == 11))
    problem = problem_of(growth)
    network = network_for(problem)
    fitting.fit_linear_forecast(network, problem)
    linear = network.linear
    linear.log_share.assign(tensor(np.float32(1)))
    x, column = problem.validation.inputs["series"], problem.preprocessor.columns[0]
    values = np.asarray(x, dtype=np.float64)
    past = np.log(values[:, :, 0] * column.std + column.mean) - np.log(column.std)
    line = linear.logarithm
    logs = past @ line.past.numpy() + values[:, -1, 1:] @ line.ahead.numpy() + line.bias.item()
    expected = np.exp(logs) * column.std
    ours = linear_answers(network, problem.validation) * column.std + column.mean
    np.testing.assert_allclose(ours, expected, rtol=1e-4)
    np.testing.assert_allclose(ours, growth[len(growth) - len(problem.test) - len(ours) :][: len(ours)], rtol=0.02)


def test_no_logarithm_is_taken_where_a_value_is_not_above_zero_or_nearly_all_are_alike(problem_of):
    assert fitting.history_of(problem_of(seasonal())).zero == pytest.approx(
        -seasonal()[:115].mean() / seasonal()[:115].std(), rel=1e-6
    )
    values = seasonal()
    values[20] = 0.0
    assert fitting.history_of(problem_of(values)).zero is None
    assert fitting.history_of(problem_of(seasonal() + 1e5)).zero is None


def test_values_below_zero_in_later_data_are_no_error_and_a_forecast_stays_in_reach(problem_of):
    problem = problem_of(np.exp(seasonal(150) / 3))
    network = network_for(problem)
    fitting.fit_linear_forecast(network, problem)
    assert network.linear.log_share.item() > 0
    low = np.full((2, 15, len(problem.preprocessor.input_names())), -1e6, np.float32)
    assert np.isfinite(network.linear(tensor(low)).numpy()).all()
    assert np.isfinite(network.linear(tensor(-low)).numpy()).all()


# ---- what is fitted, and on what -----------------------------------------------------------------------------------------


def test_the_layer_is_the_mean_of_the_lines_of_each_kind(problem_of):
    problem = problem_of(np.exp(seasonal() / 5))
    network = network_for(problem)
    (note,) = fitting.fit_linear_forecast(network, problem)
    assert note.startswith("linear: the mean of ") and "season of 12 steps" in note
    history = fitting.history_of(problem)
    seasons = possible_seasons(history.longest, problem.preprocessor.clock, 14)
    candidates = fitting.pool(history, problem.preprocessor, seasons)
    samples = {
        (log, change): fitting.sample_of(history, log, change) for log in (False, True) for change in (False, True)
    }
    best = fitting.chosen(history, candidates, samples)
    for line, log in ((network.linear.value, False), (network.linear.logarithm, True)):
        own = [fitting.fitted(each, samples[each.log, each.change], history) for each in best if each.log is log]
        expected = np.mean([each.past for each in own], 0) if own else np.zeros(15)
        np.testing.assert_allclose(line.past.numpy(), expected, atol=1e-6)
    assert network.linear.log_share.item() == pytest.approx(np.mean([each.log for each in best]))


def test_no_weight_depends_on_the_test_part_and_the_choice_alone_on_validation(problem_of):
    values = seasonal(160, noise=1.0)
    states = []
    for end in (144, 160):  # what stands behind is the test part
        other = values.copy()
        other[end:] = 1000
        problem = problem_of(other)
        assert len(problem.test) == 16
        network = network_for(problem)
        fitting.fit_linear_forecast(network, problem)
        states.append({name: t.numpy() for name, t in network.linear.state_dict().items()})
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name])


def test_steps_before_the_first_window_are_learned_from_but_no_missing_ones(problem_of):
    values = seasonal(120)
    lines = months(values)
    lines[7] = lines[7].split(",")[0] + ","
    full, gap = (fitting.history_of(problem_of(lines=each)) for each in (months(values), lines))
    assert set(range(1, 15)) <= set(full.rows.tolist())
    assert set(full.rows.tolist()) - set(gap.rows.tolist()) == {7}
    assert 0 not in full.rows and full.rows.max() < 108 and (full.blocks[full.ages < 15] == 0).all()


def test_blocks_lie_in_the_second_half_one_after_another():
    ages, ends = np.arange(1, 200), np.full(199, 200)
    blocks = fitting._blocks(ages, ends, 15, 20)
    assert (np.diff(blocks) >= 0).all() and set(blocks) == set(range(6))
    assert blocks[ages < 100].max() == 0 and blocks[-1] == 5
    assert np.bincount(blocks)[1:].min() >= 15


def test_of_many_steps_some_are_drawn_from_all_over(problem_of, monkeypatch):
    monkeypatch.setattr(fitting, "MOST_ROWS", 200)
    problem = problem_of(seasonal(900))
    history = fitting.history_of(problem)
    assert len(history.rows) == len(set(history.rows.tolist())) == 200
    assert np.bincount(history.blocks, minlength=6).min() >= 5 and 120 < history.learned.sum() < 200
    np.testing.assert_array_equal(history.rows, fitting.history_of(problem).rows)


def test_the_fit_has_the_same_bits_whatever_the_number_of_threads(problem_of):
    found = []
    for count in (1, 2):
        pl.set_num_threads(count)
        problem = problem_of(seasonal(300))
        network = network_for(problem)
        fitting.fit_linear_forecast(network, problem)
        found.append(np.concatenate([t.numpy().ravel() for t in network.linear.state_dict().values()]))
    pl.set_num_threads(1)
    np.testing.assert_array_equal(found[0], found[1])


def test_seasons_come_from_the_clock_and_from_the_values(problem_of):
    clock = problem_of(seasonal()).preprocessor.clock
    noise = np.random.default_rng(0).normal(size=300)
    assert possible_seasons(noise, clock, 14) == [12]
    eleven = np.sin(2 * np.pi * np.arange(300) / 11) + 0.2 * noise
    assert possible_seasons(eleven, clock, 14) == [12, 11]
    assert possible_seasons(eleven, clock, 10) == [] and possible_seasons(np.ones(40), clock, 14) == [12]


def test_several_series_have_one_linear_part_and_no_logarithm(problem_of):
    lines = [
        f"{line},{name}" for name, scale in (("a", 1), ("b", 50)) for line in months(scale * seasonal(120, seed=scale))
    ]
    problem = problem_of(lines=lines, header="time,y,place", series="place")
    network = network_for(problem)
    fitting.fit_linear_forecast(network, problem)
    assert network.linear.log_share.item() == 0
    history = fitting.history_of(problem)
    assert history.zero is None and (history.ages == history.rows % 120).all()
    windows = problem.validation.inputs["series"]
    assert isinstance(windows, SlidingWindows)
    left = problem.validation.target - linear_answers(network, problem.validation)
    for own in np.unique(windows.starts):  # both scales are forecast
        assert left[windows.starts == own].std() < 0.25


def test_what_is_known_ahead_is_read(problem_of):
    random = np.random.default_rng(0)
    price = random.normal(size=200).round(3)
    values = 3 * price + 0.1 * random.normal(size=200)
    lines = [f"{line},{p}" for line, p in zip(months(values), price, strict=True)]
    problem = problem_of(lines=lines, header="time,y,price", known=["price"])
    network = network_for(problem)
    fitting.fit_linear_forecast(network, problem)
    place = problem.preprocessor.input_names().index("price of the next step") - 1
    assert network.linear.value.ahead.numpy()[place] == pytest.approx(1, abs=0.1)


# ---- the network ---------------------------------------------------------------------------------------------------------


def test_the_linear_part_is_frozen_and_the_first_answer_is_its_own(problem_of):
    problem = problem_of(seasonal())
    network = network_for(problem)
    fitting.fit_linear_forecast(network, problem)
    x = tensor(np.asarray(problem.validation.inputs["series"]))
    np.testing.assert_array_equal(network(x).detach().numpy(), network.linear(x).numpy())
    own = dict(network.linear.named_parameters())
    assert set(own) == {f"{kind}.{name}" for kind in ("value", "logarithm") for name in ("past", "ahead", "bias")}
    assert not any(p.requires_grad for p in own.values())
    network.training_step(x, tensor(problem.validation.target))["loss"].backward()
    assert network.head.weight.grad is not None and all(p.grad is None for p in own.values())


def test_a_series_alone_has_no_other_weights():
    layer = LinearForecast(5, 1)
    layer.value.set(np.array([0, 0, 0, 1, 2.0]), np.zeros(0), 0.5)
    x = np.arange(10, dtype=np.float32).reshape(2, 5, 1)
    assert layer(tensor(x)).numpy().tolist() == [3 + 8 + 0.5, 8 + 18 + 0.5] and layer.value.ahead is None


def test_other_tasks_are_refused():
    with pytest.raises(OptionError, match=r"linear: a series is learned as classification; expected regression"):
        lstm.build(SeriesSpec(9, 3), 5, "classification", lstm.Config(hidden_sizes=(7,), linear=True))


def test_the_share_is_zero_unless_validation_gains_by_two_standard_errors():
    random = np.random.default_rng(0)
    left, noise = random.normal(size=200), random.normal(size=200)
    share, errors = fitting.best_share(left, noise)
    assert share == 0 and errors < 2
    share, errors = fitting.best_share(left, 2 * left + 0.1 * noise)  # twice too far: half of it is right
    assert (share, errors) == (0, pytest.approx(0, abs=2))
    share, errors = fitting.best_share(left, 1.25 * left)
    assert share == pytest.approx(0.8) and errors > 2
    assert fitting.best_share(left, 0.5 * left)[0] == 1
    assert fitting.best_share(left[:9], left[:9])[0] == 0 and fitting.best_share(left, 0 * left) == (0, 0)


# ---- whole runs ------------------------------------------------------------------------------------------------------------


def trained(problem, folder, **values):
    training = session.start(problem, "lstm", {**SMALL, **values}, folder)
    for _ in training.events():
        pass
    return training, training.finish()


def share_note(result):
    return next(note for note in result.notes if note.startswith("linear: the answer is "))


def test_the_network_has_no_share_in_noise(problem_of, tmp_path):
    problem = problem_of(np.random.default_rng(3).normal(size=240))
    training, result = trained(problem, tmp_path / "run", epochs=15)
    assert training.network.share.item() == 0 and "the answer is 0% the network's, as validation gains" in share_note(
        result
    )
    x = tensor(np.asarray(problem.test.inputs["series"]))
    np.testing.assert_array_equal(training.network(x).detach().numpy(), training.network.linear(x).numpy())


def test_the_network_has_a_share_where_there_is_a_curve(problem_of, tmp_path):
    problem = problem_of(logistic(), lookback=5)
    training, result = trained(problem, tmp_path / "run", hidden_sizes=[16], epochs=60, batch_size=64, lr=0.01)
    assert training.network.share.item() > 0.8 and "standard errors by it" in share_note(result)
    assert result.metrics["rmse"] < 0.5 * result.baselines["autoregression"]["rmse"]
    saved = load_run(tmp_path / "run").network()  # the share is saved with the weights
    x = tensor(np.asarray(problem.test.inputs["series"]))
    assert saved.share.item() == training.network.share.item()
    np.testing.assert_allclose(saved(x).detach().numpy(), training.network(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_forecasts_feed_the_linear_answers_back(problem_of, tmp_path):
    problem = problem_of(seasonal(noise=0.5))
    training, _ = trained(problem, tmp_path / "run")
    training.network.share.assign(tensor(np.float32(0)))
    known, line = problem.preprocessor, training.network.linear
    line.log_share.assign(tensor(np.float32(0)))
    table = read_table(tmp_path / "series.csv")
    steps = forecast(training.network, known, table, 14)
    timeline = known.extended(table, known.read(table), 14)
    features, (means, stds) = known.features(timeline).astype(np.float64), known.scale(timeline)
    for k, step in enumerate(steps):  # by hand
        at = len(features) - 14 + k
        answer = features[at - 15 : at, 0] @ line.value.past.numpy() + features[at - 1, 1:] @ line.value.ahead.numpy()
        features[at, 0] = answer + line.value.bias.item()
        assert step.value == pytest.approx(features[at, 0] * stds[0] + means[0], rel=1e-4)


def test_a_run_taken_up_again_has_the_same_bits(problem_of, tmp_path):
    values = seasonal(noise=1.0)
    whole, _ = trained(problem_of(values), tmp_path / "whole", epochs=4)
    first = session.start(problem_of(values), "lstm", {**SMALL, "epochs": 4}, tmp_path / "parts")
    for event in first.events():
        if getattr(event, "improved", None) is not None and event.epoch == 2:
            break
    run = load_run(tmp_path / "parts")
    again = session.resume(run, problem_of(values))
    for _ in again.events():
        pass
    again.finish()
    for name, t in whole.network.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), again.network.state_dict()[name].numpy(), err_msg=name)


def test_weights_of_another_run_come_without_its_lines(problem_of, tmp_path):
    trained(problem_of(seasonal()), tmp_path / "one")
    other = problem_of(100 + 30 * seasonal(seed=5, noise=2.0))
    training = session.start(other, "lstm", SMALL, tmp_path / "two", source=load_run(tmp_path / "one"))
    expected = network_for(other)
    fitting.fit_linear_forecast(expected, other)
    for name, t in expected.linear.state_dict().items():
        np.testing.assert_array_equal(training.network.linear.state_dict()[name].numpy(), t.numpy(), err_msg=name)
    assert training.network.share.item() == 1


def test_passengers_are_forecast_better_than_by_the_autoregression(tmp_path, problem_of):
    """Growth and a season that grows with it, as of air passengers: the network alone was three times worse."""
    t = np.arange(144)
    season = 1 + 0.2 * np.sin(2 * np.pi * t / 12) + 0.1 * np.cos(4 * np.pi * t / 12)
    values = 110 * 1.01**t * season * (1 + 0.03 * np.random.default_rng(0).normal(size=144))
    _, result = trained(problem_of(values, lookback=30), tmp_path / "run", epochs=10)
    assert result.metrics["rmse"] < result.baselines["autoregression"]["rmse"]
