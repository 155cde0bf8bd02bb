"""Muon: momentum with orthogonalized updates, for the weight matrices of hidden layers (floor 4)."""

from __future__ import annotations

import math

from ..errors import OptionError, format_shape
from ..ops.update import add_scaled, axpby
from ..tensor import Tensor
from . import options as check
from .optimizer import Optimizer
from .options import Options
from .param_groups import Group, ParamGroup, ParamsT, parameters_of


class Muon(Optimizer):
    """Muon: momentum, then the nearest semi-orthogonal matrix as the update (Jordan et al. 2024).

        b <- momentum b + (1 - momentum) g,   u = (1 - momentum) g + momentum b  (nesterov)  or  b
        p <- (1 - lr weight_decay) p - lr ratio NewtonSchulz(u)

    ratio: sqrt(max(1, rows / columns)) ("original"), or 0.2 sqrt(max(rows, columns)), which lets learning rates tuned for
    AdamW be kept ("match_rms_adamw", Liu et al. 2025). Biases, norms and embeddings go to a second optimizer, AdamW.
    The filters of a convolution (out, in, H, W) are moved as the matrix (out, in H W); PyTorch takes matrices alone.
    PyTorch iterates in bfloat16, which this library does not have; here it is the parameter's own dtype.
    Raises OptionError for an option out of range or a parameter with less than two axes.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
                                  "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps,
                                  "adjust_lr_fn": adjust_lr_fn})  # fmt: skip

    def add_param_group(self, param_group: ParamGroup) -> None:
        """As the base class; raises OptionError for a parameter that is no matrix."""
        names, params = parameters_of("Muon", param_group, known=self.state_order())
        for i, p in enumerate(params):
            if p.ndim < 2:
                what = f"parameter {i}{f' ({names[i]})' if names else ''}"
                raise OptionError(
                    f"Muon: {what} has shape {format_shape(p.shape)}; expected a matrix, the weight of a hidden layer; give the "
                    "others to a second optimizer: AdamW([p for p in model.parameters() if p.ndim < 2])"
                )
        given = list(zip(names, params, strict=True)) if names else params
        super().add_param_group({**param_group, "params": given})

    def hyperparameters(self, options: Options) -> dict[str, float]:
        lr = check.number("Muon", "lr", options["lr"], "a number of 0 or more", example=0.001)
        decay = check.number("Muon", "weight_decay", options["weight_decay"], "a number of 0 or more", example=0.1)
        momentum = check.number("Muon", "momentum", options["momentum"], "a number from 0 to 1", example=0.95)
        eps = check.number("Muon", "eps", options["eps"], "a number of 0 or more", example=1e-7)
        check.flag("Muon", "nesterov", options["nesterov"])
        check.integer("Muon", "ns_steps", options["ns_steps"], least=1, example=5)
        if options["adjust_lr_fn"] is not None:
            check.choice("Muon", "adjust_lr_fn", options["adjust_lr_fn"], ("original", "match_rms_adamw"))
        given = options["ns_coefficients"]
        if not isinstance(given, tuple | list) or len(given) != 3:
            raise OptionError(f"Muon: ns_coefficients is {given!r}; expected three numbers; write for example "
                              "ns_coefficients=(3.4445, -4.775, 2.0315)")  # fmt: skip
        a, b, c = (check.number("Muon", "ns_coefficients", x, "a finite number", example="(3.4445, -4.775, 2.0315)")
                   for x in given)  # fmt: skip
        return {"minus_lr": -lr, "momentum": momentum, "new": 1 - momentum, "keep": 1 - lr * decay, "eps": eps,
                "a": a, "b": b, "c": c}  # fmt: skip

    def init_state(self, options: Options) -> dict[str, float]:
        return {"momentum_buffer": 0.0}

    def update(self, p: Tensor, g: Tensor, state: dict[str, Tensor], shared: dict[str, Tensor], group: Group) -> None:
        s = shared
        buffer = axpby(s["momentum"], state["momentum_buffer"], s["new"], g)
        state["momentum_buffer"].assign(buffer)
        direction = axpby(s["new"], g, s["momentum"], buffer) if group["nesterov"] else buffer
        matrix = direction.flatten(1)
        size = s["minus_lr"] * _ratio(group["adjust_lr_fn"], *matrix.shape)
        p.assign(axpby(s["keep"], p, size, _orthogonal(matrix, s, group["ns_steps"]).reshape(p.shape)))


def _orthogonal(x: Tensor, s: dict[str, Tensor], steps: int) -> Tensor:
    """Newton-Schulz: drive every singular value of `x` (rows, columns) towards 1, keeping its singular vectors.

    Each round applies a x + b (x x') x + c (x x')^2 x, steep at 0, so that small singular values grow fastest; they end
    between about 0.7 and 1.2, which serves as well as 1.
    """
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.mT  # the Gram matrix is then the smaller of the two
    x = x / (x * x).sum().sqrt().maximum(s["eps"])  # the largest singular value is now at most 1
    for _ in range(steps):
        gram = x @ x.mT  # (rows, rows)
        x = add_scaled(axpby(s["b"], gram, s["c"], gram @ gram) @ x, s["a"], x)
    return x.mT if tall else x


def _ratio(rule: str | None, rows: int, columns: int) -> float:
    """The factor of the learning rate for a matrix of this shape."""
    return (
        0.2 * math.sqrt(max(rows, columns))
        if rule == "match_rms_adamw"
        else math.sqrt(max(1.0, rows / max(columns, 1)))
    )
