"""What influence claims, by retraining: without the examples named for a wrong answer the network no longer gives it."""

import numpy as np
import pytest

import pellucid as torch
from pellucid import nn, optim
from pellucid.data.load import load_problem
from pellucid.inspect import TrainingRows, WeightSet, tracin

ROWS, REMOVED, EPOCHS, SEEDS, ANSWERS = 300, 30, 40, 3, 10


def new_network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def train(x, y, seed):
    """The network after EPOCHS, and its weights after every second one."""
    network, chance, sets = new_network(seed), np.random.default_rng(seed), []
    optimizer = optim.AdamW(network.parameters(), lr=2e-3)
    for epoch in range(EPOCHS):
        order = chance.permutation(len(x))
        for i in range(0, len(x), 32):
            picked = order[i : i + 32]
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(torch.tensor(x[picked])), torch.tensor(y[picked])).backward()
            optimizer.step()
        if epoch % 2:
            sets.append(WeightSet({name: value.array for name, value in network.state_dict().items()}, 2e-3))
    return network.eval(), sets


def logarithms(network, x):
    with torch.no_grad():
        return network(torch.tensor(x)).log_softmax(-1).numpy()


@pytest.mark.slow
def test_without_the_named_examples_the_wrong_answer_goes_away(capsys):
    problem = load_problem("digits")
    read = lambda part: part.inputs["image"].reshape(len(part), -1).astype(np.float32) / part.inputs["image"].max()
    x, y = read(problem.train)[:ROWS], problem.train.target[:ROWS]
    others = np.concatenate([read(problem.test), read(problem.validation)])
    right = np.concatenate([problem.test.target, problem.validation.target])
    network, sets = train(x, y, 0)
    said = logarithms(network, others).argmax(1)
    wrong = np.flatnonzero(said != right)[:ANSWERS]
    assert len(wrong) == ANSWERS
    whole = [logarithms(train(x, y, seed)[0], others) for seed in range(SEEDS)]
    losses = lambda inputs, target: nn.functional.cross_entropy(network(inputs), target, reduction="none")
    rows = TrainingRows(ROWS, lambda picked: (torch.tensor(x[picked]), torch.tensor(y[picked])), losses)
    chance = np.random.default_rng(0)

    def rise(i, removed):
        """By how much the loss of the wrong answer rises without these rows, mean over the seeds."""
        kept = np.setdiff1d(np.arange(ROWS), removed)
        after = [logarithms(train(x[kept], y[kept], seed)[0], others[i : i + 1])[0, said[i]] for seed in range(SEEDS)]
        return float(np.mean([before[i, said[i]] for before in whole]) - np.mean(after))

    found = []
    for i in wrong:
        score = lambda i=i: network(torch.tensor(others[i : i + 1])).log_softmax(-1)[:, int(said[i])]
        named = np.argsort(-tracin(network, rows, score, sets))[:REMOVED]
        found.append((rise(i, named), rise(i, chance.choice(ROWS, REMOVED, replace=False))))
    with capsys.disabled():
        print("\nrise of the loss of a wrong answer, named rows removed / random rows removed")
        print("\n".join(f"  {named:6.2f} / {control:6.2f}" for named, control in found))
    assert sum(named >= 5 * max(control, 0.0) and named > 0.5 for named, control in found) >= 9
