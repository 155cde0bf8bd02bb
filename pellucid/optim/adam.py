"""Adam and AdamW: step sizes from running means of the gradient and its square (floor 4)."""

from __future__ import annotations

import math

from ..errors import OptionError
from ..ops.update import adam_update, add_scaled, axpby, ema_square
from ..tensor import Tensor
from . import options as check
from .optimizer import Optimizer
from .options import Options
from .param_groups import Group, ParamsT

_BELOW_ONE = "a number from 0 up to, but not including, 1"


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015); with `amsgrad` as in Reddi et al. 2018. Weight decay is added to the gradient.

        m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
        p <- p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Raises OptionError for an option out of range.
    """

    decoupled = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                                  "amsgrad": amsgrad, "maximize": maximize})  # fmt: skip

    def hyperparameters(self, options: Options) -> dict[str, float]:
        owner = type(self).__name__
        lr = check.number(owner, "lr", options["lr"], "a number of 0 or more", example=0.001)
        betas = options["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise OptionError(
                f"{owner}: betas is {betas!r}; expected two numbers; write for example betas=(0.9, 0.999)"
            )
        beta1 = check.number(owner, "betas[0]", betas[0], _BELOW_ONE, example=0.9)
        beta2 = check.number(owner, "betas[1]", betas[1], _BELOW_ONE, example=0.999)
        eps = check.number(owner, "eps", options["eps"], "a number of 0 or more", example=1e-8)
        decay = check.number(owner, "weight_decay", options["weight_decay"], "a number of 0 or more", example=0.01)
        check.flag(owner, "amsgrad", options["amsgrad"])
        check.flag(owner, "maximize", options["maximize"])
        # Differences such as 1 - beta2 are taken here, in double precision: in float32 they would lose half their digits.
        return {"minus_lr": -lr, "beta1": beta1, "beta2": beta2, "new1": 1 - beta1, "new2": 1 - beta2,
                "log1": _log(beta1), "log2": _log(beta2), "eps": eps, "decay": decay, "keep": 1 - lr * decay}  # fmt: skip

    def init_state(self, options: Options) -> dict[str, float]:
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if options["amsgrad"] else ("exp_avg", "exp_avg_sq")
        return dict.fromkeys(names, 0.0)

    def counts_steps(self, options: Options) -> bool:
        return True

    def prepare(self, group: Group, step: Tensor) -> dict[str, Tensor]:
        """The bias corrections, folded into two numbers so that they cost no pass over the parameters:

            p <- p - size m / (sqrt(v) + eps'),   size = lr sqrt(1 - b2^t) / (1 - b1^t),   eps' = eps sqrt(1 - b2^t)

        1 - b^t = -expm1(t ln b), which keeps the digits that cancel in float32 where b^t is close to 1.
        """
        s = group.scalars
        root = (-(step * s["log2"]).expm1()).sqrt()
        size = s["minus_lr"] / (step * s["log1"]).expm1() * root
        return {**s, "size": size, "scaled_eps": s["eps"] * root}

    def update(self, p: Tensor, g: Tensor, state: dict[str, Tensor], shared: dict[str, Tensor], group: Group) -> None:
        s = shared
        if group["weight_decay"] and not self.decoupled:
            g = add_scaled(g, s["decay"], p)
        m = axpby(s["beta1"], state["exp_avg"], s["new1"], g)
        v = ema_square(s["beta2"], state["exp_avg_sq"], s["new2"], g)
        state["exp_avg"].assign(m)
        state["exp_avg_sq"].assign(v)
        if group["amsgrad"]:
            v = state["max_exp_avg_sq"].maximum(v)
            state["max_exp_avg_sq"].assign(v)
        decayed = s["keep"] * p if self.decoupled and group["weight_decay"] else p
        p.assign(adam_update(decayed, s["size"], m, v, s["scaled_eps"]))


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: p <- (1 - lr weight_decay) p first (Loshchilov and Hutter 2019)."""

    decoupled = True

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)


def _log(beta: float) -> float:
    """ln(beta); minus infinity for 0, with which there is no bias to correct."""
    return math.log(beta) if beta > 0 else -math.inf
