"""A step of several turns: two small networks that train against each other, each with an optimizer of its own."""

import numpy as np
import pytest

import pellucid as pl
import pellucid.functional as F
from pellucid import nn
from pellucid.data.loader import DataLoader, TensorDataset
from pellucid.errors import NonFiniteError
from pellucid.models.base import Model, Phase
from pellucid.runs.settings import Settings
from pellucid.training.checkpoint import load_checkpoint, save_checkpoint
from pellucid.training.learner import Learner
from pellucid.training.loop import EpochDone, fit

N, BATCH = 48, 16
both_ways = pytest.mark.parametrize("eager", [True, False], ids=["eager", "compiled"])


class Maker(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(2, 4)
        self.draw = nn.Linear(4, 3)
        self.pull = nn.Linear(1, 1)  # read in the maker's own turn alone

    def forward(self, noise):
        return self.draw(F.relu(self.hidden(noise)))


class Rivals(Model):
    """A maker of points (B, 3), and a critic that tells them from data."""

    input_names = ("point",)

    def __init__(self):
        super().__init__()
        self.maker = Maker()
        self.critic = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
        self.odd = False  # whether the maker's loss has a gradient that is not finite

    def phases(self):
        return [Phase("critic", self.critic, self.critic_step), Phase("maker", self.maker, self.maker_values)]

    def critic_step(self, point, target):
        with pl.no_grad():
            made = self.maker(pl.randn(len(target), 2))
        loss = F.softplus(-self.critic(point)).mean() + F.softplus(self.critic(made)).mean()
        return {"loss": loss, "doubt": loss * 2}

    def maker_values(self, point, target):
        score = self.maker.pull(self.critic(self.maker(pl.randn(len(target), 2))) - 10)
        odd = (self.maker.pull.bias * 0).sqrt().sum() if self.odd else 0
        return {"loss": F.softplus(-score).mean() + odd}

    def evaluation_step(self, point, target):
        return {"loss": ((point - self.maker.draw.bias) ** 2).sum(1)}


def a_learner(**changes):
    points = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32) + 2
    settings = Settings(**{"epochs": 3, "batch_size": BATCH, "lr": 0.02, "eager": True, "ema_decay": 0.9, **changes})
    pl.manual_seed(0)
    data = TensorDataset(pl.tensor(points), pl.zeros(N))
    return Learner(Rivals(), DataLoader(data, batch_size=BATCH, shuffle=True, seed=0), settings)


def train(learner, until=None):
    """The events of a training, cut short after `until` of them."""
    events = []
    validate = lambda: {
        "loss": float(learner.eval_network.evaluation_step(*learner.loader.batch(np.arange(N)))["loss"].mean().array)
    }
    better = lambda a, b: a["loss"] < b["loss"]
    for event in fit(learner, validate, epochs=3, is_better=better, report_every=0):
        events.append(event)
        if len(events) == until:
            break
    return events


def weights(module):
    return {name: t.array.copy() for name, t in module.state_dict().items()}


def changed(before, module):
    return {name for name, array in weights(module).items() if (array != before[name]).any()}


def test_each_turn_moves_its_own_module_alone():
    learner = a_learner()
    learner.train_mode()
    batch = learner.loader.batch(np.arange(BATCH))
    for move, name in zip(learner.phases, ("critic", "maker"), strict=True):
        before = weights(learner.network)
        learner.run_phase(move, batch)
        moved = changed(before, learner.network)
        assert moved and all(one.startswith(f"{name}.") for one in moved)
        assert {id(p) for group in move.optimizers[0].param_groups for p in group["params"]} == {
            id(p) for p in getattr(learner.network, name).parameters()
        }


@both_ways
def test_values_carry_the_name_of_their_turn_and_the_loss_is_their_sum(eager):
    learner = a_learner(eager=eager)
    learner.train_mode()
    told = learner.run(np.arange(BATCH))
    assert told.keys() == {"critic_loss", "critic_doubt", "maker_loss", "loss"}
    assert told["loss"] == pytest.approx(told["critic_loss"] + told["maker_loss"], rel=1e-6)
    assert told["critic_doubt"] == pytest.approx(2 * told["critic_loss"])


def test_eager_and_compiled_train_the_same():
    found = []
    for eager in (True, False):
        learner = a_learner(eager=eager)
        epochs = [e.train for e in train(learner) if isinstance(e, EpochDone)]
        found.append((epochs, weights(learner.network)))
    for one, other in zip(found[0][0], found[1][0], strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    for name, array in found[0][1].items():
        np.testing.assert_allclose(array, found[1][1][name], rtol=1e-3, atol=1e-5)


@both_ways
@pytest.mark.parametrize(
    ("odd", "words"),
    [(False, r"Rivals\.maker\.pull \(Linear 1→1\) gave NaN"), (True, r"the gradient of maker\.pull\.bias became NaN")],
)
def test_what_breaks_in_the_second_turn_is_named_and_the_state_before_put_back(eager, odd, words):
    learner = a_learner(eager=eager)
    train(learner, until=4)  # an epoch
    learner.network.odd = odd
    with pl.no_grad():
        learner.network.maker.pull.weight.fill_(1.0 if odd else 3e38)
        learner.network.maker.pull.bias.fill_(0.0)
    before, step = weights(learner.network), learner.state.progress.step
    with pytest.raises(NonFiniteError, match=rf"step {step + 1} \(epoch 2\): {words}"):
        train(learner)
    assert not changed(before, learner.network) and learner.state.progress.step == step


@pytest.mark.parametrize(("optimizer", "eager"), [("adamw", True), ("muon", True), ("adamw", False)])
@pytest.mark.parametrize("cut", [2, 4])
def test_going_on_from_a_checkpoint_gives_the_same_bits(tmp_path, optimizer, eager, cut):
    whole, first, second = (a_learner(optimizer=optimizer, eager=eager) for _ in range(3))
    assert len(whole.state.optimizers) == (4 if optimizer == "muon" else 2)
    pl.manual_seed(5)
    train(whole)
    pl.manual_seed(5)
    train(first, until=cut)
    save_checkpoint(tmp_path / "c.safetensors", first)
    pl.manual_seed(99)  # whatever the random stream was doing
    load_checkpoint(tmp_path / "c.safetensors", second)
    train(second)
    assert not changed(weights(whole.network), second.network)
    for name, t in whole.state.average.averages.items():
        assert t.array.tobytes() == second.state.average.averages[name].array.tobytes(), name
    assert {name: array.tobytes() for name, array in whole.state.best.items()} == {
        name: array.tobytes() for name, array in second.state.best.items()
    }
