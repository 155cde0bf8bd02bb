"""The eager engine against PyTorch eager: one training step of the MLP 784-128-64-10 with Adam, in one run.

    python bench/eager.py                 batches 32, 128 and 512, two threads
    python bench/eager.py --batch 32 --rounds 15 --json

Both sides start from the same weights and see the same batches; the first 30 losses must agree within 1e-3 relative or
the row says "not comparable". Rounds alternate between the two, so that both meet the same weather; a round is the median
of its steps, and a row shows the median over rounds with the smallest and largest. PyTorch is `pip install torch==2.13.0`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

import pellucid
from pellucid.threads import set_num_threads

SIZES = (784, 128, 64, 10)
CHECKED = 30  # steps whose losses are compared
Step = Callable[[int], float]


def start(batch: int, batches: int = 8) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """The weights both sides start from (uniform, +-1/sqrt(fan in)) and the batches both sides see."""
    random = np.random.default_rng(0)
    weights = []
    for inputs, outputs in itertools.pairwise(SIZES):
        bound = inputs**-0.5
        weights += [
            random.uniform(-bound, bound, shape).astype(np.float32) for shape in [(outputs, inputs), (outputs,)]
        ]
    images = [random.random((batch, SIZES[0]), np.float32) for _ in range(batches)]
    labels = [random.integers(0, SIZES[-1], batch) for _ in range(batches)]
    return weights, images, labels


def make_step(torch: object, batch: int, **options: object) -> Step:
    """One training step, written once in the names that both libraries share."""
    nn = torch.nn  # type: ignore[attr-defined]
    weights, images, labels = start(batch)
    layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(SIZES)):
        layers += [nn.Linear(inputs, outputs)] + ([nn.ReLU()] if i < len(SIZES) - 2 else [])
    model = nn.Sequential(*layers)
    tensor, no_grad = torch.tensor, torch.no_grad  # type: ignore[attr-defined]
    with no_grad():
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.copy_(tensor(weight))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, **options)  # type: ignore[attr-defined]
    xs, ys = [tensor(x) for x in images], [tensor(y) for y in labels]

    def step(i: int) -> float:
        optimizer.zero_grad()
        loss = criterion(model(xs[i % len(xs)]), ys[i % len(ys)])
        loss.backward()
        optimizer.step()
        return loss

    return step


def median_time(step: Step, steps: int) -> float:
    """Microseconds of one step: the median of `steps`."""
    times = []
    for i in range(steps):
        before = time.perf_counter()
        step(i)
        times.append(time.perf_counter() - before)
    return statistics.median(times) * 1e6


def measure(sides: dict[str, Step], rounds: int, steps: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, step in sides.items():
            times[name].append(median_time(step, steps))
    return times


def row(batch: int, rounds: int, steps: int) -> dict[str, object]:
    import torch

    sides = {
        "pellucid": make_step(pellucid, batch),
        "PyTorch": make_step(torch, batch),
        "PyTorch, fused Adam": make_step(torch, batch, fused=True),
    }
    losses = {name: np.array([step(i).item() for i in range(CHECKED)]) for name, step in sides.items()}  # type: ignore[attr-defined]
    apart = max(float(np.max(abs(values / losses["PyTorch"] - 1))) for values in losses.values())
    times = measure(sides, rounds, steps)
    return {"batch": batch, "loss_difference": apart, "comparable": apart <= 1e-3, "microseconds": times}


def show(result: dict) -> None:
    times = result["microseconds"]
    print(f"batch {result['batch']}: losses of {CHECKED} steps differ by at most {result['loss_difference']:.1e} relative"
          + ("" if result["comparable"] else "  NOT COMPARABLE"))  # fmt: skip
    for name, values in times.items():
        line = f"  {name:<20}{statistics.median(values):8.0f} us  ({min(values):.0f}-{max(values):.0f})"
        if name != "pellucid" and result["comparable"]:
            ratios = [theirs / ours for theirs, ours in zip(values, times["pellucid"], strict=True)]
            line += f"   {statistics.median(ratios):.2f}x as long as pellucid  ({min(ratios):.2f}-{max(ratios):.2f})"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=100, help="steps in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("bench/eager.py compares with PyTorch, which is not installed here; run: pip install torch==2.13.0")
    torch.set_num_threads(options.threads)
    set_num_threads(options.threads)
    versions = {"pellucid": pellucid.__version__, "torch": torch.__version__, "numpy": np.__version__,
                "python": platform.python_version(), "threads": options.threads}  # fmt: skip
    results = [row(batch, options.rounds, options.steps) for batch in options.batch]
    if options.json:
        print(json.dumps({"versions": versions, "rows": results}))
        return
    print("one training step, MLP " + "-".join(map(str, SIZES)) + ", Adam:", versions)
    for result in results:
        show(result)


if __name__ == "__main__":
    main()
