"""The adding problem (Hochreiter and Schmidhuber 1997): can a recurrent network remember two numbers for 200 steps?

Each step shows a number from 0 to 1 and a mark, which is 1 at two places, one in each half. The target is the sum of the two
marked numbers. Always predicting 1 has a mean squared error of 1/6; below 0.01 the problem counts as solved.
"""

import argparse
import time

import numpy as np

import pellucid
from pellucid import nn, optim

STEPS_APART = 200  # T
BATCH = 64
SOLVED = 0.01


def examples(random, count, length):
    """Sequences (count, length, 2) float32, and their targets (count,)."""
    numbers, marks = random.random((count, length), np.float32), np.zeros((count, length), np.float32)
    rows, half = np.arange(count), length // 2
    first, second = random.integers(0, half, count), random.integers(half, length, count)
    marks[rows, first] = marks[rows, second] = 1
    return np.stack([numbers, marks], 2), numbers[rows, first] + numbers[rows, second]


class Adder(nn.Module):
    """A GRU over the sequence, and a linear layer on its last state."""

    def __init__(self, hidden):
        super().__init__()
        self.recurrent = nn.GRU(2, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1]).squeeze(1)  # (B, T, 2) -> (B,)


def main():
    parser = argparse.ArgumentParser(description="Train a GRU on the adding problem and test it on new sequences.")
    parser.add_argument("--steps", type=int, default=4000, help="training steps at most")
    parser.add_argument("--length", type=int, default=STEPS_APART, help="steps in a sequence")
    parser.add_argument("--hidden", type=int, default=64, help="size of the GRU's state")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    pellucid.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)
    network = Adder(options.hidden)
    optimizer = optim.Adam(network.parameters(), lr=2e-3)

    @pellucid.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(network(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    began, mean = time.perf_counter(), 1.0
    for i in range(1, options.steps + 1):
        loss = step(*map(pellucid.tensor, examples(random, BATCH, options.length))).item()
        mean += (loss - mean) / min(i, 50)  # of the last 50 steps or so
        if i % 200 == 0 or i == options.steps:
            print(f"step {i:5}  training error {mean:.5f}  {time.perf_counter() - began:6.1f} s", flush=True)
        if i >= 50 and mean < SOLVED / 5:
            break
    x, y = examples(np.random.default_rng(options.seed + 1_000_000), 2000, options.length)
    with pellucid.no_grad():
        predictions = np.concatenate([network(pellucid.tensor(part)).numpy() for part in np.split(x, 4)])
    error = float(np.mean((predictions - y) ** 2))
    print(f"{i:,} steps of {BATCH} sequences of {options.length}, {time.perf_counter() - began:.1f} s")
    print(f"mean squared error on 2,000 new sequences: {error:.5f}, {'solved' if error < SOLVED else 'not solved'}")
    print(f"the best constant prediction: {np.mean((y.mean() - y) ** 2):.5f}")


if __name__ == "__main__":
    main()
