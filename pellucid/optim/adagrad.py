"""Adagrad: step sizes from the sum of squared gradients (floor 4)."""

from __future__ import annotations

from ..ops.update import adam_update, add_scaled
from ..tensor import Tensor
from . import options as check
from .optimizer import Optimizer
from .options import Options
from .param_groups import Group, ParamsT


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer 2011).

        s <- s + g^2,   p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps),   s from initial_accumulator_value on

    Raises OptionError for an option out of range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay,
                                  "initial_accumulator_value": initial_accumulator_value, "eps": eps,
                                  "maximize": maximize})  # fmt: skip

    def hyperparameters(self, options: Options) -> dict[str, float]:
        checked = {
            name: check.number("Adagrad", name, options[name], "a number of 0 or more", example=example)
            for name, example in [("lr", 0.01), ("lr_decay", 0.001), ("weight_decay", 0.0001),
                                  ("initial_accumulator_value", 0.1), ("eps", 1e-10)]
        }  # fmt: skip
        check.flag("Adagrad", "maximize", options["maximize"])
        return {"lr": checked["lr"], "lr_decay": checked["lr_decay"], "decay": checked["weight_decay"],
                "eps": checked["eps"], "one": 1.0, "first": 1 - checked["lr_decay"]}  # fmt: skip

    def init_state(self, options: Options) -> dict[str, float]:
        return {"sum": options["initial_accumulator_value"]}

    def counts_steps(self, options: Options) -> bool:
        return True

    def prepare(self, group: Group, step: Tensor) -> dict[str, Tensor]:
        s = group.scalars
        if not group["lr_decay"]:
            return s
        return {**s, "lr": s["lr"] / (s["first"] + step * s["lr_decay"])}

    def update(self, p: Tensor, g: Tensor, state: dict[str, Tensor], shared: dict[str, Tensor], group: Group) -> None:
        s = shared
        if group["weight_decay"]:
            g = add_scaled(g, s["decay"], p)
        total = state["sum"] + g * g
        state["sum"].assign(total)
        p.assign(adam_update(p, s["lr"], g, total, s["eps"]))
