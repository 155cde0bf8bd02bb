"""The compiled engine against PyTorch and JAX on convolutional, recurrent and attention networks, in one run.

    python bench/families.py                            five networks, one training step each; some eight minutes
    python bench/families.py --network cnn,lstm --rounds 9 --steps 20 --json
    python bench/families.py --kernels --network gpt    what our step spends its time on, kernel by kernel, alone
    python bench/families.py --cold                     compile time and peak memory alone, from fresh processes
    python bench/families.py --growth --eager           how step time grows with batch, size and width, alone; without
                                                        --eager beside torch.compile, too, which takes long

A step is zero_grad, forward, loss, backward and AdamW (learning rate 1e-3, else its defaults) in float32. The networks
(networks.py): cnn, two convolutions on 28x28; cnn2, six with batch norm on 3x32x32; lstm, one layer of 256 over 64
characters; gpt, a Transformer of 4 layers of 128 over 64 characters; gpt2, 6 layers of 384 over 256. All sides start
from the same weights and see the same random batches; the first 10 losses must agree with PyTorch eager's within 1e-3
relative, or the row says "not comparable". PyTorch has its fused AdamW; torch.compile compiles forward and loss, and
so backward; JAX's whole step is one jit with donated state. A round is the median of a side's steps; rounds alternate
between the sides. A row shows the median over rounds with the smallest and largest, and how many times as long as
pellucid it took, round by round. Flops are those of matrix products and convolutions; the peak is the best 2048^3
product met in the run. Other work on the machine makes whoever waits spinning look slow: run it on a quiet one; the
load is printed.

A side that is not installed or cannot run is named with the reason (torch.compile needs a C++ compiler):
    pip install torch==2.13.0 jax
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from common import (
    APART,
    OURS,
    REFERENCE,
    WARM,
    Side,
    attempt,
    best_torch,
    empty_cache,
    fresh,
    machine_peak,
    measure,
    peak_memory,
    ratio,
    ready,
    set_threads,
    spread,
    versions,
)
from networks import NETWORKS, Images, Network

JAX, COMPILED, LAST = "JAX, jit", "PyTorch, torch.compile", ", channels_last"
LIBRARIES = {OURS: "pellucid", JAX: "jax"}  # of a side; else torch
CHECKED = 10  # steps whose losses are compared, and batches
PACE = {"cnn": (7, 8), "cnn2": (5, 4), "lstm": (7, 8), "gpt": (7, 16), "gpt2": (3, 1)}  # rounds, steps in each
COLD_STEPS = {"gpt2": 3}  # steps of a fresh process; elsewhere CHECKED
GROWTH = {
    "cnn": {"batch": (16, 64, 256), "side": (16, 28, 40), "width": (16, 32, 64)},
    "cnn2": {"batch": (16, 64, 128), "side": (16, 32, 48), "width": (16, 32, 64)},
    "lstm": {"batch": (8, 32, 128), "time": (16, 64, 128, 256), "width": (128, 256, 512)},
    "gpt": {"batch": (4, 12, 32), "time": (32, 64, 128, 256), "width": (64, 128, 256)},
}


# ---- the sides ----


def training_step(library: Any, model: Any, wrap: Callable[[Any], Any] = lambda function: function, **adam: Any) -> Any:
    """step(x, y) -> loss, written once for pellucid and PyTorch; `wrap` may compile forward and loss."""
    optimizer = library.optim.AdamW(model.parameters(), lr=1e-3, **adam)

    def forward(x: Any, y: Any) -> Any:
        return library.nn.functional.cross_entropy(model(x).flatten(0, -2), y.flatten())

    loss_of = wrap(forward)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def per_call(name: str, step: Callable[..., Any], batches: list[tuple[Any, ...]], steps: int) -> Side:
    def call(i: int) -> Any:
        return step(*batches[i % len(batches)])

    return Side(name, call, steps, read=lambda loss: loss.item(), warm=min(WARM, steps // 4))


def pellucid_side(network: Network, steps: int) -> Side:
    import pellucid

    step = pellucid.compile(training_step(pellucid, network.module(pellucid)))
    batches = [(pellucid.tensor(x), pellucid.tensor(y)) for x, y in network.batches(CHECKED)]
    return per_call(OURS, step, batches, steps)


def torch_side(network: Network, steps: int, name: str) -> Side:
    """In one layout or the other, eager or compiled, as `name` says."""
    import torch

    model = network.module(torch)
    batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in network.batches(CHECKED)]
    if name.endswith(LAST):
        model = model.to(memory_format=torch.channels_last)
        batches = [(x.to(memory_format=torch.channels_last), y) for x, y in batches]
    if not name.startswith(COMPILED):
        return per_call(name, training_step(torch, model, fused=True), batches, steps)
    wrap = functools.partial(torch.compile, dynamic=False)  # a second side must not make the first one's shapes vary
    return per_call(name, training_step(torch, model, wrap, fused=True), batches, steps)


def jax_step(network: Network) -> tuple[Any, Callable[[Any, Any, Any], Any]]:
    """The state at the start, and step(state, x, y) -> (state, loss)."""
    import jax
    from jax import numpy as jnp

    def loss_of(weights: list[Any], running: list[Any], x: Any, y: Any) -> Any:
        logits, running = network.jax(weights, running, x)
        logs = jax.nn.log_softmax(logits.reshape(-1, logits.shape[-1]))
        return -jnp.take_along_axis(logs, y.reshape(-1, 1), 1).mean(), running

    def step(state: Any, x: Any, y: Any) -> Any:
        weights, running, first, second, count = state
        (loss, running), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, running, x, y)
        count = count + 1
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
        second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients, strict=True)]
        unbias1, unbias2 = 1 - 0.9**count, 1 - 0.999**count
        weights = [
            w * (1 - 1e-3 * 1e-2) - 1e-3 * (m / unbias1) / (jnp.sqrt(v / unbias2) + 1e-8)
            for w, m, v in zip(weights, first, second, strict=True)
        ]
        return (weights, running, first, second, count), loss

    start, running = ([jnp.array(part) for part in parts] for parts in (network.start(), network.running()))
    return (
        start,
        running,
        [jnp.zeros_like(w) for w in start],
        [jnp.zeros_like(w) for w in start],
        jnp.float32(0),
    ), step


def jax_side(network: Network, steps: int) -> Side:
    import jax

    state, function = jax_step(network)
    compiled = jax.jit(function, donate_argnums=0)
    batches = [(jax.device_put(x), jax.device_put(y.astype(np.int32))) for x, y in network.batches(CHECKED)]

    def step(x: Any, y: Any) -> Any:
        nonlocal state
        state, loss = compiled(state, x, y)
        return jax.block_until_ready(loss)

    return per_call(JAX, step, batches, steps)


def torch_names(network: Network) -> list[str]:
    layouts = ["", LAST] if isinstance(network, Images) else [""]
    return [kind + layout for kind in (REFERENCE, COMPILED) for layout in layouts]


def make_side(network: Network, steps: int, name: str) -> Side:
    if name == OURS:
        return pellucid_side(network, steps)
    return jax_side(network, steps) if name == JAX else torch_side(network, steps, name)


def makers(network: Network, steps: int, names: list[str]) -> dict[str, Callable[[], Side]]:
    return {name: functools.partial(make_side, network, steps, name) for name in names}


# ---- one training step ----


def forget() -> None:
    """torch.compile forgets the networks before this one, so that it meets no shape as a second one that varies."""
    try:
        import torch
    except ImportError:
        return
    torch._dynamo.reset()


def training_row(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Median step times of all sides on one network."""
    network = NETWORKS[name]
    rounds, steps = options.rounds or PACE[name][0], options.steps or PACE[name][1]
    sides = makers(network, steps, [*torch_names(network), OURS, JAX])
    return {"network": name, "steps": steps, "flops": network.flops} | timed(sides, rounds)


def timed(sides: dict[str, Callable[[], Side]], rounds: int) -> dict[str, Any]:
    """How much the sides' losses differ, and how long their steps take; {"rounds", "apart", "microseconds", "skipped"}."""
    skipped: dict[str, str] = {}
    forget()
    able, apart = ready(sides, skipped, CHECKED)
    return {"rounds": rounds, "apart": apart, "microseconds": measure(able, rounds), "skipped": skipped}


def show_training(result: dict[str, Any], peak: float) -> None:
    times, apart = result["microseconds"], result["apart"]
    fine = [name for name in times if apart.get(name, np.inf) <= result.get("allowed", APART)]
    print(f"\n{result['network']}: {result['flops'] / 1e9:.1f} Gflop; {result['rounds']} rounds of {result['steps']}")
    if fine:
        print(f"  the losses of {CHECKED} steps agree within {max(apart[name] for name in fine):.0e} relative")
    print(f"  {'':<38}{'one step':<32}{'GFLOP/s':>8}  {'of peak':<9}as long as pellucid")
    for name, values in times.items():
        rate = result["flops"] / statistics.median(values) / 1e3
        line = f"  {name:<38}{spread([v / 1e3 for v in values], 'ms', 2):<32}{rate:>8.1f}  {rate / peak:<9.0%}"
        if name in result.get("notes", {}):
            line += result["notes"][name]
        elif name not in fine:
            line += "not comparable: "
            line += f"losses differ by {apart[name]:.0e}" if name in apart else f"no losses of {REFERENCE}'s"
        elif name != OURS and OURS in fine:
            line += "{:.2f}x ({:.2f}-{:.2f})".format(*ratio(values, times[OURS]))
        print(line.rstrip())
    for name, reason in result["skipped"].items():
        print(f"  {name:<38}cannot run here: {reason}")
    rivals = [best_torch({name: times[name] for name in fine}), JAX] if OURS in fine else []
    told = ["{} / {}: {:.2f}x ({:.2f}-{:.2f})".format(theirs, OURS, *ratio(times[theirs], times[OURS]))
            for theirs in rivals if theirs in fine]  # fmt: skip
    if told:
        print("  => " + " | ".join(told))


# ---- compile time, memory ----


def worker(network: str, name: str, threads: int) -> dict[str, float]:
    """In a fresh process: a few steps of one side; how long the first took beyond the others, most memory."""
    set_threads(threads, [LIBRARIES.get(name, "torch")])
    return first_steps(make_side(NETWORKS[network], 1, name), COLD_STEPS.get(network, CHECKED))


def first_steps(side: Side, count: int) -> dict[str, float]:
    times = []
    for i in range(count):
        before = time.perf_counter()
        side.call(i)
        times.append(time.perf_counter() - before)
    return {"seconds": times[0] - statistics.median(times[1:]), "megabytes": peak_memory()}


def cold_row(name: str, options: argparse.Namespace, script: str = __file__, *given: str) -> dict[str, Any]:
    """Every side twice in fresh processes, with an empty cache of compiled code and then with a filled one.

    script: the benchmark; given: what its workers are told besides the side.
    """
    sides: dict[str, dict[str, list[float]]] = {}
    skipped: dict[str, str] = {}

    def once(side: str) -> None:
        arguments = ["--worker", side, "--network", name, "--threads", str(options.threads), *given]
        with empty_cache() as folder:
            empty, filled = (fresh(script, *arguments, cache=folder) for _ in range(2))
        row = sides.setdefault(side, {"empty": [], "filled": [], "megabytes": []})
        row["empty"].append(empty["seconds"])
        row["filled"].append(filled["seconds"])
        row["megabytes"].append(filled["megabytes"])

    for _ in range(options.rounds or 1):
        for side in (OURS, REFERENCE, COMPILED, JAX):
            attempt(side, functools.partial(once, side), skipped)
    return {"network": name, "sides": sides, "skipped": skipped}


def show_cold(result: dict[str, Any]) -> None:
    steps = COLD_STEPS.get(result["network"], CHECKED)
    print(f"\n{result['network']}, fresh processes of {steps} steps: the first step less a later one, peak memory")
    print(f"  {'':<24}{'empty cache':<30}{'filled cache':<30}with a filled cache")
    for name, row in result["sides"].items():
        line = "".join(f"{spread(row[key], 's', 2):<30}" for key in ("empty", "filled"))
        print(f"  {name:<24}{line}{spread(row['megabytes'], 'MB', 0)}")
    for name, reason in result["skipped"].items():
        print(f"  {name:<24}cannot run here: {reason}")


# ---- how step time grows ----


def growth_rows(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    results = []
    for kind, values in GROWTH.get(name, {}).items():
        for value in values:
            network, skipped = dataclasses.replace(NETWORKS[name], **{kind: value}), {}
            forget()
            names = [name for name in torch_names(network) if not (options.eager and name.startswith(COMPILED))]
            sides, apart = ready(makers(network, options.steps or 4, [*names, OURS]), skipped, CHECKED)
            times = measure([side for side in sides if apart.get(side.name, 0) <= APART], options.rounds or 3)
            skipped |= {side.name: "its losses differ" for side in sides if side.name not in times}
            about = {"network": name, "kind": kind, "value": value, "flops": network.flops}
            results.append(about | {"microseconds": times, "skipped": skipped})
    return results


def show_growth(results: list[dict[str, Any]], peak: float) -> None:
    print("\nhow a step grows: ms; one size at a time, the others as in the network")
    print(f"  {'':<20}{'pellucid':>10}{'PyTorch':>10}{'ratio':>8}{'of peak':>9}  the best of PyTorch")
    for result in results:
        times = result["microseconds"]
        best = best_torch(times)
        line = f"  {result['network'] + ', ' + result['kind'] + ' ' + str(result['value']):<20}"
        line += "".join(f"{statistics.median(times[name]) / 1e3:>10.2f}" if name in times else f"{'-':>10}"
                        for name in (OURS, best))  # fmt: skip
        if OURS in times:
            line += f"{ratio(times[best], times[OURS])[0]:>7.2f}x" if best else f"{'-':>8}"
            line += f"{result['flops'] / statistics.median(times[OURS]) / 1e3 / peak:>9.0%}"
        print(f"{line:<57}  {best or '-'}")
        for name, reason in result["skipped"].items():
            print(f"    {name} cannot run here: {reason}")


# ---- the command ----


def new_parser(about: str | None, networks: Iterable[str]) -> argparse.ArgumentParser:
    """What the command lines of families.py and recipes.py share."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default=",".join(networks), help="some of " + ",".join(networks))
    parser.add_argument("--rounds", type=int, help="default: as each network needs")
    parser.add_argument("--steps", type=int, help="in a round; default: as each network needs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cold", action="store_true", help="compile time and peak memory, alone")
    parser.add_argument("--kernels", action="store_true", help="what our step spends its time on, alone")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser


def parse(parser: argparse.ArgumentParser, networks: Iterable[str]) -> argparse.Namespace:
    options = parser.parse_args()
    options.network = options.network.split(",")
    for name in options.network:
        if name not in networks:
            parser.error(f"--network: {name!r}; expected some of {', '.join(networks)}, with commas between")
    for name in ("rounds", "steps", "threads"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: expected a number from 1")
    return options


def show_kernels(options: argparse.Namespace) -> None:
    """Our own profile of each network's step; a network that pellucid cannot run yet is named with the reason."""
    import pellucid

    set_threads(options.threads, ["pellucid"])
    for name in options.network:
        network, skipped = NETWORKS[name], {}

        def listing(network: Network = network) -> Any:
            step = pellucid.compile(training_step(pellucid, network.module(pellucid)))
            step(*map(pellucid.tensor, network.batches(1)[0]))
            return step.kernels()

        print(f"\none step of {name}\n{attempt(name, listing, skipped) or 'cannot run here: ' + skipped[name]}")


def show_machine(what: str, results: dict[str, Any]) -> None:
    print(f"{what}:", results["versions"])
    print(f"other work on this machine when it began: {results['load']:.1f} processes on average in the last minute")
    if "peak" in results:
        print(f"peak of this machine (2048^3 float32 product): {results['peak']:.0f} GFLOP/s")


def main() -> None:
    parser = new_parser(__doc__, NETWORKS)
    parser.add_argument("--growth", action="store_true", help="how step time grows, alone")
    parser.add_argument(
        "--eager", action="store_true", help="with --growth: PyTorch without torch.compile, much sooner done"
    )
    options = parse(parser, NETWORKS)
    if options.kernels:
        return show_kernels(options)
    if options.worker:
        print(json.dumps(worker(options.network[0], options.worker, options.threads)))
        return
    results: dict[str, Any] = {"load": os.getloadavg()[0]}
    modules = set_threads(options.threads, ["pellucid", "numpy", "torch", "jax"])
    results["versions"] = versions(modules, options.threads)
    if options.cold:
        results["cold"] = [cold_row(name, options) for name in options.network]
    else:
        peaks = [machine_peak()]
        results["growth" if options.growth else "training"] = rows = []
        for name in options.network:
            rows += growth_rows(name, options) if options.growth else [training_row(name, options)]
            peaks.append(machine_peak())  # again and again, for one quiet moment
        results["peak"] = max(peaks)
    if options.json:
        print(json.dumps(results))
        return
    show_machine("training steps with AdamW", results)
    for result in results.get("training", []):
        show_training(result, results["peak"])
    for result in results.get("cold", []):
        show_cold(result)
    if "growth" in results:
        show_growth(results["growth"], results["peak"])


if __name__ == "__main__":
    main()
