"""Bagged training: folds of a table's rows, linear starts, floors of steps, and what is chosen on held-out answers."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

import pellucid
from pellucid.data.load import load_problem
from pellucid.data.loader import DataLoader, TensorDataset
from pellucid.runs.run import load_run
from pellucid.runs.settings import Settings, with_least_steps
from pellucid.training import session
from pellucid.training.bagging import choose_mix, held_out

QUICK = {"bag_folds": 4, "linear_start": True, "epochs": 2, "batch_size": 16, "eager": True, "ema_decay": 0.0, "folds": 0,
         "hidden_sizes": [8], "num_threads": 1}  # fmt: skip


@pytest.fixture
def people(tmp_path):
    """A table whose class depends on a number, a skewed number and a category; patients have three rows each."""
    rng = np.random.default_rng(0)
    lines = ["patient,age,income,city,when,ill"]
    for i in range(240):
        age, income, city = rng.normal(50, 10), float(rng.lognormal(3, 1.5)), "abc"[rng.integers(3)]
        ill = age - 50 + 0.05 * income + 8 * (city == "a") + rng.normal(0, 4) > 4
        lines.append(
            f"p{i // 3},{age:.3f},{income:.4f},{city},2021-{1 + i % 12:02}-{1 + i % 27:02},{'yes' if ill else 'no'}"
        )
    path = tmp_path / "people.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def start(path, tmp_path, target="ill", **values):
    problem = load_problem(str(path), target=target, drop=["patient", "when"])
    return session.start(problem, "mlp", {**QUICK, **values}, tmp_path / "run")


def test_all_rows_teach_and_all_rows_validate(people):
    problem = load_problem(str(people), target="ill", drop=["patient", "when"])
    folds, bagged = problem.bagged(5)
    assert folds == 5 and len(bagged.train) == len(problem.train) + len(problem.validation) == len(bagged.validation)
    assert np.bincount(bagged.train.fold).min() > 30
    shares = [bagged.train.target[bagged.train.fold == m].mean() for m in range(5)]
    assert max(shares) - min(shares) < 0.08  # by class
    assert bagged.test is problem.test and bagged.test.fold is None
    first = bagged.raw_example("train", 0)
    assert first["age"] == problem.raw_example("train", 0)["age"]


def test_groups_stay_in_one_fold(people):
    problem = load_problem(str(people), target="ill", group="patient", drop=["when"])
    _, bagged = problem.bagged(5)
    patients = np.array([bagged.raw_example("train", i)["patient"] for i in range(len(bagged.train))])
    for patient in set(patients):
        assert len(set(bagged.train.fold[patients == patient])) == 1


def test_in_order_of_time_the_only_fold_is_the_later_part(people):
    problem = load_problem(str(people), target="ill", split="time:when", drop=["patient"])
    folds, bagged = problem.bagged(5)
    assert folds == 1
    assert set(bagged.train.fold) == {-1} and set(bagged.validation.fold) == {0}
    for split in ("train", "validation"):
        assert np.array_equal(bagged.examples(split).target, problem.examples(split).target)


def test_a_rare_class_is_learned_by_every_network(tmp_path):
    path = tmp_path / "rare.csv"
    path.write_text(
        "x,y\n" + "".join(f"{i * 0.37 % 5:.2f},{'c' if i in (3, 50) else 'ab'[i % 2]}\n" for i in range(120))
    )
    _, bagged = load_problem(str(path), target="y").bagged(5)
    rare = bagged.train.target == 2
    assert rare.any() and (bagged.train.fold[rare] == -1).all() and (bagged.train.fold[~rare] >= 0).all()


def test_a_linear_start_is_the_regression_of_the_rows_outside_the_fold(people, tmp_path):
    training = start(people, tmp_path)
    line, train = training.network.linear_start, training.problem.examples("train")
    hot = np.eye(sum(line.cardinalities))[train.inputs["categories"][:, 0]]
    candidates = []
    for columns in line.choices:
        every = np.concatenate([train.inputs["numbers"], train.inputs["straight"]], axis=1)[:, columns]
        design = np.concatenate([every.astype(np.float64), hot], axis=1)
        for strength in (0.03, 0.3, 3.0):
            found, loss = [], 0.0
            for m in range(4):
                model = LogisticRegression(C=strength, max_iter=300).fit(
                    design[train.fold != m], train.target[train.fold != m]
                )
                held = train.fold == m
                chosen = model.predict_proba(design[held])[np.arange(held.sum()), train.target[held]]
                loss -= np.log(chosen).sum()
                found.append(model.decision_function(design))
            candidates.append((loss, np.array(found)))
    expected = min(candidates, key=lambda pair: pair[0])[1]
    logits = line({name: pellucid.tensor(train.inputs[name]) for name in (*line.names, "categories")}).array
    np.testing.assert_allclose(logits[..., 1] - logits[..., 0], expected, rtol=1e-3, atol=1e-4)


def test_a_regression_begins_with_ridge(people, tmp_path):
    training = start(people, tmp_path, target="age")
    line, train = training.network.linear_start, training.problem.examples("train")
    arrays = {name: pellucid.tensor(train.inputs[name]) for name in (*line.names, "categories")}
    predicted = line(arrays).array[..., 0]
    for m in range(4):
        outside, held = train.fold != m, train.fold == m
        error = lambda p, rows: float(np.mean((p - train.target[rows]) ** 2))
        assert error(predicted[m][outside], outside) < error(train.target[outside].mean(), outside)
        design = np.concatenate(
            [train.inputs["numbers"], np.eye(sum(line.cardinalities))[train.inputs["categories"][:, 0]]], axis=1
        )
        best = min(
            error(Ridge(alpha=a).fit(design[outside], train.target[outside]).predict(design[held]), held)
            for a in np.logspace(-2, 4, 7)
        )
        assert error(predicted[m][held], held) < 1.2 * best


@pytest.mark.parametrize("target", ["ill", "age"])
def test_linear_starts_have_the_same_bits_for_every_number_of_threads(people, tmp_path, target):
    states = []
    for threads in (1, 2, 3):
        training = start(people, tmp_path / str(threads), target=target, num_threads=threads)
        states.append([t.array for t in training.network.linear_start.state_dict().values()])
    for other in states[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(states[0], other, strict=True))


def test_training_may_end_where_it_began(people, tmp_path):
    """A learning rate that ruins the network: the best weights are those before the first step."""
    training = start(people, tmp_path, lr=5.0, clip_grad_norm=0.0)
    epochs = [event for event in training.events() if hasattr(event, "improved")]
    assert "the linear start alone" in training.restore_best()[0]
    assert "before the first step" in (training.finish(), training.run.report.read_text())[1]
    assert not any(event.improved for event in epochs) and training.learner.state.progress.best_epoch == 0
    assert not training.network.layers[-1].weight.array.any()


def test_mix_and_temperature_lower_the_held_out_loss(people, tmp_path):
    training = start(people, tmp_path, epochs=8, lr=0.02)
    list(training.events())
    network, judged = training.network, training.problem.examples("validation")
    loss = lambda p: float(-np.log(p[np.arange(len(p)), judged.target]).mean())
    notes = training.restore_best()
    assert notes and notes[0].startswith("linear: the answer is")
    outputs, lines = held_out(network, judged, True)
    mix = float(network.mix.array)
    mixed = mix * outputs + (1 - mix) * lines
    assert loss(mixed) <= min(loss(outputs), loss(lines)) + 1e-9
    tempered = mixed ** (1 / float(network.temperature.array))
    assert loss(tempered / tempered.sum(1, keepdims=True)) <= loss(mixed) + 1e-6
    before = (float(network.mix.array), float(network.temperature.array))
    choose_mix(network, judged, True)
    assert before == (float(network.mix.array), float(network.temperature.array))


def test_held_out_answers_are_those_of_the_network_without_the_row(people, tmp_path):
    training = start(people, tmp_path)
    list(training.events())
    network, judged = training.network.eval(), training.problem.examples("validation")
    outputs, _ = held_out(network, judged, True)
    logits = network(*(pellucid.tensor(a) for a in judged.arrays(network))).array
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), outputs, rtol=1e-4, atol=1e-6)


def test_a_stopped_run_goes_on_to_the_same_bits(people, tmp_path):
    whole = start(people, tmp_path / "a", epochs=4)
    list(whole.events())
    half = start(people, tmp_path / "b", epochs=4)
    events = half.events()
    for event in events:
        if hasattr(event, "improved") and event.epoch == 2:
            break
    run = load_run(tmp_path / "b" / "run")
    again = session.resume(run, run.load_problem())
    list(again.events())
    for (name, one), two in zip(whole.network.state_dict().items(), again.network.state_dict().values(), strict=True):
        assert np.array_equal(one.array, two.array), name


def test_the_score_of_a_finished_run_is_told_again(people, tmp_path):
    training = start(people, tmp_path)
    list(training.events())
    told = training.finish().metrics
    run = load_run(tmp_path / "run")
    assert session.evaluate_run(run, run.load_problem()).metrics.scores == told.scores


@pytest.mark.parametrize(
    ("settings", "examples", "epochs", "passes"),
    [
        (Settings(epochs=40, least_steps=1000, batch_size=40), 100, 31, 11),  # 3 batches a pass: 1,000 steps in all
        (Settings(epochs=40, least_steps=1000, batch_size=40), 4000, 40, 1),  # 40 passes are more
        (Settings(epochs=3, batch_size=40), 100, 3, 1),
    ],
)
def test_short_trainings_get_more_steps(settings, examples, epochs, passes):
    found = with_least_steps(settings, examples)
    assert (found.epochs, found.passes, found.least_steps) == (epochs, passes, 0)


def test_an_epoch_of_several_passes_sees_each_example_so_often():
    loader = DataLoader(TensorDataset(pellucid.arange(10)), batch_size=4, shuffle=True, seed=1, passes=3)
    first = np.concatenate([batch[0].array for batch in loader])
    assert len(loader) == 8 and loader.examples == 30 and np.bincount(first).tolist() == [3] * 10
    assert sorted(first[:10]) == sorted(first[10:20]) == list(range(10))
    assert not np.array_equal(first, np.concatenate([batch[0].array for batch in loader]))


def test_another_question_gets_another_line_and_the_same_one_keeps_it(people, tmp_path):
    first = start(people, tmp_path / "a")
    list(first.events())
    first.finish()
    source = load_run(tmp_path / "a" / "run")
    other = tmp_path / "other.csv"
    other.write_text(people.read_text().replace(",yes\n", ",sick\n"))
    lines = {}
    for path in (people, other):
        problem = load_problem(str(path), target="ill", drop=["patient", "when"])
        training = session.start(problem, "mlp", dict(QUICK), tmp_path / path.stem, source=source)
        lines[path] = training.network.linear_start.numbers.array
        assert training.network.layers[-1].weight.array.any() == (path == people)  # the last layer begins anew
    assert np.array_equal(lines[people], first.network.linear_start.numbers.array)
    assert lines[other].any() and float(training.network.mix.array) == 1


def test_a_line_counts_rows_and_classes_as_training_does(people, tmp_path):
    plain, balanced = (
        start(people, tmp_path / name, class_weight=name).network.linear_start.bias.array
        for name in ("none", "balanced")
    )
    assert not np.allclose(plain, balanced)


def test_one_fold_is_a_line_and_a_network_judged_on_the_validation_part(people, tmp_path):
    training = start(people, tmp_path, bag_folds=1)
    list(training.events())
    line, train = training.network.linear_start, training.problem.examples("train")
    design = np.concatenate(
        [train.inputs["numbers"], np.eye(sum(line.cardinalities))[train.inputs["categories"][:, 0]]], axis=1
    )
    models = [LogisticRegression(C=c, max_iter=300).fit(design, train.target) for c in (0.03, 0.3, 3.0)]
    logits = line({name: pellucid.tensor(train.inputs[name]) for name in (*line.names, "categories")}).array[0]
    apart = [np.abs(logits[:, 1] - logits[:, 0] - model.decision_function(design)).max() for model in models]
    straight = line.numbers.array[0, -1].any()  # the other way to scale the skewed column was better
    assert straight or min(apart) < 1e-3
    assert training.finish().metrics.n == len(training.problem.test)


@pytest.mark.parametrize("case", ["text alone", "classes rarer than folds", "fewer groups than folds"])
def test_tables_that_folds_fit_badly_are_trained(tmp_path, case):
    text = " ".join(["good", "poor", "fine", "bad", "slow", "quick", "loud", "calm"])
    rows = [(f"{text[i % 9 :]} {i} word", i // 4 % 50, "abc"[i % 3], i * 37 % 100 / 10) for i in range(200)]
    column, target, options = {"text alone": (0, 2, {}), "classes rarer than folds": (3, 1, {"task": "classification"}),
                               "fewer groups than folds": (3, 2, {"group": "g"})}[case]  # fmt: skip
    path = tmp_path / "t.csv"
    path.write_text("x,g,y\n" + "".join(f"{row[column]},{'pqr'[i % 3]},{row[target]}\n" for i, row in enumerate(rows)))
    problem = load_problem(str(path), target="y", **({"drop": ["g"]} | options if "group" not in options else options))
    training = session.start(problem, "mlp", {**QUICK, "bag_folds": 5}, tmp_path / "run")
    list(training.events())
    assert training.finish().metrics.n == len(problem.test)
