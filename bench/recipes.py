"""Whole training steps of the shipped recipes against PyTorch and JAX, in one run.

    python bench/recipes.py                             seven recipes, each in a process of its own
    python bench/recipes.py --network gan-image-grey --rounds 9 --steps 20 --json
    python bench/recipes.py --kernels --network lstm-text    what our step spends its time on, kernel by kernel, alone
    python bench/recipes.py --cold                      compile time and peak memory alone, from fresh processes

Our step is the one that `pellucid train` runs: what `Learner` compiles of the network, the recipe's optimizer, schedule,
clipping and moving average of weights, with its batch taken from the data. PyTorch's is the same training with torch's own
layers and its batches ready: eager with fused Adam, foreach clipping and averaging; the same in channels_last where there
are images; and both with torch.compile around the losses and Muon's iteration. JAX's whole step is one jit with donated state; the
GAN has none in JAX. All sides start from the same weights, and see the same random data, in the sizes of MNIST,
CIFAR-10, 65 characters and daily temperatures.

Chance is out of what is compared: image movements and dropout are switched off for all sides, and the noise and latents
that the diffusion model and the GAN draw come with the batch, the same for all. "pellucid, with its chance" is our step
with all of that in it, as the recipe has it; nobody's losses are compared with its own.

The first 10 losses must agree with PyTorch eager's within 1e-3 relative, the GAN's within 5e-3 (Adam without momentum makes
a whole step of rounding where a gradient is nearly nothing), or the row says "not comparable". Rounds, ratios
and peak are those of families.py. Flops are those of the products and convolutions of PyTorch's step, Muon's included
and attention's own left out. The memory is the most that a fresh process has held after 10 steps, its library included.

    pip install torch==2.13.0 jax
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import OURS, REFERENCE, Side, attempt, best_torch, fresh, machine_peak, set_threads, versions
from families import (
    COMPILED,
    JAX,
    LAST,
    LIBRARIES,
    cold_row,
    first_steps,
    new_parser,
    parse,
    per_call,
    show_cold,
    show_machine,
    show_training,
    timed,
)
from starts import CHECKED, RECIPES, Start

CHANCE = "pellucid, with its chance"


# ---- the sides ----


def make_start(name: str) -> Start:
    return importlib.import_module("recipes_pellucid").Ours(name).start()


def our_side(recipe: str, steps: int, name: str) -> Side:
    ours = importlib.import_module("recipes_pellucid").Ours(recipe, chance=name == CHANCE)
    side = per_call(name, ours.step, [(picked,) for picked in ours.picks], steps)
    side.compared = name == OURS
    return side


def make_side(start: Start, steps: int, name: str) -> Side:
    if name in (OURS, CHANCE):
        return our_side(start.recipe, steps, name)
    if name == JAX:
        theirs = importlib.import_module("recipes_jax")
        return per_call(name, theirs.make_step(start), theirs.batches(start), steps)
    theirs, last = importlib.import_module("recipes_torch"), name.endswith(LAST)
    wrap = theirs.compiling() if name.startswith(COMPILED) else theirs.as_it_is
    return per_call(name, theirs.make_step(start, wrap, last), theirs.batches(start, last), steps)


def side_names(name: str) -> list[str]:
    recipe = RECIPES[name]
    layouts = ["", LAST] if recipe.images else [""]
    theirs = [kind + layout for kind in (REFERENCE, COMPILED) for layout in layouts]
    jax = [] if recipe.family == "gan" else [JAX]
    return [OURS, *([CHANCE] if recipe.changed or recipe.drawn else []), *theirs, *jax]


# ---- rows ----


def in_a_file(start: Start, use: Callable[[str], Any]) -> Any:
    """What `use` gives of the path of a file that holds `start`."""
    with tempfile.TemporaryDirectory(prefix="pellucid-bench-") as folder:
        path = Path(folder) / "start"
        path.write_bytes(pickle.dumps(start))
        return use(str(path))


def training_row(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Median step times of all sides on one recipe, and the memory of the best of each library."""
    start, pace = make_start(name), RECIPES[name].pace
    rounds, steps = options.rounds or pace[0], options.steps or pace[1]
    row = timed({side: functools.partial(make_side, start, steps, side) for side in side_names(name)}, rounds)
    flops = attempt("flops", lambda: importlib.import_module("recipes_torch").flops(start), {}) or 0
    own = "movements, dropout and drawing in the step"
    if JAX not in side_names(name):
        row["skipped"][JAX] = "not written: two turns, and a critic that moves buffers"
    allowed = RECIPES[name].apart
    row |= {"network": name, "steps": steps, "flops": flops, "notes": {CHANCE: own}, "allowed": allowed}
    fine = {side: values for side, values in row["microseconds"].items() if row["apart"].get(side, 1) <= allowed}
    best = [side for side in (OURS, best_torch(fine), JAX) if side in fine]
    row["megabytes"] = in_a_file(start, lambda path: {side: memory(name, side, path, options) for side in best})
    return row


def memory(name: str, side: str, path: str, options: argparse.Namespace) -> float:
    told = ["--worker", side, "--network", name, "--threads", str(options.threads), "--start", path]
    return fresh(__file__, *told)["megabytes"]


def worker(options: argparse.Namespace) -> dict[str, float]:
    """In a fresh process: the first steps of one side."""
    set_threads(options.threads, [LIBRARIES.get(options.worker, "torch")])
    if options.worker == OURS:
        return first_steps(our_side(options.network[0], 1, OURS), CHECKED)
    return first_steps(make_side(pickle.loads(Path(options.start).read_bytes()), 1, options.worker), CHECKED)


def show_memory(result: dict[str, Any]) -> None:
    told = ", ".join(f"{name} {megabytes:.0f} MB" for name, megabytes in result["megabytes"].items())
    print(f"  peak memory of a fresh process: {told or 'not measured'}")


def show_kernels(options: argparse.Namespace) -> None:
    set_threads(options.threads, ["pellucid"])
    for name in options.network:
        ours = importlib.import_module("recipes_pellucid").Ours(name)
        ours.step(ours.picks[0])
        print(f"\none step of {name}\n{ours.learner.native.compiled.kernels()}")


# ---- the command ----


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All that is measured of one recipe, in this process."""
    load, modules = os.getloadavg()[0], set_threads(options.threads, ["pellucid", "numpy", "torch", "jax"])
    peaks = [machine_peak()]
    results: dict[str, Any] = {"load": load, "versions": versions(modules, options.threads), "training": [], "cold": []}
    if options.cold:
        told = functools.partial(cold_row, name, options, __file__, "--start")
        results["cold"].append(in_a_file(make_start(name), told))
    else:
        results["training"].append(training_row(name, options))
    return results | {"peak": max(*peaks, machine_peak())}  # before and after, for one quiet moment


def arguments(name: str, options: argparse.Namespace) -> list[str]:
    """Of a fresh process that measures one recipe: what others leave behind in memory shall not slow it."""
    numbers = {key: getattr(options, key) for key in ("rounds", "steps", "threads") if getattr(options, key)}
    told = [part for key, number in numbers.items() for part in (f"--{key}", str(number))]
    return ["--network", name, "--json", *told, *(["--cold"] if options.cold else [])]


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The results of several processes as one: the load when the first began, the best peak met."""
    rows = {key: [row for part in parts for row in part[key]] for key in ("training", "cold")}
    return parts[0] | rows | {"peak": max(part["peak"] for part in parts)}


def main() -> None:
    parser = new_parser(__doc__, RECIPES)
    parser.add_argument("--start", help=argparse.SUPPRESS)
    options = parse(parser, RECIPES)
    if options.kernels:
        return show_kernels(options)
    if options.worker:
        print(json.dumps(worker(options)))
        return
    if len(options.network) == 1:
        results = measured(options.network[0], options)
    else:
        results = joined([fresh(__file__, *arguments(name, options)) for name in options.network])
    if options.json:
        print(json.dumps(results))
        return
    show_machine("training steps of shipped recipes", results)
    for result in results["training"]:
        show_training(result, results["peak"])
        show_memory(result)
    for result in results["cold"]:
        show_cold(result)


if __name__ == "__main__":
    main()
