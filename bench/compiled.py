"""The compiled engine against PyTorch, JAX, scikit-learn, tinygrad and onnxruntime: the MLP 784-128-64-10, in one run.

    python bench/compiled.py                  one training step, one example forward, compile time, peak memory
    python bench/compiled.py --batch 32 --rounds 15 --eager --json
    python bench/compiled.py --cold           compile time and peak memory alone, each from a fresh process
    python bench/compiled.py --growth         how step time grows with width, depth and batch, alone
    python bench/compiled.py --kernels        what our step spends its time on, kernel by kernel, alone

A step is zero_grad, forward, loss, backward and Adam. All sides start from the same weights and see the same dense
random batches; the first 30 losses must agree with PyTorch eager's within 1e-3 relative, or the row says "not
comparable". Rounds alternate between the sides. For a side that is called once a step, a round is the median of its steps;
for a resident epoch, where one call runs all steps on rows that lie in memory, the median of three such calls over their
steps. A row shows the median over rounds with the smallest and largest, and how many times as long as pellucid it took,
round by round. JAX's calls are queued by tens, as in a loop that does not read every loss. Other work on the machine
makes whoever waits spinning look slow: run it on a quiet one; the load is printed.

A side that is not installed or cannot run is named with the reason (tinygrad needs clang, or CC with a compiler like it):
    pip install torch==2.13.0 jax scikit-learn tinygrad onnx onnxruntime
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import (
    APART,
    CHECKED,
    OURS,
    REFERENCE,
    SIZES,
    Side,
    Task,
    attempt,
    best_torch,
    empty_cache,
    fresh,
    machine_peak,
    make_task,
    measure,
    network,
    peak_memory,
    ratio,
    ready,
    set_threads,
    spread,
    start_weights,
    training_step,
    versions,
)

RESIDENT = "pellucid, run_steps"  # a resident epoch
QUEUED = 10  # JAX's steps between two waits
EPOCHS = 3  # in a round of a resident side
FEW = 20  # steps in a round of the sides that take long
GROWTH = {
    "width": [(width, (784, width, width, 10), 128) for width in (64, 128, 256, 512, 1024)],
    "depth": [(depth, (784, *[128] * depth, 10), 128) for depth in (1, 2, 4, 8)],
    "batch": [(batch, SIZES, batch) for batch in (1, 8, 32, 128, 512, 2048)],
}


# ---- the sides of one training step ----


def per_call(name: str, step: Callable[[Any, Any], Any], batches: list[tuple[Any, Any]], **options: Any) -> Side:
    def call(i: int) -> Any:
        return step(*batches[i % len(batches)])

    return Side(name, call, len(batches), read=lambda loss: loss.item(), **options)


def pellucid_side(task: Task, eager: bool = False) -> Side:
    import pellucid

    step = training_step(pellucid, task)
    batches = [(pellucid.tensor(x), pellucid.tensor(y)) for x, y in task.batches]
    return per_call(*(("pellucid, eager", step) if eager else (OURS, pellucid.compile(step))), batches)


def pellucid_resident(task: Task) -> Side:
    import pellucid

    step = pellucid.compile(training_step(pellucid, task))
    data = pellucid.tensor(task.rows), pellucid.tensor(task.labels)
    return Side(
        RESIDENT, lambda _: step.run_steps(data, task.indices), EPOCHS, task.steps, lambda losses: losses.numpy()
    )


def torch_side(task: Task, name: str = REFERENCE, **adam: Any) -> Side:
    import torch

    batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in task.batches]
    return per_call(name, training_step(torch, task, **adam), batches)


def torch_compiled(task: Task) -> Side:
    """Forward and loss are compiled; backward comes with them; Adam is PyTorch's fused one."""
    import torch

    torch._dynamo.reset()
    model = network(torch, task.sizes, task.weights)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    criterion = torch.nn.CrossEntropyLoss()
    loss_of = torch.compile(lambda x, y: criterion(model(x), y))

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss

    batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in task.batches]
    return per_call("PyTorch, torch.compile", step, batches)


def jax_step(task: Task) -> tuple[Any, Callable[[Any, Any, Any], Any]]:
    """The state at the start, and step(state, x, y) -> (state, loss)."""
    import jax
    from jax import numpy as jnp

    def loss_of(parameters: list[Any], x: Any, y: Any) -> Any:
        layers = list(zip(parameters[::2], parameters[1::2], strict=True))
        for weight, bias in layers[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        logs = jax.nn.log_softmax(x @ layers[-1][0] + layers[-1][1])
        return -jnp.take_along_axis(logs, y[:, None], 1).mean()

    def step(state: Any, x: Any, y: Any) -> Any:
        parameters, first, second, count = state
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
        count = count + 1
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
        second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients, strict=True)]
        unbias1, unbias2 = 1 - 0.9**count, 1 - 0.999**count
        parameters = [
            p - 1e-3 * (m / unbias1) / (jnp.sqrt(v / unbias2) + 1e-8)
            for p, m, v in zip(parameters, first, second, strict=True)
        ]
        return (parameters, first, second, count), loss

    start = [jnp.array(w.T if w.ndim == 2 else w) for w in task.weights]
    return (start, [jnp.zeros_like(w) for w in start], [jnp.zeros_like(w) for w in start], jnp.float32(0)), step


def jax_side(task: Task) -> Side:
    import jax

    state, function = jax_step(task)
    step = jax.jit(function, donate_argnums=0)
    batches = [(jax.device_put(x), jax.device_put(y.astype(np.int32))) for x, y in task.batches]

    def call(i: int) -> Any:
        nonlocal state
        losses = []
        for k in range(i * QUEUED, (i + 1) * QUEUED):
            state, loss = step(state, *batches[k % len(batches)])
            losses.append(loss)
        return jax.block_until_ready(losses)

    return Side("JAX, jit", call, len(batches) // QUEUED, QUEUED)


def jax_resident(task: Task) -> Side:
    import jax

    state, step = jax_step(task)
    rows, labels = jax.device_put(task.rows), jax.device_put(task.labels.astype(np.int32))
    indices = jax.device_put(task.indices.astype(np.int32))

    def epoch(state: Any, rows: Any, labels: Any, indices: Any) -> Any:
        return jax.lax.scan(lambda state, chosen: step(state, rows[chosen], labels[chosen]), state, indices)

    compiled = jax.jit(epoch, donate_argnums=0)

    def call(_: int) -> Any:
        nonlocal state
        state, losses = compiled(state, rows, labels, indices)
        return jax.block_until_ready(losses)

    return Side("JAX, scan", call, EPOCHS, task.steps)


def tinygrad_side(task: Task) -> Side:
    from tinygrad import Context, Tensor, TinyJit, nn

    weights = [Tensor(w).contiguous().realize() for w in task.weights]
    layers = list(zip(weights[::2], weights[1::2], strict=True))
    optimizer = nn.optim.Adam(weights, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8)

    @TinyJit
    def step(x: Any, y: Any) -> Any:
        with Context(TRAINING=1):
            optimizer.zero_grad()
            for weight, bias in layers[:-1]:
                x = x.linear(weight.T, bias).relu()
            loss = x.linear(layers[-1][0].T, layers[-1][1]).sparse_categorical_crossentropy(y)
            loss.backward()
            return loss.realize(*optimizer.schedule_step())

    batches = [(Tensor(x).realize(), Tensor(y.astype(np.int32)).realize()) for x, y in task.batches]

    def call(i: int) -> float:
        return step(*batches[i % len(batches)]).item()

    return Side("tinygrad, TinyJit", call, min(FEW, len(batches)))


def scikit_side(task: Task) -> Side:
    """Its own start and loss; what is timed is the same amount of work."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(task.sizes[1:-1], alpha=0.0, batch_size=task.batch, learning_rate_init=1e-3)
    batches, classes = task.batches, np.arange(task.sizes[-1])

    def call(i: int) -> None:
        model.partial_fit(*batches[i % len(batches)], classes=classes)

    return Side("scikit-learn", call, min(FEW, len(batches)), compared=False)


def training_row(batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """Median step times of all sides at one batch size."""
    task, skipped = make_task(SIZES, batch, options.steps), {}
    makers: dict[str, Callable[[], Side]] = {
        REFERENCE: lambda: torch_side(task),
        "PyTorch, fused Adam": lambda: torch_side(task, "PyTorch, fused Adam", fused=True),
        "PyTorch, torch.compile": lambda: torch_compiled(task),
        OURS: lambda: pellucid_side(task),
        RESIDENT: lambda: pellucid_resident(task),
        **({"pellucid, eager": lambda: pellucid_side(task, eager=True)} if options.eager else {}),
        "JAX, jit": lambda: jax_side(task),
        "JAX, scan": lambda: jax_resident(task),
        "scikit-learn": lambda: scikit_side(task),
        "tinygrad, TinyJit": lambda: tinygrad_side(task),
    }
    sides, apart = ready(makers, skipped)
    times = measure(sides, options.rounds)
    return {"batch": batch, "flops": task.flops, "apart": apart, "microseconds": times, "skipped": skipped}


def show_training(result: dict[str, Any], peak: float) -> None:
    times, apart = result["microseconds"], result["apart"]
    fine = [name for name in times if apart.get(name, np.inf) <= APART]
    agreed = max((apart[name] for name in fine), default=np.nan)
    print(f"\nbatch {result['batch']}: the losses of {CHECKED} steps agree within {agreed:.0e} relative")
    print(f"  {'':<24}{'one step':<28}{'of peak':<9}{'as long as pellucid':<24}as long as its run_steps")
    for name, values in times.items():
        line = f"  {name:<24}{spread(values):<28}{result['flops'] / statistics.median(values) / 1e3 / peak:<9.0%}"
        if name not in fine:
            line += "not comparable: " + (f"losses differ by {apart[name]:.0e}" if name in apart else "its own start")
        for ours in (OURS, RESIDENT):
            if name in fine and ours in fine and name not in (OURS, RESIDENT):
                line += "{:.2f}x ({:.2f}-{:.2f})".format(*ratio(values, times[ours])).ljust(24)
        print(line.rstrip())
    for name, reason in result["skipped"].items():
        print(f"  {name:<24}cannot run here: {reason}")
    best = best_torch({name: times[name] for name in fine})
    pairs = [(best, OURS), ("JAX, scan", OURS), ("JAX, scan", RESIDENT)]
    told = ["{} / {}: {:.2f}x ({:.2f}-{:.2f})".format(theirs, ours, *ratio(times[theirs], times[ours]))
            for theirs, ours in pairs if theirs in fine and ours in fine]  # fmt: skip
    if told:
        print("  => " + " | ".join(told))


# ---- one example forward ----


def onnx_session(weights: list[np.ndarray], threads: int) -> Any:
    """The network in onnxruntime: Gemm and Relu, the weights inside."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, value, layers = [], "x", len(weights) // 2
    for i in range(layers):
        out = "out" if i == layers - 1 else f"z{i}"
        nodes.append(helper.make_node("Gemm", [value, f"w{i}", f"b{i}"], [out], transB=1))
        if out != "out":
            nodes.append(helper.make_node("Relu", [out], [value := f"a{i}"]))
    names = [name for i in range(layers) for name in (f"w{i}", f"b{i}")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
            for name, size in [("x", SIZES[0]), ("out", SIZES[-1])]]  # fmt: skip
    held = [numpy_helper.from_array(weight, name) for weight, name in zip(weights, names, strict=True)]
    model = helper.make_model(
        helper.make_graph(nodes, "mlp", ends[:1], ends[1:], held),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def forward_sides(weights: list[np.ndarray], example: np.ndarray, threads: int) -> dict[str, Callable[[], Side]]:
    calls = 2000

    def ours(count: int) -> Side:
        import pellucid

        compiled, x = pellucid.compile(network(pellucid, SIZES, weights)), pellucid.tensor(example)

        def call(_: int) -> Any:
            with pellucid.no_grad():
                return compiled(x)

        return Side("", call, calls, read=lambda y: y.numpy(), prepare=lambda: pellucid.set_num_threads(count))

    def runtime(count: int) -> Side:
        session = onnx_session(weights, count)
        return Side("", lambda _: session.run(None, {"x": example})[0], calls)

    def torch(count: int) -> Side:
        import torch

        model, x = network(torch, SIZES, weights).eval(), torch.from_numpy(example)

        def call(_: int) -> Any:
            with torch.inference_mode():
                return model(x)

        return Side("", call, calls, read=lambda y: y.numpy(), prepare=lambda: torch.set_num_threads(count))

    makers = {}
    for name, make in {"pellucid": ours, "onnxruntime": runtime, "PyTorch": torch}.items():
        for count in sorted({1, threads}, reverse=True):
            label = f"{name}, {count} thread" + "s" * (count > 1)
            makers[label] = lambda make=make, count=count, label=label: make(count).named(label)
    return makers


def forward_row(options: argparse.Namespace) -> dict[str, Any]:
    weights, skipped = start_weights(SIZES), {}
    example = np.random.default_rng(2).random((1, SIZES[0]), np.float32)
    made = [attempt(name, make, skipped) for name, make in forward_sides(weights, example, options.threads).items()]
    sides, outputs = [], {}
    for side in filter(None, made):
        side.prepare()
        out = attempt(side.name, lambda side=side: side.read(side.call(0)), skipped)
        if out is not None:
            sides.append(side)
            outputs[side.name] = out
    expected = example
    for weight, bias in zip(weights[::2], weights[1::2], strict=True):
        expected = expected @ weight.T + bias
        expected = np.maximum(expected, 0) if len(bias) != SIZES[-1] else expected
    apart = {name: float(np.max(abs(out - expected))) for name, out in outputs.items()}
    return {"microseconds": measure(sides, options.rounds), "apart": apart, "skipped": skipped}


def show_forward(result: dict[str, Any]) -> None:
    times = result["microseconds"]
    print("\none example forward, in process")
    for name, values in times.items():
        line = f"  {name:<24}{spread(values)}"
        if result["apart"][name] > 1e-5:
            line += f"   not comparable: outputs differ by {result['apart'][name]:.0e}"
        print(line)
    for name, reason in result["skipped"].items():
        print(f"  {name:<24}cannot run here: {reason}")


# ---- compile time, memory ----


def worker(name: str, threads: int) -> dict[str, float]:
    """In a fresh process: 200 steps of one side at batch 128; how long the first took, and the most memory held."""
    set_threads(threads, [name])
    task = make_task(SIZES, 128, 8)
    side = pellucid_side(task) if name == OURS else torch_side(task, fused=True)
    times = []
    for i in range(200):
        before = time.perf_counter()
        side.call(i)
        times.append(time.perf_counter() - before)
    return {"first": times[0] - statistics.median(times), "megabytes": peak_memory()}


def cold_rows(options: argparse.Namespace) -> dict[str, Any]:
    """Compile time with an empty cache of compiled code and with a filled one, and peak memory, in fresh processes."""
    found: dict[str, list[float]] = {"cold": [], "warm": [], "pellucid MB": [], "PyTorch MB": []}
    skipped: dict[str, str] = {}

    def once() -> None:
        with empty_cache() as folder:
            for kind in ("cold", "warm"):
                told = fresh(__file__, "--worker", OURS, "--threads", str(options.threads), cache=folder)
                found[kind].append(told["first"] * 1e3)
        found["pellucid MB"].append(told["megabytes"])

    def rival() -> None:
        told = fresh(__file__, "--worker", "torch", "--threads", str(options.threads))
        found["PyTorch MB"].append(told["megabytes"])

    for _ in range(3):
        attempt("pellucid", once, skipped)
        attempt("PyTorch", rival, skipped)
    return found | {"skipped": skipped}


def show_cold(result: dict[str, Any]) -> None:
    print("\nfresh processes: the first call of a compiled step less a later one, and peak memory of 200 steps")
    labels = {"cold": ("compile, empty cache", "ms"), "warm": ("compile, filled cache", "ms"),
              "pellucid MB": ("peak memory, pellucid", "MB"), "PyTorch MB": ("peak memory, PyTorch", "MB")}  # fmt: skip
    for key, (label, unit) in labels.items():
        if result[key]:
            print(f"  {label:<24}{spread(result[key], unit)}")
    for name, reason in result["skipped"].items():
        print(f"  {name:<24}cannot run here: {reason}")


# ---- how step time grows ----


def growth_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    results = []
    for kind, cases in GROWTH.items():
        for value, sizes, batch in cases:
            task, skipped = make_task(sizes, batch, 32), {}
            sides = [attempt(OURS, lambda task=task: pellucid_side(task), skipped),
                     attempt(REFERENCE, lambda task=task: torch_side(task, fused=True), skipped)]  # fmt: skip
            ready = [side for side in sides if side and attempt(side.name, side.losses, skipped) is not None]
            times = measure(ready, options.rounds)
            about = {"kind": kind, "value": value, "flops": task.flops}
            results.append(about | {"microseconds": times, "skipped": skipped})
    return results


def show_growth(results: list[dict[str, Any]], peak: float) -> None:
    print("\nhow a step grows: us; 784-w-w-10 and d layers of 128 at batch 128, 784-128-64-10; PyTorch with fused Adam")
    print(f"  {'':<14}{'pellucid':>10}{'PyTorch':>10}{'ratio':>8}{'of peak':>9}")
    for result in results:
        times = result["microseconds"]
        line = f"  {result['kind'] + ' ' + str(result['value']):<14}"
        line += "".join(f"{statistics.median(times[name]):>10.0f}" if name in times else f"{'-':>10}"
                        for name in (OURS, REFERENCE))  # fmt: skip
        if len(times) == 2:
            line += f"{ratio(times[REFERENCE], times[OURS])[0]:>7.2f}x"
            line += f"{result['flops'] / statistics.median(times[OURS]) / 1e3 / peak:>9.0%}"
        print(line + "".join(f"   {name} cannot run here: {reason}" for name, reason in result["skipped"].items()))


# ---- the command ----


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=100, help="steps in a round and in an epoch, at least 30")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--eager", action="store_true", help="pellucid without compile, too")
    parser.add_argument("--cold", action="store_true", help="compile time and peak memory alone")
    parser.add_argument("--growth", action="store_true", help="how step time grows, alone")
    parser.add_argument("--kernels", action="store_true", help="what our step and forward spend their time on, alone")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", choices=[OURS, "torch"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps < CHECKED or options.steps % QUEUED:
        parser.error(f"--steps {options.steps}: expected a multiple of {QUEUED} from {CHECKED}")
    return options


def show_kernels(options: argparse.Namespace) -> None:
    """Our own profile: each kernel of the step at every batch, and of one example forward."""
    import pellucid

    set_threads(options.threads, ["pellucid"])
    for batch in options.batch:
        task = make_task(SIZES, batch, options.steps)
        step = pellucid.compile(training_step(pellucid, task))
        step(pellucid.tensor(task.batches[0][0]), pellucid.tensor(task.batches[0][1]))
        print(f"\none step, batch {batch}\n{step.kernels()}")
    with pellucid.no_grad():
        forward = pellucid.compile(network(pellucid, SIZES, task.weights))
        forward(pellucid.tensor(task.rows[:1]))
        print(f"\none example forward\n{forward.kernels()}")


def main() -> None:
    options = parse()
    if options.kernels:
        return show_kernels(options)
    if options.worker:
        print(json.dumps(worker(options.worker, options.threads)))
        return
    results: dict[str, Any] = {"load": os.getloadavg()[0]}
    if not options.growth:
        results["cold"] = cold_rows(options)  # first, while this process is small and quiet
    libraries = ["pellucid", "numpy", "torch", "jax", "sklearn", "tinygrad", "onnxruntime"]
    results["versions"] = versions(set_threads(options.threads, libraries), options.threads)
    peaks = [] if options.cold else [machine_peak()]
    if options.growth:
        results["growth"] = growth_rows(options)
    elif not options.cold:
        results["training"] = []
        for batch in options.batch:
            results["training"].append(training_row(batch, options))
            peaks.append(machine_peak())  # again and again, for one quiet moment
        results["forward"] = forward_row(options)
    results["peak"] = max(peaks, default=None)
    if options.json:
        print(json.dumps(results))
        return
    print("MLP " + "-".join(map(str, SIZES)) + ", Adam:", results["versions"])
    print(f"other work on this machine when it began: {results['load']:.1f} processes on average in the last minute")
    if results["peak"]:
        print(f"peak of this machine (2048^3 float32 product): {results['peak']:.0f} GFLOP/s")
    for result in results.get("training", []):
        show_training(result, results["peak"])
    for name, show in {"forward": show_forward, "cold": show_cold}.items():
        if name in results:
            show(results[name])
    if "growth" in results:
        show_growth(results["growth"], results["peak"])


if __name__ == "__main__":
    main()
