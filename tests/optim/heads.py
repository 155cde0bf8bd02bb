"""A small network with two heads, trained while gradients come and go: the same lines for pellucid and for PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

OPTIMIZERS = [
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.01}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.2}),
    ("RMSprop", {"lr": 0.003}),
    ("RMSprop", {"lr": 0.001, "momentum": 0.9, "weight_decay": 0.01, "centered": True}),
    ("Adagrad", {"lr": 0.02, "lr_decay": 0.1, "weight_decay": 0.01, "initial_accumulator_value": 0.1}),
    ("Muon", {"lr": 0.01}),
]

# What happens, one after the other: a step on a head ("a", "b" or both in one call), and what comes between steps.
COURSES = {
    "an unused head": ["a"] * 5,
    "heads in turn": ["a", "b", "a", "b", "b", "a", "a", "b"],
    "a head that comes late": ["a", "a", "a", "b", "a", "b", "b"],
    "two updates in one call": ["a then b", "a then a", "b then a", "a", "a then b"],
    "frozen from the start": ["freeze body", "a", "a", "b", "a"],
    "frozen midway": ["a", "a", "freeze body", "a", "b", "unfreeze body", "a", "b", "a"],
    "frozen with its last gradient": ["b", "a", "keep", "freeze body", "freeze b", "a", "a", "drop", "unfreeze b", "b"],
    "gradients of zeros": ["zeros", "a", "a", "b", "b", "a", "b"],
    "zeros, then none": ["a", "zeros", "a", "b", "none", "a", "b", "b"],
    "rates that change": ["a", "lr 0.005", "b", "a", "lr 0.02", "a", "b"],
    "a group added midway": ["without b", "a", "a", "add b", "a", "b", "b", "a"],
    "saved and loaded": ["a", "b", "a", "save", "a", "b", "b", "load", "b", "a", "a"],
}


class Training:
    """lib: pellucid or torch; compile: what is done to the step before it is used."""

    def __init__(self, lib: Any, name: str, options: dict[str, Any], compile: Callable[..., Any] | None = None) -> None:
        random = np.random.default_rng(5)
        draw = lambda *shape: lib.tensor(random.normal(size=shape).astype(np.float32) * 0.5)
        self.lib, self.name, self.options = lib, name, options
        self.layers = {key: lib.nn.Parameter(draw(*shape)) for key, shape in
                       [("body", (4, 5)), ("a", (3, 4)), ("b", (2, 4))]}  # fmt: skip
        self.batches = [draw(6, 5) for _ in range(12)]
        self.zeros, self.before = False, True  # how gradients are cleared, and whether the step begins with it
        self.compile = compile or (lambda step: step)
        self.make(list(self.layers.values()))

    def make(self, params: list[Any]) -> None:
        optimizer = self.optimizer = getattr(self.lib.optim, self.name)(params, **self.options)
        body, a, b = self.layers.values()
        sign = -1 if self.options.get("maximize") else 1

        def step(x: Any, heads: str, zeros: bool, clear: bool) -> Any:
            for head in heads.split(" then "):
                if clear:
                    optimizer.zero_grad(set_to_none=not zeros)
                loss = ((x @ body.T).tanh() @ (a if head == "a" else b).T).square().mean() * sign
                if loss.requires_grad:
                    loss.backward()
                optimizer.step()
            return loss.detach()

        self.step = self.compile(step)

    def run(self, course: Iterable[str]) -> list[np.ndarray]:
        """Every loss, weight and state, in turn."""
        found: list[np.ndarray] = []
        batches = iter(self.batches)
        for event in course:
            verb, _, what = event.partition(" ")
            if verb in ("freeze", "unfreeze"):
                self.layers[what].requires_grad_(verb == "unfreeze")
            elif verb in ("zeros", "none"):
                self.zeros = verb == "zeros"
            elif verb in ("keep", "drop"):
                self.before = verb == "drop"
                self.optimizer.zero_grad(set_to_none=False)
            elif verb == "lr":
                self.optimizer.param_groups[0]["lr"] = float(what)
            elif verb == "without":
                self.make([p for key, p in self.layers.items() if key != what])
            elif verb == "add":
                self.optimizer.add_param_group({"params": [self.layers[what]], "lr": 0.03})
            elif verb == "save":
                self.saved = self.optimizer.state_dict()
                if self.lib.__name__ == "torch":  # whose state_dict shares memory with the optimizer
                    import copy

                    self.saved = copy.deepcopy(self.saved)
            elif verb == "load":
                self.optimizer.load_state_dict(self.saved)
            else:
                found.append(numbers(self.step(next(batches), event, self.zeros, self.before)))
                found += [numbers(p) for p in self.layers.values()]
        return found

    def state(self) -> list[dict[str, np.ndarray]]:
        """What is kept for each parameter, step counts too; nothing for one that has never moved."""
        kept = [{k: numbers(t) for k, t in self.optimizer.state.get(p, {}).items() if t is not None}
                for p in self.layers.values()]  # fmt: skip
        return [{} if state.get("step") == 0 else state for state in kept]


def numbers(tensor: Any) -> np.ndarray:
    return np.array(tensor.detach().numpy())
