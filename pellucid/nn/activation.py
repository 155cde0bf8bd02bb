"""Activations as layers; their arithmetic stands in `functional/` (floor 4)."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..errors import OptionError
from ..tensor import Tensor
from .linear import Identity
from .module import Module


def _inplace(layer: Any, before: str = "") -> str:
    """PyTorch's switch, kept and shown; Tensors are values here, so it changes nothing."""
    return f"{before}inplace=True" if layer.inplace else ""


class ReLU(Module):
    """max(x, 0)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)

    def extra_repr(self) -> str:
        return _inplace(self)


class LeakyReLU(Module):
    """x above 0, negative_slope x below."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}{_inplace(self, ', ')}"


class ELU(Module):
    """x above 0, alpha (exp(x) - 1) below (Clevert et al. 2015)."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}{_inplace(self, ', ')}"


class GELU(Module):
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016)."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise OptionError(
                f'GELU: approximate={approximate!r}; expected "none" or "tanh"; leave it out for the exact form'
            )
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x sigmoid(x) (Elfwing et al. 2017)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)

    def extra_repr(self) -> str:
        return _inplace(self)


class Softplus(Module):
    """log(1 + exp(beta x)) / beta."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return F.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return F.tanh(x)


class Step(Module):
    """1 where x is positive, else 0 (Heaviside); its gradient is 0 everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        return F.step(x)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along `dim`. Not before CrossEntropyLoss, which takes logits."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """log(softmax(x)) along `dim`, in the stable form."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


ACTIVATIONS: dict[str, type[Module]] = {  # by the names they have in settings
    "relu": ReLU, "gelu": GELU, "silu": SiLU, "elu": ELU, "leaky_relu": LeakyReLU, "tanh": Tanh, "sigmoid": Sigmoid,
    "identity": Identity, "step": Step,
}  # fmt: skip

# What is told of a network, before training, that cannot learn what others can.
ACTIVATION_NOTES = {
    "identity": "activation: with identity, linear layers in a row collapse into one, however many there are; "
    "relu or tanh between them makes the difference",
    "step": "activation: the gradient of step is zero everywhere: weights that act through it alone, in an mlp all below the "
    "last layer, never learn; use relu or tanh to see the difference",
}
