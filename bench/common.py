"""What the benchmarks share: the same task for every side, rounds that alternate, ratios with their spread.

Imports NumPy alone until it is asked for more, so that a fresh process of one side holds nothing of another.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

SIZES = (784, 128, 64, 10)
OURS, REFERENCE = "pellucid", "PyTorch"  # the headline; whose losses the others' must agree with
CHECKED = 30  # steps whose losses are compared
APART = 1e-3  # by how much they may differ, relatively
SETTLE = 0.25  # seconds before a round, in which the threads of the side before it fall silent (PyTorch's spin for 0.2)
CACHES = "PELLUCID_CACHE", "TORCHINDUCTOR_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR"  # where each keeps compiled code
WARM = 3  # calls before a round is timed, where a side is called once a step


# ---- the task: weights, rows and batches that every side gets ----


def start_weights(sizes: Iterable[int], seed: int = 0) -> list[np.ndarray]:
    """Weights (outputs, inputs) and biases in turn, uniform within +-1/sqrt(inputs), as PyTorch's Linear begins."""
    random = np.random.default_rng(seed)
    weights = []
    for inputs, outputs in itertools.pairwise(sizes):
        bound = inputs**-0.5
        weights += [random.uniform(-bound, bound, shape).astype(np.float32) for shape in [(outputs, inputs), outputs]]
    return weights


@dataclass
class Task:
    """One epoch: `indices` (steps, batch) names the rows of each step."""

    sizes: tuple[int, ...]
    weights: list[np.ndarray]
    rows: np.ndarray
    labels: np.ndarray
    indices: np.ndarray

    @property
    def batch(self) -> int:
        return self.indices.shape[1]

    @property
    def steps(self) -> int:
        return self.indices.shape[0]

    @property
    def batches(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The same steps, cut out beforehand, for sides that are called once a step."""
        return [(self.rows[chosen], self.labels[chosen]) for chosen in self.indices]

    @property
    def flops(self) -> int:
        """The matrix products of one step: forward, gradient of the weights, gradient of all inputs but the first."""
        products = [2 * self.batch * a * b for a, b in itertools.pairwise(self.sizes)]
        return 3 * sum(products) - products[0]


def make_task(sizes: tuple[int, ...], batch: int, steps: int) -> Task:
    """Dense random rows around 0, each used once in the epoch, in random order.

    Around 0 every unit is at work. Rows of one sign leave some that fire once in a thousand rows; Adam makes a whole
    step of the rounding in their gradients, and the losses of any two libraries drift apart.
    """
    random = np.random.default_rng(1)
    count = batch * steps
    rows = random.random((count, sizes[0]), np.float32) * 2 - 1
    labels = random.integers(0, sizes[-1], count)
    return Task(sizes, start_weights(sizes), rows, labels, random.permutation(count).reshape(steps, batch))


def network(library: Any, sizes: Iterable[int], weights: list[np.ndarray]) -> Any:
    """Linear and ReLU in turn, in the names that pellucid and PyTorch share."""
    nn, layers = library.nn, []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    with library.no_grad():
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.copy_(library.tensor(weight))
    return model


def training_step(library: Any, task: Task, **adam: Any) -> Callable[[Any, Any], Any]:
    """step(x, y) -> loss: one whole training step, written once for pellucid and PyTorch."""
    model = network(library, task.sizes, task.weights)
    criterion = library.nn.CrossEntropyLoss()
    optimizer = library.optim.Adam(model.parameters(), lr=1e-3, **adam)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


# ---- sides, rounds, ratios ----


@dataclass
class Side:
    """`call(i)` does `steps` training steps, and `read` makes NumPy of what it gives; a round makes `calls` calls."""

    name: str
    call: Callable[[int], Any]
    calls: int
    steps: int = 1
    read: Callable[[Any], Any] = np.asarray
    prepare: Callable[[], object] = lambda: None  # before each round, not timed
    compared: bool = True  # its losses, with the other sides'
    warm: int = WARM

    def named(self, name: str) -> Side:
        return dataclasses.replace(self, name=name)

    def losses(self, count: int = CHECKED) -> np.ndarray:
        """Of the first `count` steps."""
        return np.array([self.read(self.call(i)) for i in range(-(-count // self.steps))]).ravel()[:count]

    def round(self) -> float:
        """Microseconds of one step: the median over the calls of a round."""
        self.prepare()
        time.sleep(SETTLE)
        if self.steps == 1:
            for i in range(self.warm):
                self.call(i)
        times = []
        for i in range(self.calls):
            before = time.perf_counter()
            self.call(i)
            times.append(time.perf_counter() - before)
        return statistics.median(times) / self.steps * 1e6


def attempt(name: str, make: Callable[[], Any], skipped: dict[str, str]) -> Any:
    """What `make` gives; where it cannot run, None, and `skipped` has the reason."""
    try:
        return make()
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        skipped[name] = re.sub(r"(/[\w.+-]+)+/", "", f"{type(error).__name__}: {lines[0]}")[:160]
        return None


def ready(
    makers: Mapping[str, Callable[[], Side]], skipped: dict[str, str], count: int = CHECKED
) -> tuple[list[Side], dict[str, float]]:
    """The sides that can run, and how much their first losses differ from the reference's, relatively."""
    sides, losses = [], {}
    for name, make in makers.items():
        side = attempt(name, make, skipped)
        first = side and attempt(name, lambda side=side: side.losses(count), skipped)
        if first is not None:
            sides.append(side)
            losses[name] = first
    apart = {side.name: float(np.max(abs(losses[side.name] / losses[REFERENCE] - 1))) for side in sides
             if side.compared and REFERENCE in losses}  # fmt: skip
    return sides, apart


def measure(sides: Iterable[Side], rounds: int) -> dict[str, list[float]]:
    """Microseconds of one step, by side and round; rounds alternate, so that all sides meet the same weather."""
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            times[side.name].append(side.round())
    return times


def ratio(theirs: list[float], ours: list[float]) -> tuple[float, float, float]:
    """Median, smallest and largest of theirs over ours, round by round."""
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def best_torch(times: dict[str, list[float]]) -> str | None:
    return min(
        (name for name in times if name.startswith("PyTorch")),
        key=lambda name: statistics.median(times[name]),
        default=None,
    )


def spread(values: list[float], unit: str = "us", digits: int | None = None) -> str:
    """Median (smallest-largest)."""
    if digits is None:
        digits = 1 if statistics.median(values) < 100 else 0
    return f"{statistics.median(values):8.{digits}f} {unit}  ({min(values):.{digits}f}-{max(values):.{digits}f})"


# ---- the machine: its peak, processes and threads ----


def machine_peak(size: int = 2048) -> float:
    """GFLOP/s of the best float32 matrix product at hand, NumPy's or PyTorch's."""
    a = np.random.default_rng(0).random((size, size), np.float32)
    products: list[Callable[[], Any]] = [lambda: a @ a]
    try:
        import torch

        b = torch.from_numpy(a)
        products.append(lambda: b @ b)
    except ImportError:
        pass
    best = np.inf
    for product in products * 8:
        before = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - before)
    return 2 * size**3 / best / 1e9


def use_processors(threads: int) -> None:
    """Keep this process, and so every library's threads in it, on `threads` processors; call it before any import."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def set_threads(threads: int, libraries: list[str]) -> list[Any]:
    """Import the libraries that are there, on so many processors, with so many threads; the modules."""
    use_processors(threads)
    os.environ.setdefault("DEV", "CPU")  # tinygrad reads it when it is imported
    modules = []
    for name in libraries:
        try:
            modules.append(importlib.import_module(name))
        except ImportError:
            continue
        if name in ("pellucid", "torch"):
            modules[-1].set_num_threads(threads)
    return modules


def versions(modules: Iterable[ModuleType], threads: int) -> dict[str, object]:
    packages = metadata.packages_distributions()
    names = {packages.get(module.__name__, [module.__name__])[0] for module in modules}
    return {name: metadata.version(name) for name in sorted(names)} | {
        "python": sys.version.split()[0],
        "threads": threads,
    }


def fresh(script: str, *arguments: str, cache: str | None = None) -> dict[str, Any]:
    """What a fresh process of `script` prints as its last line, JSON; `cache`: every library's folder of compiled code."""
    environment = dict(os.environ) | (dict.fromkeys(CACHES, cache) if cache else {})
    done = subprocess.run([sys.executable, script, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it failed"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def empty_cache() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="pellucid-bench-")


def peak_memory() -> float:
    """The most memory this process has held, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the process that started this one, too
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
