"""How well the first order of blame ranks the weights, against ablation, with controls; the networks are trained here."""

import csv
import os
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import pellucid as torch
from pellucid import nn, optim
from pellucid.cli import cli
from pellucid.data.image.idx import pairs_in, read_pair
from pellucid.inference.asked import RunExamples
from pellucid.inspect import Question, blame
from pellucid.inspect.ablation import write_zero
from pellucid.inspect.blame import loss
from pellucid.inspect.ranks import spearman
from pellucid.inspect.twin import twin
from pellucid.nn import functional as F
from pellucid.runs.run import load_run

pytestmark = pytest.mark.slow


def trained(network, x, y, epochs, batch_size=32, lr=2e-3):
    torch.manual_seed(1)
    optimizer = optim.AdamW(network.parameters(), lr=lr, weight_decay=0.0)

    @torch.compile
    def step(a, b):
        optimizer.zero_grad()
        value = F.cross_entropy(network(a), b)
        value.backward()
        optimizer.step()
        return value.detach()

    chance = np.random.default_rng(0)
    for _ in range(epochs):
        order = chance.permutation(len(x))
        for start in range(0, len(x) - batch_size + 1, batch_size):
            rows = order[start : start + batch_size]
            step(torch.tensor(x[rows]), torch.tensor(y[rows]))
    network.zero_grad()
    return network.eval()


def mlp(*sizes):
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def wrong_questions(network, x, y, most):
    with torch.no_grad():
        said = np.concatenate([network(torch.tensor(x[i : i + 500])).numpy().argmax(1) for i in range(0, len(x), 500)])
    rows = np.flatnonzero(said != y)[:most]
    return [Question.of(network, torch.tensor(x[i : i + 1]), int(y[i])) for i in rows]


def agreement(question, count, seed=0, evenly=False):
    """Rank correlations over a sample of weights with an effect: of -g w with it; of |g| and of |w| with its size.

    evenly: as many from each Parameter. Then those whose sizes differ from layer to layer, as gradients do, are told apart.
    """
    other = twin(question)
    assert other is not question
    names, parameters = zip(*other.network.named_parameters(), strict=True)
    found = torch.autograd.grad(other.loss(other.output()).sum(), parameters, allow_unused=True)
    g = np.concatenate([np.zeros(p.numel()) if one is None else one.numpy().ravel() for one, p in zip(found, parameters, strict=True)])  # fmt: skip
    w = np.concatenate([p.detach().numpy().ravel() for p in parameters])
    starts = np.cumsum([0, *(p.numel() for p in parameters)])
    live = np.flatnonzero(g * w)
    order = np.random.default_rng(seed).permutation(live)
    share = count // len(names)
    chosen = np.sort(
        np.concatenate([order[(order >= a) & (order < b)][:share] for a, b in pairwise(starts)])
        if evenly
        else order[:count]
    )
    effects = np.concatenate(
        [
            write_zero([other], loss, name, chosen[(chosen >= a) & (chosen < b)] - a)
            for name, (a, b) in zip(names, pairwise(starts), strict=True)
        ]
    )
    effects -= other.loss(other.output()).item()
    moved = effects != 0
    g, w, effects = g[chosen][moved], w[chosen][moved], effects[moved]
    return spearman(-g * w, effects), spearman(abs(g), abs(effects)), spearman(abs(w), abs(effects))


def told(name, rows):
    rows = np.array(rows)
    print(f"{name}: mean {rows.mean(0).round(3)} least {rows.min(0).round(3)} n {len(rows)}")
    return rows


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    x, y = (data.images / 16).astype(np.float32).reshape(-1, 64), data.target.astype(np.int64)
    a, b, c, d = train_test_split(x, y, train_size=400, random_state=0, stratify=y)
    torch.manual_seed(0)
    network = trained(mlp(64, 64, 32, 10), a, c, 60)
    found = wrong_questions(network, b, d, 50)
    assert len(found) == 50
    return found


def worst_shared(found, exact):
    """The share of the truly worst 1% of weights that the first order has among its worst 1%."""
    rows = [*exact.rows]
    most = len(rows) // 100
    first = {row.name for row in sorted(rows, key=lambda row: row.estimate)[:most]}
    return len(first & {row.name for row in rows[:most]}) / most


def test_digits(digits):
    rows, shared, units = [], [], []
    for question in digits:
        found = blame(question, top=10**6)
        assert found.measured == found.parts == 6570
        sizes = [float(check.control.split()[1].rstrip(",")) for check in found.checks if check.name == "first order"]
        rows.append((found.rank_agreement, *sizes))
        shared.append(worst_shared(found, found))
        units.append(blame(question, of="units", top=1000).rank_agreement)
    rows = told("digits, -gw and |g|", rows)
    shared, units = told("worst 1% shared", shared), told("units", units)
    assert rows[:, 0].mean() >= 0.95
    assert rows[:, 0].min() >= 0.90
    assert rows[:, 1].mean() < rows[:, 0].mean() - 0.02
    assert shared.mean() >= 0.9
    assert units.mean() >= 0.95
    assert units.min() >= 0.90


def test_nudging_the_most_blamed_weights_lowers_the_loss(digits):
    drops = []
    for i, question in enumerate(digits):
        other = twin(question)
        parameters = [p for p in other.network.parameters() if p.ndim > 1]
        value = other.loss(other.output()).sum()
        g = np.concatenate([one.numpy().ravel() for one in torch.autograd.grad(value, parameters)])
        w = np.concatenate([p.detach().numpy().ravel() for p in parameters])
        count = len(w) // 100

        def without(rows, g=g, w=w, parameters=parameters, other=other, value=value):
            nudged, at = w.copy(), 0
            nudged[rows] -= 0.02 * np.sign(g[rows])
            for p in parameters:
                p.assign(nudged[at : at + p.numel()].reshape(p.shape))
                at += p.numel()
            with torch.no_grad():
                return value.item() - other.loss(other.output()).item()

        most = without(np.argsort(-abs(g * w))[:count])
        chance = np.random.default_rng(i)
        random = np.mean([without(chance.choice(len(w), count, replace=False)) for _ in range(20)])
        drops.append(most / random)
    drops = told("nudging the top 1% against a random 1%", drops)
    print("10th percentile", np.quantile(drops, 0.1))
    assert drops.mean() >= 8
    assert (drops >= 5).mean() >= 0.9


@pytest.fixture(scope="module")
def mnist():
    pairs = pairs_in(Path(os.environ["PELLUCID_DATA"]) / "mnist")
    assert len(pairs) == 2
    found = []
    for name, most in (("train", 12000), ("t10k", 4000)):
        images, labels, _ = read_pair(*pairs[name])
        found += [images[:most].reshape(most, -1).astype(np.float32) / 255, labels[:most].astype(np.int64)]
    return found


def test_mnist_and_the_time_of_all_ablations(mnist):
    x, y, others, targets = mnist
    torch.manual_seed(0)
    questions = wrong_questions(trained(mlp(784, 128, 64, 10), x, y, 4), others, targets, 12)
    blame(questions[0])
    rows, times = [], []
    for question in questions:
        wall, start = time.time(), time.process_time()
        found = blame(question, top=20)
        times.append((time.process_time() - start, time.time() - wall))
        assert (found.method, found.measured) == ("exact", 109386)
        rows.append(found.rank_agreement)
    told("seconds of CPU and wall for all 109,386 ablations", times)
    rows = told("mnist", rows)
    assert rows.mean() >= 0.95
    assert rows.min() >= 0.90


def test_convolutions(mnist):
    x, y, others, targets = mnist
    shape = lambda rows: rows.reshape(-1, 1, 28, 28)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 49, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    questions = wrong_questions(trained(network, shape(x), y, 3, 64), shape(others), targets, 8)
    rows = told("CNN, -gw |g| |w|", [agreement(question, 400) for question in questions])
    assert rows[:, 0].mean() >= 0.93


def of_run(tmp_path_factory, name, *words):
    folder = tmp_path_factory.mktemp(name)
    before = Path.cwd()
    os.chdir(folder)
    try:
        result = CliRunner().invoke(cli, ["train", *words, "--quiet", "--run-dir", "run"])
    finally:
        os.chdir(before)
    assert result.exit_code == 0, result.output
    return RunExamples(load_run(folder / "run"))


def test_an_lstm_on_temperatures(tmp_path_factory):
    examples = of_run(
        tmp_path_factory, "temperatures", "temperatures", "--model", "lstm", "--set", "linear=false", "--epochs", "6"
    )
    losses = examples.network.evaluation_step
    split = examples.data.examples("test")
    with torch.no_grad():
        arrays = [torch.tensor(split.inputs[name]) for name in examples.network.input_names]
        values = losses(*arrays, torch.tensor(split.target))["loss"].numpy()
    rows = [agreement(examples.ask(int(i) + 1).question, 300) for i in np.argsort(-values)[:8]]
    rows = told("LSTM, -gw |g| |w|", rows)
    assert rows[:, 0].mean() >= 0.93


def test_a_transformer_where_the_gradient_alone_fails(tmp_path_factory):
    examples = of_run(
        tmp_path_factory, "names", "names", "--model", "transformer", "--epochs", "2", "--set", "d_model=48",
        "--set", "num_layers=2", "--set", "num_heads=2",
    )  # fmt: skip
    rows = told(
        "Transformer, -gw |g| |w|", [agreement(examples.ask(i).question, 400, evenly=True) for i in range(1, 9)]
    )
    assert rows[:, 0].mean() >= 0.95
    assert rows[:, 1].mean() < 0.8


def test_the_table_network_on_adult(tmp_path_factory):
    data = os.environ["PELLUCID_DATA"]
    folder = tmp_path_factory.mktemp("adult-rows")
    with open(Path(data) / "tabular" / "adult-train.csv", newline="", encoding="utf-8") as file:
        rows = [row for _, row in zip(range(3000), csv.reader(file, skipinitialspace=True), strict=False)]
    columns = [f"column {i}" for i in range(len(rows[0]) - 1)]
    with open(folder / "adult.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[*columns, "income"], *rows])
    examples = of_run(tmp_path_factory, "adult", str(folder / "adult.csv"), "--target", "income", "--epochs", "6")
    print(type(examples.network).__name__, sum(p.numel() for p in examples.network.parameters()))
    wrong = []
    for i in range(1, 400):
        asked = examples.ask(i)
        if asked.answer()[0] != asked.right:
            wrong.append(asked.question)
        if len(wrong) == 8:
            break
    kinds = {name.split(".")[0] for name, _ in examples.network.named_parameters()}
    assert kinds == {"embeddings", "layers"}
    found = told("Adult, -gw |g| |w|", [agreement(question, 400) for question in wrong])
    assert found[:, 0].mean() >= 0.95
    assert found[:, 0].min() >= 0.90


def test_measured_rows_agree_with_the_sample(digits):
    """The agreement that a hurried ranking prints is close to that over all weights."""
    for question in digits[:10]:
        some = blame(question, method="gradient")
        assert abs(some.rank_agreement - blame(question).rank_agreement) < 0.06
