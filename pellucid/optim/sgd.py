"""Stochastic gradient descent, with momentum (floor 4)."""

from __future__ import annotations

from ..errors import OptionError
from ..ops.update import add_scaled, axpby
from ..tensor import Tensor
from . import options as check
from .optimizer import Optimizer
from .options import Options
from .param_groups import Group, ParamsT


class SGD(Optimizer):
    """Stochastic gradient descent (Robbins and Monro 1951), momentum as in Sutskever et al. 2013.

        g <- g + weight_decay p,   b <- momentum b + (1 - dampening) g,   p <- p - lr b    (Nesterov: g + momentum b for b)

    The first b is g itself. Raises OptionError for an option out of range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
                                  "nesterov": nesterov, "maximize": maximize})  # fmt: skip

    def hyperparameters(self, options: Options) -> dict[str, float]:
        lr = check.number("SGD", "lr", options["lr"], "a number of 0 or more", example=0.001)
        momentum = check.number("SGD", "momentum", options["momentum"], "a number of 0 or more", example=0.9)
        dampening = check.number("SGD", "dampening", options["dampening"], "a finite number", example=0)
        decay = check.number("SGD", "weight_decay", options["weight_decay"], "a number of 0 or more", example=0.0001)
        check.flag("SGD", "maximize", options["maximize"])
        if check.flag("SGD", "nesterov", options["nesterov"]) and (momentum == 0 or dampening != 0):
            raise OptionError(f"SGD: nesterov=True with momentum={momentum:g} and dampening={dampening:g}; it needs a momentum "
                              "above 0 and no dampening; write for example momentum=0.9, nesterov=True")  # fmt: skip
        return {"minus_lr": -lr, "momentum": momentum, "dampening": dampening, "decay": decay, "one": 1.0}

    def init_state(self, options: Options) -> dict[str, float]:
        return {"momentum_buffer": 0.0} if options["momentum"] else {}

    def counts_steps(self, options: Options) -> bool:
        return bool(options["momentum"] and options["dampening"])

    def prepare(self, group: Group, step: Tensor) -> dict[str, Tensor]:
        if not self.counts_steps(group):
            return group.scalars
        one = group.scalars["one"]
        later = (step - one).clamp(max=1.0)  # 0 in the first step, 1 from then on
        return {**group.scalars, "new": one - group.scalars["dampening"] * later}

    def update(self, p: Tensor, g: Tensor, state: dict[str, Tensor], shared: dict[str, Tensor], group: Group) -> None:
        s = shared
        new = s.get("new")  # what the gradient counts in the buffer; 1 where it is missing
        if group["weight_decay"]:
            g = add_scaled(g, s["decay"], p)
        if group["momentum"]:
            previous = state["momentum_buffer"]
            momentum = s["momentum"]
            buffer = add_scaled(g, momentum, previous) if new is None else axpby(momentum, previous, new, g)
            previous.assign(buffer)
            g = add_scaled(g, momentum, buffer) if group["nesterov"] else buffer
        p.assign(add_scaled(p, s["minus_lr"], g))
