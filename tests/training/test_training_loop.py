"""The loop: what it yields, when it stops, what it does with a loss that is not finite, and going on with the same bits.

Networks here are tiny and steps few, so most tests run eagerly; what compiling could change is tested both ways.
"""

import sys

import numpy as np
import pytest

import pellucid as pl
from pellucid.data.input_spec import ImageSpec
from pellucid.data.loader import DataLoader, TensorDataset, default_collate
from pellucid.errors import NonFiniteError, StateError
from pellucid.evaluation.compiled import Forward
from pellucid.models import mlp
from pellucid.runs.settings import OPTIMIZERS, Settings
from pellucid.training.checkpoint import load_checkpoint, save_checkpoint
from pellucid.training.learner import Learner
from pellucid.training.loop import BatchDone, EpochDone, fit
from pellucid.training.optimizers import learning_rate_curve

N = 50
both_ways = pytest.mark.parametrize("eager", [True, False], ids=["eager", "compiled"])


def a_learner(**changes):
    random = np.random.default_rng(0)
    x = random.normal(size=(N, 4, 4)).astype(np.float32)
    y = (x.sum((1, 2)) > 0).astype(np.int64)
    settings = Settings(**{"epochs": 4, "batch_size": 16, "lr": 0.02, "eager": True, **changes})
    pl.manual_seed(settings.seed)
    network = mlp.build(ImageSpec((4, 4)), 2, "classification", mlp.Config(hidden_sizes=(8,), dropout=0.2, shift=1))
    loader = DataLoader(TensorDataset(pl.tensor(x), pl.tensor(y)), batch_size=16, shuffle=True, seed=settings.seed)
    return Learner(network, loader, settings)


def train(learner, epochs=4, losses=None, patience=0, until=None, stretch=0):
    """The events of a training whose validation losses are `losses`, cut short after `until` of them."""
    given = iter(np.linspace(1, 0.5, 100) if losses is None else losses)
    validate = lambda: {"loss": float(next(given))}
    events = []
    better = lambda a, b: a["loss"] < b["loss"]
    for event in fit(learner, validate, epochs=epochs, patience=patience, is_better=better, report_every=stretch):
        events.append(event)
        if len(events) == until:
            break
    return events


def weights(learner):
    return {name: t.array.copy() for name, t in learner.network.state_dict().items()}


def test_events_count_batches_and_epochs():
    events = train(a_learner(), epochs=2)
    assert [type(e) for e in events] == 2 * [*4 * [BatchDone], EpochDone]
    assert [e.seen for e in events[:4]] == [16, 32, 48, 50]
    assert events[-1].step == 8 and events[-1].epoch == 2


def test_a_long_stretch_is_one_event_and_ends_with_the_epoch():
    learner = a_learner()
    events = train(learner, epochs=2, stretch=1e9)
    assert [type(e) for e in events] == [BatchDone, BatchDone, EpochDone, BatchDone, EpochDone]  # the first is one step
    assert [e.seen for e in events if isinstance(e, BatchDone)] == [16, 50, 50] and learner.state.progress.step == 8


def test_it_learns():
    epochs = [e for e in train(a_learner(epochs=30), epochs=30) if isinstance(e, EpochDone)]
    assert epochs[-1].train["loss"] < 0.7 * epochs[0].train["loss"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss(optimizer):
    epochs = [
        e for e in train(a_learner(optimizer=optimizer, schedule="constant"), epochs=15) if isinstance(e, EpochDone)
    ]
    assert epochs[-1].train["loss"] < epochs[0].train["loss"]


def test_patience_stops_and_the_best_weights_stay():
    learner = a_learner()
    events = train(learner, epochs=20, losses=[3, 1, 2, 2, 2, 2], patience=3)
    epochs = [e for e in events if isinstance(e, EpochDone)]
    assert len(epochs) == 5 and [e.improved for e in epochs] == [True, True, False, False, False]
    assert learner.state.progress.best_epoch == 2 and learner.state.progress.best == {"loss": 1.0}
    assert any((learner.state.best[name] != array).any() for name, array in weights(learner).items())


@pytest.mark.parametrize(("optimizer", "eager"), [("adamw", True), ("sgd", True), ("muon", True), ("adamw", False)])
@pytest.mark.parametrize("cut", [1, 4, 5, 7])  # in an epoch, after its last batch, after it, in the next one
def test_going_on_from_a_checkpoint_gives_the_same_bits(tmp_path, cut, optimizer, eager):
    whole = a_learner(optimizer=optimizer, eager=eager)
    train(whole, stretch=1e9)
    first = a_learner(optimizer=optimizer, eager=eager)
    train(first, until=cut)
    save_checkpoint(tmp_path / "c.safetensors", first)
    second = a_learner(optimizer=optimizer, eager=eager)
    pl.manual_seed(99)  # whatever the random stream was doing
    load_checkpoint(tmp_path / "c.safetensors", second)
    done = second.state.progress.epoch
    train(second, losses=np.linspace(1, 0.5, 100)[done:])
    for name, array in weights(whole).items():
        assert array.tobytes() == weights(second)[name].tobytes(), name
        assert whole.state.best[name].tobytes() == second.state.best[name].tobytes(), name
    assert (
        whole.state.progress == second.state.progress or whole.state.progress.seconds != second.state.progress.seconds
    )


def test_a_checkpoint_cut_short_is_named(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, a_learner())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StateError, match="c.safetensors: .* not a whole safetensors file"):
        load_checkpoint(path, a_learner())


@both_ways
@pytest.mark.parametrize("stretch", [0, 1e9])
def test_a_loss_that_explodes_names_layer_and_step_and_puts_the_weights_back(eager, stretch):
    learner = a_learner(eager=eager)
    train(learner, epochs=1)
    layer = learner.network.layers[0]
    with pl.no_grad():
        layer.weight.fill_(3e38)
    before = weights(learner)
    with pytest.raises(NonFiniteError, match=r"step 5 \(epoch 2\): .*layers\.0 \(Linear 16→8\)") as raised:
        train(learner, epochs=2, stretch=stretch)
    assert "--lr (it was 0.02)" in str(raised.value)
    assert all((before[name] == array).all() for name, array in weights(learner).items())


@pytest.mark.parametrize("told", [True, False])
def test_the_first_bad_step_is_found_however_long_nobody_looked(told):
    """told: by the loss; else the loss stays finite, and only the weights at the end of the stretch show it."""
    found = []
    for eager, stretch in [(True, 0), (True, 1e9), (False, 0), (False, 1e9)]:
        learner = a_learner(eager=eager, optimizer="sgd", lr=1e4, clip_grad_norm=0.0, schedule="constant", epochs=200)
        if not told:
            learner.run_steps = lambda picked, run=learner.run_steps: {**run(picked), "loss": np.ones(len(picked))}
        with pytest.raises(NonFiniteError) as raised:
            train(learner, epochs=200, stretch=stretch)
        at = learner.state.progress
        assert learner.is_finite() and at.step == learner.state.schedules[0].last_epoch
        found.append((str(raised.value), at.step, at.seen, learner.state.lr, at.sums.get("loss"), weights(learner)))
    for one, other in [found[:2], found[2:]]:
        assert one[:5] == other[:5]
        assert all(array.tobytes() == other[5][name].tobytes() for name, array in one[5].items())
    assert found[0][:4] == found[2][:4], "eager and compiled name the same step and layer"


@both_ways
def test_inputs_that_are_not_finite_are_told_apart_from_layers(eager):
    learner = a_learner(eager=eager)
    learner.loader.dataset.tensors[0].array[7, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="the inputs 'image' of the batch hold NaN"):
        train(learner)


# ---- compiled ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resident", [True, False])
def test_compiled_it_learns_the_same_with_the_same_shuffles_and_masks(resident):
    """Dropout and shifts are drawn at every step, so that other masks would show at once."""
    means = []
    for eager in (True, False):
        learner = a_learner(eager=eager, epochs=10)
        if not resident:
            learner.loader.collate_fn = default_collate
            learner = Learner(learner.network, learner.loader, learner.settings)
        means.append([e.train["loss"] for e in train(learner, epochs=10) if isinstance(e, EpochDone)])
    np.testing.assert_allclose(means[1], means[0], rtol=1e-3)
    assert len(learner.native.compiled.made) == 2, "one program for full batches, one for the last"


def test_what_cannot_be_recorded_goes_on_eagerly_and_says_why():
    learner = a_learner(eager=False)
    forward = learner.network.forward
    object.__setattr__(learner.network, "forward", lambda x: forward(x) if x.sum().item() else forward(x) * 2)
    with pytest.warns(UserWarning, match="^not compiled, .* more slowly: .*item"):
        events = train(learner, epochs=2)
    assert learner.native.eager and events[-1].step == 8


def test_without_llvmlite_it_goes_on_eagerly_and_says_so(monkeypatch):
    learner = a_learner(eager=False)
    monkeypatch.setitem(sys.modules, "llvmlite", None)  # as if it were not installed
    with pytest.warns(UserWarning) as said:
        train(learner, epochs=2)
    assert [str(w.message) for w in said] == [
        "not compiled, so it runs operation by operation, more slowly: llvmlite is not installed; pip install llvmlite"
    ]
    eager = a_learner(eager=True)
    train(eager, epochs=2)
    assert all((array == weights(eager)[name]).all() for name, array in weights(learner).items())


def test_how_many_rows_there_are_does_not_decide_how_they_run():
    network = a_learner().eval_network
    forward = Forward(network)
    x = np.random.default_rng(0).normal(size=(4099, 4, 4)).astype(np.float32)
    expected = network(pl.tensor(x)).array
    many = forward([x])
    assert len(forward.native.compiled.made) == 1
    np.testing.assert_allclose(many, expected, rtol=1e-5, atol=1e-6)
    for n in (1, 2, 3, 8, 33):
        assert forward([x[5 : 5 + n]]).tobytes() == many[5 : 5 + n].tobytes()
    eagerly = Forward(network, eager=True)
    np.testing.assert_array_equal(eagerly([x[:1]]), network(pl.tensor(x[:1])).array)
    assert eagerly.native.compiled.last is None


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_learning_rates_rise_to_one_and_fall_to_nearly_nothing(schedule):
    curve = [learning_rate_curve(schedule, 0.2, 100)(t) for t in range(101)]
    top = int(np.argmax(curve))
    assert top == 20 and curve[top] == pytest.approx(1)
    assert (np.diff(curve[:21]) > 0).all() and (np.diff(curve[20:]) < 0).all() and curve[-1] < 1e-3
