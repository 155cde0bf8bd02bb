"""The loop: what it yields, when it stops, what it does with a loss that is not finite, and going on with the same bits."""

import numpy as np
import pytest

import pellucid as pl
from pellucid.data.loader import DataLoader, TensorDataset
from pellucid.errors import NonFiniteError, StateError
from pellucid.models import mlp
from pellucid.training.checkpoint import load_checkpoint, save_checkpoint
from pellucid.training.learner import Learner, learning_rate_curve
from pellucid.training.loop import BatchDone, EpochDone, fit
from pellucid.training.settings import OPTIMIZERS, Settings

N = 50


def a_learner(**changes):
    random = np.random.default_rng(0)
    x = random.normal(size=(N, 4, 4)).astype(np.float32)
    y = (x.sum((1, 2)) > 0).astype(np.int64)
    settings = Settings(**{"epochs": 4, "batch_size": 16, "lr": 0.02, **changes})
    pl.manual_seed(settings.seed)
    network = mlp.build({"image": [4, 4]}, 2, "classification", mlp.Config(layers=(8,), dropout=0.2, shift=1))
    loader = DataLoader(TensorDataset(pl.tensor(x), pl.tensor(y)), batch_size=16, shuffle=True, seed=settings.seed)
    return Learner(network, loader, settings)


def train(learner, epochs=4, losses=None, patience=0, until=None):
    """The events of a training whose validation losses are `losses`, cut short after `until` of them."""
    given = iter(np.linspace(1, 0.5, 100) if losses is None else losses)
    validate = lambda: {"loss": float(next(given))}
    events = []
    for event in fit(
        learner, learner.step, validate, epochs=epochs, patience=patience, better=lambda a, b: a["loss"] < b["loss"]
    ):
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
    assert learner.progress.best_epoch == 2 and learner.progress.best == {"loss": 1.0}
    assert any((learner.best[name] != array).any() for name, array in weights(learner).items())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("cut", [1, 4, 5, 7])  # in an epoch, after its last batch, after it, in the next one
def test_going_on_from_a_checkpoint_gives_the_same_bits(tmp_path, cut, optimizer):
    whole = a_learner(optimizer=optimizer)
    train(whole)
    first = a_learner(optimizer=optimizer)
    train(first, until=cut)
    save_checkpoint(tmp_path / "c.safetensors", first)
    second = a_learner(optimizer=optimizer)
    pl.manual_seed(99)  # whatever the random stream was doing
    load_checkpoint(tmp_path / "c.safetensors", second)
    done = second.progress.epoch
    train(second, losses=np.linspace(1, 0.5, 100)[done:])
    for name, array in weights(whole).items():
        assert array.tobytes() == weights(second)[name].tobytes(), name
        assert whole.best[name].tobytes() == second.best[name].tobytes(), name
    assert whole.progress == second.progress or whole.progress.seconds != second.progress.seconds


def test_a_checkpoint_cut_short_is_named(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, a_learner())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StateError, match="c.safetensors: .* not a whole safetensors file"):
        load_checkpoint(path, a_learner())


def test_a_loss_that_explodes_names_layer_and_step_and_puts_the_weights_back():
    learner = a_learner()
    train(learner, epochs=1)
    layer = learner.network.layers[0]
    with pl.no_grad():
        layer.weight.fill_(3e38)
    before = weights(learner)
    with pytest.raises(NonFiniteError, match=r"step 5 \(epoch 2\): .*layers\.0 \(Linear 16→8\)") as raised:
        train(learner, epochs=2)
    assert "--lr (it was 0.02)" in str(raised.value)
    assert all((before[name] == array).all() for name, array in weights(learner).items())


def test_inputs_that_are_not_finite_are_told_apart_from_layers():
    learner = a_learner()
    learner.loader.dataset.tensors[0].array[7, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="the inputs 'image' of the batch hold NaN"):
        train(learner)


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_learning_rates_rise_to_one_and_fall_to_nearly_nothing(schedule):
    curve = [learning_rate_curve(schedule, 0.2, 100)(t) for t in range(101)]
    top = int(np.argmax(curve))
    assert top == 20 and curve[top] == pytest.approx(1)
    assert (np.diff(curve[:21]) > 0).all() and (np.diff(curve[20:]) < 0).all() and curve[-1] < 1e-3
