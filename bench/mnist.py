"""From the start of a process to 97% on MNIST's test images, imports and reading and all: pellucid and PyTorch in turn.

    python bench/mnist.py                                   each side in five fresh processes, medians and spread
    python bench/mnist.py --side pellucid --threads 2       one side, once; or --side torch

Both sides are the whole training program a user would write: an MLP 784-128-64-10, Adam with a learning rate of 1e-3,
batches of 128, pixels over 255, the 10,000 test images after each third of an epoch, the end at 97%. Run k starts both
from the same weights and the same shuffling, drawn from seed k. PyTorch is `pip install torch==2.13.0`, with its fused
Adam. The files (train-images-idx3-ubyte.gz and so on) lie in $PELLUCID_DATA/mnist or in ../shared/data/mnist.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

STARTED = time.time()
GOAL, BATCH, MOST_EPOCHS = 0.97, 128, 20
THIRD = 60_000 // BATCH // 3  # steps between two tests


def since_start() -> float:
    """Seconds since this process was created; where the system does not say, since this file was read."""
    stat = Path("/proc/self/stat")
    if not stat.exists():
        return time.time() - STARTED
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def read_mnist(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 784), float32 from 0 to 1, and labels (N,), int64."""
    folder = Path(os.environ.get("PELLUCID_DATA") or Path(__file__).parents[2] / "shared" / "data") / "mnist"
    pixels, labels = (
        np.frombuffer(gzip.decompress((folder / f"{part}-{kind}-ubyte.gz").read_bytes()), np.uint8, offset=offset)
        for kind, offset in [("images-idx3", 16), ("labels-idx1", 8)]
    )
    return np.multiply(pixels.reshape(-1, 784), 1 / 255, dtype=np.float32), labels.astype(np.int64)


def start_weights(random: np.random.Generator) -> list[np.ndarray]:
    """As nn.Linear begins, uniform within +-1/sqrt(inputs), but the same for both sides."""
    shapes = [(128, 784), (64, 128), (10, 64)]
    return [
        random.uniform(-(shape[1] ** -0.5), shape[1] ** -0.5, part).astype(np.float32)
        for shape in shapes
        for part in (shape, shape[:1])
    ]


def thirds(random: np.random.Generator) -> list[np.ndarray]:
    """One epoch of shuffled rows, (steps, batch), in three parts."""
    order = random.permutation(60_000)[: THIRD * 3 * BATCH]
    return list(order.reshape(3, THIRD, BATCH))


def train_pellucid(threads: int, seed: int) -> tuple[float, int]:
    import pellucid
    from pellucid import nn

    pellucid.set_num_threads(threads)
    random = np.random.default_rng(seed)
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    with pellucid.no_grad():
        for parameter, weight in zip(model.parameters(), start_weights(random), strict=True):
            parameter.copy_(pellucid.tensor(weight))
    criterion, optimizer = nn.CrossEntropyLoss(), pellucid.optim.Adam(model.parameters(), lr=1e-3)

    @pellucid.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    data = tuple(pellucid.from_numpy(a) for a in read_mnist("train"))
    test, labels = read_mnist("t10k")
    images, predict = pellucid.from_numpy(test), pellucid.compile(model)
    accuracy, steps = 0.0, 0
    for _ in range(MOST_EPOCHS):
        for indices in thirds(random):
            step.run_steps(data, indices)
            with pellucid.no_grad():
                accuracy = float((predict(images).numpy().argmax(1) == labels).mean())
            steps += THIRD
            if accuracy >= GOAL:
                return accuracy, steps
    return accuracy, steps


def train_torch(threads: int, seed: int) -> tuple[float, int]:
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    random = np.random.default_rng(seed)
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), start_weights(random), strict=True):
            parameter.copy_(torch.from_numpy(weight))
    criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    rows, classes = (torch.from_numpy(a) for a in read_mnist("train"))
    images, labels = (torch.from_numpy(a) for a in read_mnist("t10k"))
    accuracy, steps = 0.0, 0
    for _ in range(MOST_EPOCHS):
        for indices in thirds(random):
            for chosen in torch.from_numpy(indices):
                optimizer.zero_grad()
                loss = criterion(model(rows[chosen]), classes[chosen])
                loss.backward()
                optimizer.step()
            with torch.inference_mode():
                accuracy = (model(images).argmax(1) == labels).float().mean().item()
            steps += THIRD
            if accuracy >= GOAL:
                return accuracy, steps
    return accuracy, steps


def compare(options: argparse.Namespace) -> None:
    """Fresh processes, the sides in turn; one of each beforehand, so that the files are in memory for all."""
    from common import empty_cache, fresh, ratio, spread

    runs: dict[str, list[dict]] = {"pellucid": [], "pellucid, empty cache": [], "torch": []}
    for k in range(-1, options.runs):
        for name, told in runs.items():
            arguments = [
                "--side",
                name.split(",")[0],
                "--threads",
                str(options.threads),
                "--seed",
                str(max(k, 0)),
                "--json",
            ]
            with empty_cache() as folder:
                result = fresh(__file__, *arguments, cache=folder if "empty" in name else None)
            if k >= 0:
                told.append(result)
    if options.json:
        print(json.dumps(runs))
        return
    print(f"process start to {GOAL:.0%} on MNIST's test images, {options.threads} threads, {options.runs} runs:")
    seconds = {name: [run["seconds"] for run in told] for name, told in runs.items()}
    for name, told in runs.items():
        steps = statistics.median(run["steps"] for run in told)
        worst = min(run["accuracy"] for run in told)
        line = f"  {name:<24}{spread(seconds[name], 's', 2)}   {steps:.0f} steps, {worst:.2%} or more"
        if name != "torch":
            line += "   torch / this: {:.2f}x ({:.2f}-{:.2f})".format(*ratio(seconds["torch"], seconds[name]))
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=["pellucid", "torch"], help="one side, once, in this process")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.side:
        compare(options)
        return
    train = {"pellucid": train_pellucid, "torch": train_torch}[options.side]
    accuracy, steps = train(options.threads, options.seed)
    seconds = since_start()
    if options.json:
        print(json.dumps({"side": options.side, "accuracy": accuracy, "steps": steps, "seconds": seconds}))
    else:
        print(f"{options.side}: {accuracy:.2%} after {steps} steps, {seconds:.2f} s since the process started")


if __name__ == "__main__":
    main()
