"""What a bagged network begins with beside classes and numbers: lines of counts, labels and quantiles; weights of rows; bounds of rates."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge

import pellucid
from pellucid.data.input_spec import TableSpec
from pellucid.data.load import load_problem
from pellucid.evaluation.scoring import Scoring
from pellucid.models import mlp
from pellucid.models.mlp import Config
from pellucid.training import session
from pellucid.training.bagging import SHARES, choose_mix, held_out, row_losses

QUICK = {"bag_folds": 4, "linear_start": True, "bounded_rates": True, "epochs": 2, "batch_size": 16, "eager": True, "ema_decay": 0.0,
         "folds": 0, "hidden_sizes": [8], "num_threads": 1}  # fmt: skip
OPTIONS = {"counts": {"task": "counts"}, "labels": {"task": "multilabel"}, "interval": {"interval": 0.8}}


def write(path, **columns):
    path.write_text(
        ",".join(columns)
        + "\n"
        + "".join(",".join(map(str, row)) + "\n" for row in zip(*columns.values(), strict=True))
    )
    return path


def table(path, kind, rows=240):
    """A table whose target depends on two numbers and a category."""
    rng = np.random.default_rng(0)
    a, b, city = rng.normal(size=rows).round(3), rng.normal(size=rows).round(3), rng.choice(list("xyz"), rows)
    if kind == "counts":
        target = rng.poisson(np.exp(0.6 * a - 0.3 * b + (city == "x")))
    elif kind == "labels":
        news, sport = a + 0.5 * rng.normal(size=rows) > 0, b + 0.5 * rng.normal(size=rows) > 0.4
        target = [
            "news; sport" if n and s else "news" if n else "sport" if s else "none"
            for n, s in zip(news, sport, strict=True)
        ]
    else:
        target = (3 * a + (city == "x") + rng.exponential(size=rows)).round(3)
    return write(path, a=a, b=b, city=city, y=target)


def start(path, folder, **given):
    options = {name: given.pop(name) for name in ("task", "interval", "row_weight", "drop") if name in given}
    problem = load_problem(str(path), target="y", **options)
    return session.start(problem, "mlp", {**QUICK, **given}, folder)


def parts(training):
    """The network, its training rows, their design, and the outputs (M, N, K) of its line."""
    network, train = training.network, training.problem.examples("train")
    line = network.linear_start
    hot = (
        np.eye(sum(line.cardinalities))[train.inputs["categories"][:, 0]]
        if line.cardinalities
        else np.zeros((len(train), 0))
    )
    design = np.concatenate([train.inputs["numbers"], hot], axis=1).astype(np.float64)
    arrays = {name: pellucid.tensor(train.inputs[name]) for name in train.inputs if name in (*line.names, "categories")}
    return network, train, design, line(arrays).array.astype(np.float64)


def best_line(network, train, design, strengths, fit):
    """The outputs (M, N, K) of the lines with the least loss on the rows held out; fit(x, target, strength) -> answer(x)."""
    found = []
    for strength in strengths:
        lines = [fit(design[train.fold != m], train.target[train.fold != m], strength)(design) for m in range(4)]
        loss = sum(
            row_losses(network, as_answer(network, lines[m]), train.target)[train.fold == m].sum() for m in range(4)
        )
        found.append((loss, np.array(lines)))
    return min(found, key=lambda pair: pair[0])[1]


def as_answer(network, outputs):
    return {"counts": np.exp, "multilabel": lambda z: 1 / (1 + np.exp(-z)), "regression": np.asarray}[network.task](
        outputs
    )


def test_counts_begin_with_a_poisson_regression_of_the_rows_outside_the_fold(tmp_path):
    network, train, design, outputs = parts(
        start(table(tmp_path / "t.csv", "counts"), tmp_path / "r", **OPTIONS["counts"])
    )

    def fit(x, y, strength):
        model = PoissonRegressor(alpha=strength / len(y), tol=1e-10, max_iter=1000).fit(x, y)
        return lambda rows: np.log(model.predict(rows))[:, None]

    expected = best_line(network, train, design, np.logspace(-2, 4, 7), fit)
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=2e-3)


def test_labels_begin_with_a_logistic_regression_of_each(tmp_path):
    network, train, design, outputs = parts(
        start(table(tmp_path / "t.csv", "labels"), tmp_path / "r", **OPTIONS["labels"])
    )

    def fit(x, y, strength):
        models = [LogisticRegression(C=strength, max_iter=300).fit(x, own) for own in y.T]
        return lambda rows: np.stack([model.decision_function(rows) for model in models], axis=1)

    expected = best_line(network, train, design, (0.03, 0.3, 3.0), fit)
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-3)


def test_quantiles_begin_with_a_ridge_regression_moved_by_its_errors(tmp_path):
    network, train, design, outputs = parts(
        start(table(tmp_path / "t.csv", "interval"), tmp_path / "r", **OPTIONS["interval"])
    )

    def fit(x, y, strength):
        model = Ridge(alpha=strength).fit(x, y)
        moved = np.quantile(y - model.predict(x), network.levels, method="inverted_cdf")
        return lambda rows: model.predict(rows)[:, None] + moved

    expected = best_line(network, train, design, np.logspace(-2, 4, 7), fit)
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-3)
    below = np.mean(
        [(train.target[train.fold == m, None] < outputs[m][train.fold == m]).mean(0) for m in range(4)], axis=0
    )
    np.testing.assert_allclose(below, network.levels, atol=0.07)


@pytest.mark.parametrize("kind", ["counts", "labels", "interval"])
def test_lines_have_the_same_bits_for_every_number_of_threads(tmp_path, kind):
    path, states = table(tmp_path / "t.csv", kind), []
    for threads in (1, 2):
        training = start(path, tmp_path / str(threads), num_threads=threads, **OPTIONS[kind])
        states.append([t.array for t in training.network.linear_start.state_dict().values()])
        assert states[-1][0].any()
    assert all(np.array_equal(a, b) for a, b in zip(*states, strict=True))


@pytest.mark.parametrize("kind", ["counts", "labels", "interval"])
def test_training_may_end_with_the_line(tmp_path, kind):
    training = start(
        table(tmp_path / "t.csv", kind),
        tmp_path / "r",
        lr=0.5 if kind == "counts" else 5.0,
        clip_grad_norm=0.0,
        **OPTIONS[kind],
    )
    list(training.events())
    assert "the linear start alone" in training.restore_best()[0]
    assert training.learner.state.progress.best_epoch == 0


@pytest.mark.parametrize("kind", ["counts", "labels", "interval"])
def test_the_mix_of_every_task_is_chosen_on_held_out_rows(tmp_path, kind):
    training = start(table(tmp_path / "t.csv", kind), tmp_path / "r", lr=0.05, epochs=4, **OPTIONS[kind])
    list(training.events())
    network, judged = training.network.eval(), training.problem.examples("validation")
    notes = choose_mix(network, judged, True)
    assert notes[0].startswith("linear: the answer is")
    outputs, lines = held_out(network, judged, True)
    loss = lambda share: row_losses(network, share * outputs + (1 - share) * lines, judged.target).mean()
    assert float(network.mix.array) == pytest.approx(min(SHARES[::-1], key=loss))
    assert (float(network.temperature.array) != 1) == (kind == "labels")
    with pellucid.no_grad():
        told = network(*(pellucid.tensor(a) for a in judged.arrays(network)))
        values = network.losses(told, pellucid.tensor(judged.target)).array.mean()
    mixed = loss(float(network.mix.array))
    assert values < mixed + 1e-4 if kind == "labels" else values == pytest.approx(mixed, rel=1e-4)


def deviance(rate, target):
    return (
        Scoring("counts", None).metrics(np.asarray(rate, np.float64), np.asarray(target, np.float64)).scores["deviance"]
    )


def test_steep_counts_are_answered_as_well_as_by_a_poisson_regression(tmp_path):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=400).round(3), rng.normal(size=400).round(3)
    path = write(tmp_path / "t.csv", a=a, b=b, y=rng.poisson(np.exp(3 * a + 6)))
    training = start(path, tmp_path / "r", task="counts", lr=7e-4)
    list(training.events())
    scores = training.finish()
    assert scores.metrics.scores["deviance"] < 3 * scores.baselines["poisson_regression"].scores["deviance"] + 3
    assert scores.metrics.scores["deviance"] < 0.01 * scores.baselines["mean"].scores["deviance"]


def test_rates_stay_within_ten_times_what_training_had(tmp_path):
    """A line in a number whose exponential has no end, asked about a number that training never saw the like of."""
    rng = np.random.default_rng(2)
    a = rng.normal(size=300).round(3)
    target = rng.poisson(np.exp(1.5 * a))
    path = write(tmp_path / "t.csv", a=a, b=rng.normal(size=300).round(3), y=target)
    training = start(path, tmp_path / "r", task="counts")
    network, train = training.network.eval(), training.problem.examples("train")
    most, mean = float(train.target.max()), training.problem.preprocessor.std
    far = pellucid.tensor(np.array([[8.0, 0.0], [-10.0, 0.0]], np.float32))
    rates = np.exp(network(far).array.astype(np.float64))
    assert rates[0] == pytest.approx(10 * most, rel=1e-4)
    assert rates[1] == pytest.approx(0.1 / len(train) / mean, rel=1e-4)
    assert np.exp(1.3 * 8) > 20 * most  # what the line alone says


def test_a_run_without_bounds_of_rates_has_no_place_for_them():
    """Runs of before have no such weights."""
    spec = TableSpec(1, [[-1.0, 0.0, 1.0]])
    has = lambda **more: (
        "log_rates" in mlp.build(spec, 1, "counts", Config(bag_folds=2, linear_start=True, **more)).state_dict()
    )
    assert not has() and has(bounded_rates=True)


@pytest.mark.parametrize("weighs", ["rows", "classes"])
def test_a_line_and_its_mix_are_chosen_by_what_counts(tmp_path, weighs):
    """Most rows say the opposite and count next to nothing: without weights the line pulled hardest to zero would be chosen."""
    rng = np.random.default_rng(3)
    a, light = rng.normal(size=240).round(3), np.arange(240) % 4 > 0
    if weighs == "rows":
        path = write(tmp_path / "t.csv", a=a, y=np.where(light, -9 * a, a).round(3), w=np.where(light, 0.001, 1))
        training = start(path, tmp_path / "r", row_weight="w")
        slope = training.network.linear_start.numbers.array[:, 0, 0]
        train = training.problem.examples("train")
        full = Ridge(alpha=0.01).fit(train.inputs["numbers"], train.target, sample_weight=train.weight).coef_[0]
        assert full > 0 and (slope > 0.8 * full).all()
        return
    path = write(tmp_path / "t.csv", a=a, y=np.where(np.arange(240) % 10, "well", "ill"))
    network = (training := start(path, tmp_path / "r", class_weight="ill=30")).network.eval()
    for buffer in (network.linear_start.numbers, network.linear_start.bias):  # the line says that both are as likely
        buffer.assign(pellucid.zeros(*buffer.shape))
    network.layers[-1].bias.assign(
        pellucid.tensor(np.tile(np.float32([-2, 2]), (4, 1)).reshape(network.layers[-1].bias.shape))
    )
    choose_mix(network, training.problem.examples("validation"), True)
    assert float(network.mix.array) < 0.5  # of the rows most are well, of what counts most is ill


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_more_columns_than_rows_begin_with_a_line_of_few_columns(tmp_path, kind):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(100, 300)).round(2)
    made = 3 * (x[:, 0] - x[:, 1] + x[:, 2]) + rng.logistic(size=100)
    target = np.where(made > 0, "yes", "no") if kind == "classes" else made.round(3)
    path = write(tmp_path / "t.csv", **{f"c{i}": x[:, i] for i in range(300)}, y=target)
    training = start(path, tmp_path / "r", least_steps=0, epochs=1)
    network, train, _, outputs = parts(training)
    weight = network.linear_start.numbers.array[..., -1]
    assert ((weight != 0).sum(1) < 60).all() and (np.abs(weight[:, :3]) > 0).all()
    own = outputs[train.fold, np.arange(len(train))]
    answer = own if kind == "numbers" else np.exp(own) / np.exp(own).sum(1, keepdims=True)
    assert row_losses(network, answer, train.target).mean() < (0.5 if kind == "numbers" else 0.6)
