"""Spectral normalisation: a weight divided by its largest singular value, which power iteration finds (floor 4).

The weight is computed anew in every forward; what is trained is `weight_orig`. Users find it in `nn.utils`.
"""

from __future__ import annotations

from .. import functional as F
from ..creation import tensor
from ..errors import OptionError, suggestion
from ..grad_mode import no_grad
from ..random import randn
from ..tensor import Parameter, Tensor, matmul
from .conv import ConvTranspose2d
from .linear import positive_int
from .module import Module


class SpectralNorm:
    """The hook before each forward, which improves u and v while training; and, called `weight`, what W / (u W v) is."""

    def __init__(self, name: str, dim: int, n_power_iterations: int, eps: float) -> None:
        self.name, self.dim, self.n_power_iterations, self.eps = name, dim, n_power_iterations, eps

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as a matrix (outputs, everything else)."""
        return weight.movedim(self.dim, 0).flatten(1)

    def improve(self, module: Module, inputs: object = None) -> None:
        """Bring u and v nearer to the singular vectors of the largest value (power iteration)."""
        if not module.training:
            return
        with no_grad():
            w = self.matrix(getattr(module, f"{self.name}_orig").detach())
            u, v = (getattr(module, f"{self.name}_{letter}") for letter in "uv")
            left, right = u.detach().clone(), v.detach().clone()
            for _ in range(self.n_power_iterations):
                right = F.normalize(matmul(w.T, left), dim=0, eps=self.eps)
                left = F.normalize(matmul(w, right), dim=0, eps=self.eps)
            u.assign(left)
            v.assign(right)

    def weight(self, module: Module) -> Tensor:
        """The normalised weight, computed from `weight_orig`; differentiable."""
        weight = getattr(module, f"{self.name}_orig")
        u, v = (getattr(module, f"{self.name}_{letter}").detach().clone() for letter in "uv")
        return weight / (u * matmul(self.matrix(weight), v)).sum()


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """Divide a layer's weight by its largest singular value from now on, and give the layer (Miyato et al. 2018,
    arXiv 1802.05957).

    That value comes from `n_power_iterations` in every forward while training. dim: the axis of the outputs, 0, or 1 for
    transposed convolutions. Saved are weight_orig, which is trained, weight_u and weight_v. Raises OptionError.
    """
    weight = module._parameters.get(name)
    if weight is None or weight.ndim < 2:
        names = [known for known, p in module._parameters.items() if p is not None and p.ndim > 1]
        raise OptionError(f"spectral_norm: {type(module).__name__} has no matrix {name!r}; expected the name of a Parameter "
                          f"with two axes or more: {', '.join(names) or 'it has none'}.{suggestion(name, names)}")  # fmt: skip
    positive_int(n_power_iterations, "spectral_norm", "n_power_iterations")
    dim = int(isinstance(module, ConvTranspose2d)) if dim is None else dim
    norm = SpectralNorm(name, dim, n_power_iterations, eps)
    rows, columns = norm.matrix(weight.detach()).shape
    delattr(module, name)
    module.register_parameter(f"{name}_orig", Parameter(weight.detach(), weight.requires_grad))
    for letter, size in (("u", rows), ("v", columns)):
        start = F.normalize(randn(size), dim=0, eps=eps).to(weight.dtype)
        module.register_buffer(f"{name}_{letter}", tensor(start))
    module.register_forward_pre_hook(norm.improve)
    module.register_parametrization(name, norm.weight)
    return module
