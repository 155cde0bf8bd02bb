"""What it costs to ask for the backward outside of a compiled network, against a whole compiled step.

    python bench/outside.py [--network mlp32,mlp128,mlp512,cnn,gpt] [--rounds N]

One side is a whole compiled step: forward, loss, backward and AdamW's update in one program. The other calls the compiled
network and walks back from a gradient of its output: two programs, and what Python does between them; no loss and no
update. Both have the same network and batches, and take turns. Their gradients are compared before anything is timed.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from common import SIZES, Side, make_task, measure, network, ratio, set_threads, spread, versions
from families import training_step
from networks import NETWORKS

import pellucid

WHOLE, OUTSIDE = "one program", "backward outside"
NAMES = ("mlp32", "mlp128", "mlp512", "cnn", "gpt")
STEPS = {"mlp32": 300, "mlp128": 200, "mlp512": 60, "cnn": 8, "gpt": 16}  # in a round


def models_and_batches(name: str) -> tuple[Any, Any, list[tuple[Any, Any]]]:
    """The network twice with the same weights, and batches."""
    if name.startswith("mlp"):
        task = make_task(SIZES, int(name.removeprefix("mlp")), 10)
        models, batches = [network(pellucid, task.sizes, task.weights) for _ in range(2)], task.batches
    else:
        models, batches = [NETWORKS[name].module(pellucid) for _ in range(2)], NETWORKS[name].batches(10)
    return models[0], models[1], [(pellucid.tensor(x), pellucid.tensor(y)) for x, y in batches]


def sides(name: str) -> list[Side]:
    first, second, batches = models_and_batches(name)
    step = pellucid.compile(training_step(pellucid, first))
    compiled, parameters = pellucid.compile(second), list(second.parameters())
    from_above = pellucid.randn(*second(batches[0][0]).shape)

    def apart(i: int) -> None:
        for parameter in parameters:
            parameter.grad = None
        compiled(batches[i % len(batches)][0]).backward(from_above)

    apart(0)
    found = [parameter.grad.numpy() for parameter in parameters]
    second.zero_grad()
    second(batches[0][0]).backward(from_above)
    for x, parameter in zip(found, parameters, strict=True):
        np.testing.assert_allclose(x, parameter.grad.numpy(), rtol=1e-3, atol=1e-3 * abs(x).max())
    steps = STEPS[name]
    whole = Side(WHOLE, lambda i: step(*batches[i % len(batches)]), steps)
    return [whole, Side(OUTSIDE, apart, steps)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default=",".join(NAMES), help="some of " + ",".join(NAMES))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for name in (names := options.network.split(",")):
        if name not in NAMES:
            parser.error(f"--network: {name!r}; expected some of {', '.join(NAMES)}, with commas between")
    print(versions(set_threads(2, ["pellucid", "numpy"]), 2))
    for name in names:
        times = measure(sides(name), options.rounds)
        print(f"{name:<8}{WHOLE}: {spread(times[WHOLE])}   {OUTSIDE}: {spread(times[OUTSIDE])}   ", end="")
        print("{:.2f}x as long ({:.2f}-{:.2f})".format(*ratio(times[OUTSIDE], times[WHOLE])))


if __name__ == "__main__":
    main()
