"""Judging in batches, means over what is scored, and epochs of a fixed number of steps."""

import numpy as np
import pytest

import pellucid as pl
from pellucid.data.input_spec import ImageSpec, TextSpec
from pellucid.data.loader import DataLoader, TensorDataset
from pellucid.data.problem import TokenSequence
from pellucid.evaluation.compiled import EvaluationStep, Forward, means
from pellucid.models import mlp, transformer
from pellucid.models.base import Model
from pellucid.runs.settings import Settings
from pellucid.training.checkpoint import load_checkpoint, save_checkpoint
from pellucid.training.learner import Learner
from pellucid.training.loop import BatchDone, fit


class Told(Model):
    """Says of each example its own number, and keeps how many it was asked for at once."""

    eval_batch_size = 4

    def __init__(self):
        super().__init__()
        self.target_rows = []

    def evaluation_step(self, number, target):
        self.target_rows.append(len(number))
        return {"loss": number * 2, "count": target}


@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 9, 11])
def test_every_example_is_judged_once_in_batches_of_one_size(n):
    network = Told()
    numbers, counts = np.arange(n, dtype=np.float32), np.arange(1, n + 1, dtype=np.float32)
    values = EvaluationStep(network)(TensorDataset(pl.tensor(numbers), pl.tensor(counts)))
    assert values["loss"].tolist() == (2 * numbers).tolist() and values["count"].tolist() == counts.tolist()
    assert len(set(network.target_rows)) == 1 and max(network.target_rows) <= 4
    assert means(values) == {"loss": pytest.approx(2 * numbers.sum() / counts.sum())}


def test_without_counts_each_example_counts_once():
    assert means({"loss": np.array([1.0, 2.0, 6.0]), "accuracy": np.array([1.0, 0.0, 1.0])}) == {
        "loss": 3.0,
        "accuracy": pytest.approx(2 / 3),
    }


def test_a_text_is_judged_by_each_of_its_tokens_compiled_or_not():
    pl.manual_seed(0)
    tokens = np.random.default_rng(0).integers(0, 5, 700).astype(np.uint8)
    config = transformer.Config(num_layers=1, num_heads=1, d_model=4, context_length=8)
    network = transformer.build(TextSpec(5), 1, "language", config).eval()
    network.eval_batch_size = 50
    dataset = TokenSequence(tokens).eval_dataset(network)
    eager, compiled = (EvaluationStep(network, eager=eager)(dataset) for eager in (True, False))
    assert compiled["count"].sum() == eager["count"].sum() == 699
    np.testing.assert_allclose(compiled["loss"], eager["loss"], rtol=1e-4)
    targets = [dataset.gather(np.array([i])) for i in range(len(dataset))]
    with pl.no_grad():
        one_by_one = sum(float(network.evaluation_step(*batch)["loss"].array.sum()) for batch in targets)
    assert means(eager)["loss"] == pytest.approx(one_by_one / 699, rel=1e-5)


def test_the_last_batch_of_answers_is_in_its_place():
    network = mlp.build(ImageSpec((2, 2)), 3, "classification", mlp.Config(hidden_sizes=())).eval()
    network.eval_batch_size = 700
    x = np.random.default_rng(0).normal(size=(2501, 2, 2)).astype(np.float32)
    np.testing.assert_allclose(Forward(network)([x]), network(pl.tensor(x)).array, rtol=1e-4, atol=1e-5)


# ---- epochs of so many steps ---------------------------------------------------------------------------------------------


def a_learner():
    x = np.random.default_rng(0).normal(size=(50, 2, 2)).astype(np.float32)
    y = (x.sum((1, 2)) > 0).astype(np.int64)
    settings = Settings(epochs=4, batch_size=8, steps_per_epoch=3, eager=True, lr=0.02)
    pl.manual_seed(0)
    network = mlp.build(ImageSpec((2, 2)), 2, "classification", mlp.Config(hidden_sizes=(4,), dropout=0.2))
    data = TensorDataset(pl.tensor(x), pl.tensor(y))
    return Learner(network, DataLoader(data, batch_size=8, shuffle=True, seed=0, steps=3), settings)


def steps(learner, until=None):
    """The numbers of the examples of each step, and the events."""
    taken, events = [], []
    learner.run_steps = lambda picked, run=learner.run_steps: taken.extend(picked.tolist()) or run(picked)
    for event in fit(learner, lambda: {"loss": 1.0}, epochs=4, is_better=lambda a, b: False, report_every=0):
        events.append(event)
        if len(events) == until:
            break
    return taken, events


def test_epochs_of_so_many_steps_choose_anew_each_time():
    taken, events = steps(a_learner())
    assert len(taken) == 12 and all(len(picked) == 8 for picked in taken)
    epochs = [[number for picked in taken[i : i + 3] for number in picked] for i in range(0, 12, 3)]
    assert all(len(set(epoch)) == 24 for epoch in epochs) and len({tuple(sorted(epoch)) for epoch in epochs}) == 4
    assert [(e.seen, e.examples) for e in events if isinstance(e, BatchDone)][:4] == [
        (8, 24),
        (16, 24),
        (24, 24),
        (8, 24),
    ]


@pytest.mark.parametrize("cut", [2, 3, 4, 6])
def test_such_an_epoch_goes_on_where_it_was_left(tmp_path, cut):
    whole = a_learner()
    taken, _ = steps(whole)
    first = a_learner()
    before, _ = steps(first, until=cut)
    save_checkpoint(tmp_path / "c.safetensors", first)
    second = a_learner()
    load_checkpoint(tmp_path / "c.safetensors", second)
    after, _ = steps(second)
    assert before + after == taken
    for name, t in whole.network.state_dict().items():
        assert t.array.tobytes() == second.network.state_dict()[name].array.tobytes(), name


def test_more_steps_than_there_are_batches_are_one_pass():
    loader = DataLoader(TensorDataset(pl.zeros(50)), batch_size=8, steps=100)
    assert (len(loader), loader.examples) == (7, 50)
