"""Fine-tuning: what is taken over from another run, what begins anew, what is frozen, and going on with such a run."""

import numpy as np
import pytest

import pellucid as pl
from pellucid.data.image.preprocess import ImagePreprocessor
from pellucid.data.load import load_problem
from pellucid.data.problem import DataModule, Examples
from pellucid.errors import OptionError
from pellucid.runs import run as runs
from pellucid.training import session
from pellucid.training.fine_tuning import frozen_layers, network_values
from pellucid.training.loop import EpochDone

QUICK = {"epochs": 3, "batch_size": 16, "lr": 0.01, "eager": True, "ema_decay": 0.9}
SMALL = {"channels": [3, 4], "depth": 1, "dropout": 0.1}


@pytest.fixture(autouse=True)
def an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def a_problem(classes="ab", side=6, seed=0):
    """Images of one bright row each, the class being which."""
    random = np.random.default_rng(seed)
    labels = np.arange(96) % len(classes)
    images = random.integers(0, 60, (96, side, side)).astype(np.uint8)
    images[np.arange(96), labels + 1] += 150
    known = ImagePreprocessor.fit_arrays(images[:64], list(classes))
    parts = [Examples(known.encode(images[rows, None]), labels[rows]) for rows in np.split(np.arange(96), [64, 80])]
    return DataModule("rows", "image", "classification", known, *parts, [], f"{classes}{side}{seed}", {"spec": "rows", "seed": 0},
                   {"test": lambda i: images[80 + i]})  # fmt: skip


def trained(problem, family="cnn", **values):
    training = session.start(problem, family, {**QUICK, **values})
    for _ in training.events():
        pass
    return training.run


def arrays(network):
    return {name: t.array.copy() for name, t in network.state_dict().items()}


def fine_tuned(source, classes="abc", **values):
    values = {**network_values(source, None), **QUICK, **values}
    return session.start(a_problem(classes, seed=1), source.config.family, values, source=source)


def train(training, until=None):
    for event in training.events():
        if isinstance(event, EpochDone) and event.epoch == until:
            break
    return training


@pytest.mark.parametrize("classes", ["abc", "xy"])
def test_the_layer_that_answers_begins_anew_where_the_classes_differ_and_all_else_is_taken_over(classes):
    """Other classes, and as many as before, are other answers too."""
    source = trained(a_problem(), whiten=2, **SMALL)
    training = fine_tuned(source, classes)
    own, saved = arrays(training.network), arrays(source.network())
    assert own.keys() == saved.keys()
    differ = {name for name in own if own[name].tobytes() != saved[name].tobytes()}
    assert differ == {"head.weight", "head.bias"} and own["head.weight"].shape == (len(classes), 4)
    assert training.problem.notes == [f"{len(own) - 2} of {len(own)} weights taken from rows-cnn-1; head begins anew"]
    config = runs.find_run("last").config
    assert config.notes == training.problem.notes and runs.load_run(runs.Path(config.init_from)).name == "rows-cnn-1"


def test_with_the_same_classes_everything_is_taken_over():
    source = trained(a_problem(), **SMALL)
    training = fine_tuned(source, "ab")
    own, saved = arrays(training.network), arrays(source.network())
    assert all(own[name].tobytes() == saved[name].tobytes() for name in own)
    assert training.problem.notes == [f"{len(own)} of {len(own)} weights taken from rows-cnn-1"]


@pytest.mark.parametrize("eager", [True, False], ids=["eager", "compiled"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_frozen_layers_keep_their_weights_and_statistics(eager, optimizer):
    source = trained(a_problem(), **SMALL)
    training = fine_tuned(source, freeze=["stages.0"], eager=eager, optimizer=optimizer)
    before = arrays(training.network)
    train(training, until=1)
    for where, after in (("trained", arrays(training.network)), ("kept", training.learner.state.best)):
        for name, array in after.items():
            same = array.tobytes() == before[name].tobytes()
            assert same == name.startswith("stages.0."), (where, name)
    assert "stages.0.0.norm.running_mean" in before


def test_a_layer_that_is_frozen_drops_nothing_out():
    source = trained(a_problem(), **SMALL)
    training = fine_tuned(source, freeze=["dropout", "stages.0"])
    train(training, until=1)
    network = training.network
    assert network.training and not network.dropout.training and not network.stages[0].training
    assert network.stages[1].training


@pytest.mark.parametrize("cut", [None, 1])
def test_a_fine_tuning_that_is_stopped_goes_on_to_the_same_bits(cut):
    """cut: after which epoch; None for before the first checkpoint, when the weights are to be taken over once more."""
    source = trained(a_problem(), whiten=2, **SMALL)
    whole = train(fine_tuned(source, freeze=["stages.0"]))
    first = fine_tuned(source, freeze=["stages.0"])
    if cut:
        train(first, until=cut)
    pl.manual_seed(99)
    second = session.resume(runs.load_run(first.run.folder), a_problem("abc", seed=1))
    assert second.settings.freeze == ("stages.0",)
    train(second)
    for name, array in arrays(whole.network).items():
        assert array.tobytes() == arrays(second.network)[name].tobytes(), name
    assert whole.run.weights.read_bytes() == second.run.weights.read_bytes()
    assert second.finish().metrics == whole.finish().metrics


def write_table(path, head, seed=0, cities=("Bath", "Oslo"), label=("no", "yes")):
    random = np.random.default_rng(seed)
    rows = [(random.integers(18, 80), cities[i % len(cities)], random.normal(), label[i % len(label)]) for i in range(90)]  # fmt: skip
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]))
    return path


@pytest.mark.parametrize(
    ("head", "cities", "words"),
    [
        ("years,city,hours,income", ("Bath", "Oslo"), "age there, years here"),
        ("age,city,hours,income", ("Bath", "Rome"), r"city \(Bath, Oslo\) there, city \(Bath, Rome\) here"),
    ],
)
def test_a_table_of_other_columns_is_refused_though_its_network_has_the_same_shapes(tmp_path, head, cities, words):
    source = trained(load_problem(str(write_table(tmp_path / "old.csv", "age,city,hours,income")), target="income"), "mlp", hidden_sizes=[4])  # fmt: skip
    other = load_problem(str(write_table(tmp_path / "new.csv", head, 1, cities)), target="income")
    with pytest.raises(OptionError, match=f"--init-from old-mlp-1: its columns are not those of these data: {words}; .*or train anew"):  # fmt: skip
        session.start(other, "mlp", {**QUICK, **network_values(source, None)}, source=source)


def test_a_regression_on_another_target_has_a_new_head(tmp_path):
    first = write_table(tmp_path / "old.csv", "age,city,hours,income", label=range(90))
    source = trained(load_problem(str(first), target="income"), "mlp", hidden_sizes=[4])
    notes = {}
    for target in ("income", "rent"):
        data = write_table(tmp_path / f"{target}.csv", f"age,city,hours,{target}", label=range(90))
        training = session.start(load_problem(str(data), target=target), "mlp", {**QUICK, **network_values(source, None)}, source=source)  # fmt: skip
        notes[target] = training.problem.notes[-1]
    assert notes["rent"].endswith("begins anew") and "anew" not in notes["income"]


def test_another_family_is_refused():
    source = trained(a_problem(), **SMALL)
    with pytest.raises(OptionError, match="--init-from rows-cnn-1: a cnn, and --model says mlp; .*leave --model out"):
        network_values(source, "mlp")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channels": [3, 5]}, r"stages.1.0.convolution.weight is \(4, 3, 3, 3\) there and \(5, 3, 3, 3\) here"),
        ({"depth": 2}, r"stages.0.1.* is missing there and \(3, 3, 3, 3\) here"),
        ({"channels": [3]}, r"stages.1.* is \(4, 3, 3, 3\) there and missing here"),
    ],
)
def test_another_shape_is_refused_and_leaves_no_run(change, words):
    source = trained(a_problem(), **SMALL)
    with pytest.raises(OptionError, match=words):
        fine_tuned(source, **change)
    assert [path.name for path in runs.folders()] == ["rows-cnn-1"]


def test_an_image_of_another_size_is_refused():
    source = trained(a_problem(), "mlp", hidden_sizes=[4])
    with pytest.raises(OptionError, match=r"is \(4, 36\) there and \(4, 49\) here; .*keep its image size"):
        session.start(a_problem(side=7), "mlp", {**QUICK, "hidden_sizes": [4]}, source=source)


@pytest.mark.parametrize(
    ("freeze", "words"),
    [
        (["stage.0"], r"freeze: 'stage.0'; expected the path of a layer, such as image, .*Did you mean 'stages.0'"),
        (["stages", "head"], "freeze: stages, head leaves nothing to train; .*freeze fewer"),
    ],
)
def test_what_cannot_be_frozen_is_named_and_leaves_no_run(freeze, words):
    with pytest.raises(OptionError, match=words):
        session.start(a_problem(), "cnn", {**QUICK, **SMALL, "freeze": freeze})
    assert runs.folders() == []


def test_a_turn_that_is_frozen_whole_is_refused():
    network = session.start(a_problem(), "gan", {**QUICK, "width": 2, "critic_width": 2, "latent": 2}).network
    with pytest.raises(OptionError, match="freeze: critic leaves nothing to train in the critic"):
        frozen_layers(network, ["critic"])
