"""RMSprop: step sizes from a running mean of the squared gradient (floor 4)."""

from __future__ import annotations

from ..ops.update import adam_update, add_scaled, axpby, ema_square
from ..tensor import Tensor
from . import options as check
from .optimizer import Optimizer
from .options import Options
from .param_groups import Group, ParamsT


class RMSprop(Optimizer):
    """RMSprop (Hinton's Coursera lecture 6e, 2012); `centered` as in Graves 2013.

        v <- alpha v + (1 - alpha) g^2,   p <- p - lr g / (sqrt(v) + eps)

    With momentum: b <- momentum b + g / (sqrt(v) + eps), p <- p - lr b. Centred: v - a^2 stands for v, a the running mean
    of g. Raises OptionError for an option out of range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay,
                                  "momentum": momentum, "centered": centered, "maximize": maximize})  # fmt: skip

    def hyperparameters(self, options: Options) -> dict[str, float]:
        lr = check.number("RMSprop", "lr", options["lr"], "a number of 0 or more", example=0.01)
        alpha = check.number("RMSprop", "alpha", options["alpha"], "a number from 0 to 1", example=0.99)
        eps = check.number("RMSprop", "eps", options["eps"], "a number of 0 or more", example=1e-8)
        decay = check.number(
            "RMSprop", "weight_decay", options["weight_decay"], "a number of 0 or more", example=0.0001
        )
        momentum = check.number("RMSprop", "momentum", options["momentum"], "a number of 0 or more", example=0.9)
        check.flag("RMSprop", "centered", options["centered"])
        check.flag("RMSprop", "maximize", options["maximize"])
        return {
            "lr": lr,
            "minus_lr": -lr,
            "alpha": alpha,
            "new": 1 - alpha,
            "eps": eps,
            "decay": decay,
            "momentum": momentum,
        }

    def init_state(self, options: Options) -> dict[str, float]:
        names = (
            ["square_avg"] + ["momentum_buffer"] * bool(options["momentum"]) + ["grad_avg"] * bool(options["centered"])
        )
        return dict.fromkeys(names, 0.0)

    def counts_steps(self, options: Options) -> bool:
        return True  # the rule needs no count, PyTorch's saved state has one

    def update(self, p: Tensor, g: Tensor, state: dict[str, Tensor], shared: dict[str, Tensor], group: Group) -> None:
        s = shared
        if group["weight_decay"]:
            g = add_scaled(g, s["decay"], p)
        v = ema_square(s["alpha"], state["square_avg"], s["new"], g)
        state["square_avg"].assign(v)
        if group["centered"]:
            mean = axpby(s["alpha"], state["grad_avg"], s["new"], g)
            state["grad_avg"].assign(mean)
            v = (v - mean * mean).clamp(min=0.0)  # rounding makes it negative where g hardly changes
        if not group["momentum"]:
            p.assign(adam_update(p, s["lr"], g, v, s["eps"]))
            return
        buffer = add_scaled(g / (v.sqrt() + s["eps"]), s["momentum"], state["momentum_buffer"])
        state["momentum_buffer"].assign(buffer)
        p.assign(add_scaled(p, s["minus_lr"], buffer))
